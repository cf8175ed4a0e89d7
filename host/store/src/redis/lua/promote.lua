-- ARGV: time, origin, at most so many. Answers how many became ready, and how long until the next is due (-1: none).
insist()
local most, promoted = tonumber(ARGV[3]), 0
local members = call('ZRANGEBYLEX', key.due, '-', '[' .. bytes7(now) .. '\255', 'LIMIT', 0, most)
local ids = {}
for index, member in ipairs(members) do ids[index] = sub(member, 15) end
load(ids)
for _, id in ipairs(ids) do
  local head = heads[id]
  if head and head[STATE] == SCHEDULED then
    wait_until(head, now)
    promoted = promoted + 1
  end
end
local owed = commit(ARGV[2])
local next_one = call('ZRANGEBYLEX', key.due, '-', '+', 'LIMIT', 0, 1)[1]
local next_in = next_one and max(unpack_('>I7', next_one) - now, 0) or -1
return {owed, promoted, next_in}
