-- ARGV: time, then names. Answers 1 for each that was there.
insist()
local removed = {}
for at = 2, #ARGV do
  forget_firing(ARGV[at])
  removed[#removed + 1] = call('HDEL', key.schedule, ARGV[at])
end
return removed
