-- ARGV: user, milliseconds of a session, most people. Gives: 1 when it is new, 0 when it goes on, -1 when there are too
-- many; when it ends; whether the counts are known.
local user, at = ARGV[1], now()
local known = redis.call('HEXISTS', active, user)
if known == 0 and redis.call('HLEN', active) >= tonumber(ARGV[3]) then
  return { -1, redis.call('HLEN', active), 1 }
end
local till = string.format('%.0f', at + tonumber(ARGV[2]))
redis.call('HSET', active, user, till)
redis.call('ZADD', sessions, till, user)
redis.call('ZREM', ended, user)
if known == 0 then
  place(user)
end
return { 1 - known, tonumber(till), redis.call('HEXISTS', meta, 'since') }
