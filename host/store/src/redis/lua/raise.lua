-- Raises the fences of tasks that wait and were claimed before, in the order of arrival, and looks at no more than a few.
-- ARGV: time, by how much, the place after which to go on ('': the beginning), at most so many to look at. Answers the place
-- it came to ('': the end).
insist()
local step, at, most = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local from = at == '' and '-' or '[' .. bytes7(unpack_('>I7', at) + 1)
local places = {}
for state = BLOCKED, READY do
  for _, member in ipairs(call('ZRANGEBYLEX', by_state(state), from, '+', 'LIMIT', 0, most)) do
    places[#places + 1] = {unpack_('>I7', member), member}
  end
end
table.sort(places, function(a, b) return a[1] < b[1] end)
local ids, raised = {}, {}
for index = 1, min(most, #places) do ids[index] = sub(places[index][2], 8) end
-- One that has no head of its own yet has never been claimed.
local found = #ids > 0 and fetch(key.head, ids) or {}
for index, id in ipairs(ids) do
  local head = found[index] and of_head(id, found[index])
  if head and head[FENCE] > 0 then
    raise(head, step)
    raised[#raised + 1], raised[#raised + 2] = id, stored(head)
  end
end
many('HSET', key.head, raised)
return #places >= most and sub(places[most][2], 1, 7) or ''
