-- KEYS: the index of results, then the results of each task named in ARGV. ARGV: members of the index whose time is over.
local call = redis.call
local gone = 0
for index = 2, #KEYS do
  local member = ARGV[index - 1]
  local token = string.sub(member, 24)
  if call('ZREM', KEYS[1], member) == 1 then
    gone = gone + 1
    if call('HGET', KEYS[index], 't' .. token) == string.sub(member, 1, 7) then
      call('HDEL', KEYS[index], 'v' .. token, 't' .. token)
    end
  end
end
return gone
