-- ARGV: time, origin, at most so many. Takes the oldest tasks away from dead sessions, also from those nobody knows of.
insist()
local most = tonumber(ARGV[3])
local members = {}
local holder_of = call('ZRANGEBYLEX', key.lease, '-', '+', 'LIMIT', 0, 1)[1]
while holder_of do
  local session = sub(holder_of, 1, 8)
  if not lives(session) then
    local held = call('ZRANGEBYLEX', key.lease, '[' .. session, '[' .. session .. '\255', 'LIMIT', 0, most)
    for _, member in ipairs(held) do
      members[#members + 1] = {unpack_('>I7', member, 9), sub(member, 16)}
    end
  end
  holder_of = call('ZRANGEBYLEX', key.lease, '(' .. session .. '\255', '+', 'LIMIT', 0, 1)[1]
end
table.sort(members, function(a, b) return a[1] < b[1] end)
local ids, moved = {}, {}
for index = 1, min(most, #members) do ids[index] = members[index][2] end
load(ids)
for _, id in ipairs(ids) do
  local head = heads[id]
  if head and head[STATE] == RUNNING then
    head[CRASHES] = min(head[CRASHES] + 1, 4294967295)
    head[ATTEMPT] = max(head[ATTEMPT] - 1, 0)
    if head[CRASHES] > head[BUDGET] and head[CANCEL] == 0 then
      end_task(head, FAILED, crashed(head[CRASHES]))
    else
      put_back(head, now)
    end
    moved[#moved + 1] = told(head, RUNNING)
  end
end
local owed = commit(ARGV[2])
-- Sessions whose lease is over and that hold nothing are forgotten.
for _, session in ipairs(call('ZRANGEBYSCORE', key.session, '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, 100)) do
  if #held_by(session, '', 1) == 0 then call('ZREM', key.session, session) end
end
return {owed, moved}
