-- ARGV: time, origin, whether it is only looked whether it can be done, then ids, the oldest first. Answers what became of
-- each, as `cancel` does; R when it is looked at and can be done.
insist()
local ids, answers = {}, {}
for at = 4, #ARGV do ids[at - 3] = ARGV[at] end
load(ids)
for index, id in ipairs(ids) do
  local head = heads[id]
  local from = head and head[STATE]
  local holds = head and has(head, KEYED) and holder(head[UKEY])
  if not head then
    answers[index] = ''
  elseif from <= SUCCEEDED or holds and holds[ID] ~= id then
    answers[index] = 'S' .. char(from)
  elseif ARGV[3] == '1' then
    answers[index] = 'R'
  else
    head[STATE], head[ATTEMPT], head[CRASHES], head[WAITS], head[CANCEL] = READY, 0, 0, 0, 0
    head[EXPIRES] = head[TTL] > 0 and later(now, head[TTL] - 1) or 0
    head[FINISHED] = 0
    touch(head)
    if has(head, KEYED) then take_key(head) end
    answers[index] = 'M' .. told(head, from)
  end
end
return {commit(ARGV[2]), answers}
