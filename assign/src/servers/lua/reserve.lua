-- ARGV: token, milliseconds until it is given back. Gives the user, or nothing when nobody has room.
local at = now()
drop_leases(at)
while true do
  local user = redis.call('ZRANGE', order, 0, 0)[1]
  if not user then
    return false
  end
  local till = redis.call('HGET', active, user)
  if not till or tonumber(till) <= at then
    redis.call('ZREM', order, user)
  else
    if count_of(user) >= limit then
      return false
    end
    redis.call('HSET', turns, user, redis.call('HINCRBY', meta, 'turn', 1))
    redis.call('ZADD', leases, string.format('%.0f', at + tonumber(ARGV[2])), ARGV[1] .. ':' .. user)
    count_again(user)
    return user
  end
end
