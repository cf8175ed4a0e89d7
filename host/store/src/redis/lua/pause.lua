-- ARGV: time, origin, lane, whether it is to be held back.
insist()
local lane = ARGV[3]
if ARGV[4] == '1' then
  call('SADD', key.paused, lane)
else
  call('SREM', key.paused, lane)
  work = true
end
return commit(ARGV[2])
