-- ARGV: the database's id, then user, open, version of some people. Makes every count what the database says and what
-- is reserved. Counts of another database are forgotten.
if redis.call('HGET', meta, 'database') ~= ARGV[1] then
  redis.call('DEL', counts, versions, leases, order)
  redis.call('HSET', meta, 'database', ARGV[1])
  for _, user in ipairs(redis.call('HKEYS', active)) do
    place(user)
  end
end
redis.call('HSETNX', meta, 'since', string.format('%.0f', now()))
for at = 2, #ARGV, 3 do
  local user, version = ARGV[at], tonumber(ARGV[at + 2])
  if version >= known_of(user) then
    redis.call('HSET', versions, user, ARGV[at + 2] .. ':' .. ARGV[at + 1])
    count_again(user)
  end
end
return 0
