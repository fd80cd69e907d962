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
local reserved = {}
for _, lease in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
  local user = string.sub(lease, 34)
  reserved[user] = (reserved[user] or 0) + 1
end
for at = 2, #ARGV, 3 do
  local user, version = ARGV[at], tonumber(ARGV[at + 2])
  local known = redis.call('HGET', versions, user)
  local newer = known and tonumber(string.sub(known, 1, string.find(known, ':', 1, true) - 1)) > version
  if not newer then
    redis.call('HSET', versions, user, ARGV[at + 2] .. ':' .. ARGV[at + 1])
    set_count(user, tonumber(ARGV[at + 1]) + (reserved[user] or 0))
  end
end
return 0
