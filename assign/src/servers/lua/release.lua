-- ARGV: user, token. What was reserved is not used.
if redis.call('ZREM', leases, ARGV[2] .. ':' .. ARGV[1]) == 1 then
  count_again(ARGV[1])
end
return 0
