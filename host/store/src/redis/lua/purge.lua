-- ARGV: time, at most so many. Forgets ended tasks whose time is over; answers how many.
insist()
local members = call('ZRANGEBYLEX', key.kept, '-', '[' .. bytes7(now) .. '\255', 'LIMIT', 0, tonumber(ARGV[2]))
local ids, list = {}, {}
for index, member in ipairs(members) do ids[index] = sub(member, 15) end
load(ids)
for index, id in ipairs(ids) do
  if heads[id] then
    list[#list + 1] = heads[id]
  else
    call('ZREM', key.kept, members[index])
  end
end
forget(list)
return #members
