-- ARGV: milliseconds of a session, then people. Gives those without a session whose assignments may go to others. Of
-- somebody whose end was not seen it is only certain when these data are as old as a session: before, this server
-- may have lost that somebody is there.
local at = now()
local since = tonumber(redis.call('HGET', meta, 'since') or string.format('%.0f', at))
local sure = at - since >= tonumber(ARGV[1])
local found = {}
for number = 2, #ARGV do
  local user = ARGV[number]
  local till = redis.call('HGET', active, user)
  if not till or tonumber(till) <= at then
    if sure or till or redis.call('ZSCORE', ended, user) then
      found[#found + 1] = user
    end
  end
end
return found
