-- ARGV: time, origin, then ids, the newest first. Answers what became of each: the move, R (it was asked to stop), S and
-- its state (it is in no state for it), or nothing (it is not there).
insist()
local ids, answers = {}, {}
for at = 3, #ARGV do ids[at - 2] = ARGV[at] end
load(ids)
for index, id in ipairs(ids) do
  local head = heads[id]
  if not head then
    answers[index] = ''
  elseif head[STATE] == RUNNING then
    head[CANCEL], work = 1, true
    touch(head)
    answers[index] = 'R'
  elseif head[STATE] <= READY then
    local from = head[STATE]
    end_task(head, CANCELLED, CALLED_OFF)
    answers[index] = 'M' .. told(head, from)
  else
    answers[index] = 'S' .. char(head[STATE])
  end
end
return {commit(ARGV[2]), answers}
