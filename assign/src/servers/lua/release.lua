-- ARGV: user, token. What was reserved is not used.
if redis.call('ZREM', leases, ARGV[2] .. ':' .. ARGV[1]) == 1 then
  set_count(ARGV[1], count_of(ARGV[1]) - 1)
end
return 0
