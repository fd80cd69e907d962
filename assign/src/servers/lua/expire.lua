-- ARGV: milliseconds after which an end needs not be remembered. Gives how many sessions have ended, and how many there
-- are.
local at = now()
drop_leases(at)
local late = redis.call('ZRANGEBYSCORE', sessions, '-inf', string.format('%.0f', at), 'LIMIT', 0, 1000)
for _, user in ipairs(late) do
  end_session(user, at)
end
redis.call('ZREMRANGEBYSCORE', ended, '-inf', string.format('%.0f', at - tonumber(ARGV[1])))
return { #late, redis.call('HLEN', active), redis.call('HEXISTS', meta, 'since') }
