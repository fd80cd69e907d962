-- What every script begins with. KEYS are always these, in this order; the last of ARGV is always the limit.
local active, counts, versions, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local order, turns, sessions, ended, meta = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local limit = tonumber(table.remove(ARGV))

-- Milliseconds since 1970, by the clock of this server.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function count_of(user)
  return tonumber(redis.call('HGET', counts, user) or '0')
end

-- Puts a person where the count and the last turn say, or nowhere without a session.
-- A count is at most 4096 and a turn below 2^40, so the score is exact in a double.
local function place(user)
  if redis.call('HEXISTS', active, user) == 1 then
    local turn = tonumber(redis.call('HGET', turns, user) or '0')
    redis.call('ZADD', order, string.format('%.0f', count_of(user) * 1099511627776 + turn), user)
  else
    redis.call('ZREM', order, user)
  end
end

local function set_count(user, count)
  if count > 0 then
    redis.call('HSET', counts, user, string.format('%.0f', count))
  else
    redis.call('HDEL', counts, user)
  end
  place(user)
end

-- What was last heard of the database: the version and the count that it has, or -1 and 0.
local function known_of(user)
  local known = redis.call('HGET', versions, user)
  if not known then
    return -1, 0
  end
  local colon = string.find(known, ':', 1, true)
  return tonumber(string.sub(known, 1, colon - 1)), tonumber(string.sub(known, colon + 1))
end

-- Who reserved is in a lease behind the token of 32 characters and a colon.
local function user_of(lease)
  return string.sub(lease, 34)
end

-- Counts what the database has and what is reserved. What became an assignment may be in both until whoever reserved it
-- says so, so the sum may exceed the limit, and nobody's count does.
local function count_again(user)
  local _, open = known_of(user)
  local reserved = 0
  for _, lease in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    if user_of(lease) == user then
      reserved = reserved + 1
    end
  end
  set_count(user, math.max(open, math.min(open + reserved, limit)))
end

-- Gives back what was reserved and never used: whoever reserved it is gone.
local function drop_leases(at)
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.0f', at), 'LIMIT', 0, 100)) do
    redis.call('ZREM', leases, lease)
    count_again(user_of(lease))
  end
end

local function end_session(user, at)
  local there = redis.call('HDEL', active, user)
  redis.call('ZREM', sessions, user)
  redis.call('ZREM', order, user)
  redis.call('HDEL', turns, user)
  redis.call('ZADD', ended, string.format('%.0f', at), user)
  return there
end
