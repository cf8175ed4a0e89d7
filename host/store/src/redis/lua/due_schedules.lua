-- ARGV: time, at most so many. The schedules whose instant has come, the longest due first.
local members = call('ZRANGEBYLEX', key.firing, '-', '[' .. bytes7(now) .. '\255', 'LIMIT', 0, tonumber(ARGV[2]))
local values = {}
for index, member in ipairs(members) do values[index] = call('HGET', key.schedule, sub(member, 8)) end
return values
