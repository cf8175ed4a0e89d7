-- ARGV: time, origin, then ids. Answers what became of each, as `cancel` does.
insist()
local ids, answers, list = {}, {}, {}
for at = 3, #ARGV do ids[at - 2] = ARGV[at] end
load(ids)
for index, id in ipairs(ids) do
  local head = heads[id]
  if not head then
    answers[index] = ''
  elseif head[STATE] < SUCCEEDED then
    answers[index] = 'S' .. char(head[STATE])
  else
    answers[index] = 'M' .. told(head, head[STATE])
    list[#list + 1] = head
  end
end
forget(list)
return {0, answers}
