-- ARGV: user, open assignments in the database, the version of that count, token or nothing. The database is right:
-- the count is what it says, and what others have reserved.
local user, version, token = ARGV[1], tonumber(ARGV[3]), ARGV[4]
if token ~= '' then
  redis.call('ZREM', leases, token .. ':' .. user)
end
if version >= known_of(user) then
  redis.call('HSET', versions, user, ARGV[3] .. ':' .. ARGV[2])
end
count_again(user)
return 0
