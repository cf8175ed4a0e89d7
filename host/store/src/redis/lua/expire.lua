-- ARGV: time, origin, at most so many. Answers whether there may be more, and what was moved.
insist()
local most, moved = tonumber(ARGV[3]), {}
local members = call('ZRANGEBYLEX', key.expiry, '-', '[' .. bytes7(now) .. '\255', 'LIMIT', 0, most)
local ids = {}
for index, member in ipairs(members) do ids[index] = sub(member, 15) end
load(ids)
for _, id in ipairs(ids) do
  local head = heads[id]
  -- Its parent's end may have ended it, or let it go.
  local over = head and expires(head) or 0
  if over > 0 and over <= now then
    local from = head[STATE]
    end_task(head, EXPIRED, RAN_OUT)
    moved[#moved + 1] = told(head, from)
  end
end
return {commit(ARGV[2]), moved, #members == most and 1 or 0}
