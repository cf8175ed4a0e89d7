-- Walks tasks in the order of arrival, or the reverse, and looks at no more than a few.
-- ARGV: time, states as bytes, the place before or after which to go on ('': the beginning), whether the newest come
-- first, at most so many to look at, how a fitting lane begins, how it ends, arrived from and before (as instants), whether
-- the stored forms are wanted. Answers the place it came to ('': the end), and of each that fits: id, state and whether its
-- key is free or its own, whether somebody wants it stopped, head, stored form.
local states, at, reverse, most = ARGV[2], ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
local begins, finishes, from, till, bodies_too = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'

local places = {}
for index = 1, #states do
  local where = by_state(string.byte(states, index))
  local members
  if reverse then
    members = call('ZREVRANGEBYLEX', where, at == '' and '+' or '(' .. at, '-', 'LIMIT', 0, most)
  else
    members = call('ZRANGEBYLEX', where, at == '' and '-' or '[' .. bytes7(unpack_('>I7', at) + 1), '+', 'LIMIT', 0, most)
  end
  for _, member in ipairs(members) do places[#places + 1] = {unpack_('>I7', member), member} end
end
table.sort(places, function(a, b)
  if reverse then return a[1] > b[1] end
  return a[1] < b[1]
end)
local ids = {}
for index = 1, min(most, #places) do ids[index] = sub(places[index][2], 8) end
local bodies = load(ids, bodies_too) or {}
local answer = {#places >= most and sub(places[most][2], 1, 7) or ''}
for index, id in ipairs(ids) do
  local head = heads[id]
  local lane = head and head[LANE]
  if head and sub(lane, 1, #begins) == begins and (finishes == '' or sub(lane, -#finishes) == finishes)
    and head[CREATED] >= from and head[CREATED] < till then
    local holds = head[STATE] > SUCCEEDED and has(head, KEYED) and holder(head[UKEY])
    local free = not holds or holds[ID] == id
    answer[#answer + 1] = id .. char(head[STATE], free and 1 or 0, head[CANCEL])
    if bodies_too then
      answer[#answer + 1], answer[#answer + 2] = stored(head), bodies[index] or ''
    end
  end
end
return answer
