-- ARGV: user, open assignments in the database, the version of that count, token or nothing. The database is right:
-- the count is what it says, and what others have reserved.
local user, version, token = ARGV[1], tonumber(ARGV[3]), ARGV[4]
local used = 0
if token ~= '' then
  used = redis.call('ZREM', leases, token .. ':' .. user)
end
local known_version, known_open = -1, 0
local known = redis.call('HGET', versions, user)
if known then
  local colon = string.find(known, ':', 1, true)
  known_version = tonumber(string.sub(known, 1, colon - 1))
  known_open = tonumber(string.sub(known, colon + 1))
end
local reserved = math.max(count_of(user) - known_open - used, 0)
if version >= known_version then
  known_open = tonumber(ARGV[2])
  redis.call('HSET', versions, user, ARGV[3] .. ':' .. ARGV[2])
end
set_count(user, known_open + reserved)
return 0
