-- ARGV: time, origin, then for each end: id, fence, nonce, how, how long it waits, and what it leaves behind. Answers two
-- bytes for each: A (applied), B (applied before) or S (stale), and where the task stands.
insist()
local ids, answers = {}, {}
for at = 3, #ARGV do ids[at - 2] = sub(ARGV[at], 1, 16) end
load(ids)
local STATES = {s = SUCCEEDED, f = FAILED, c = CANCELLED}
for index, id in ipairs(ids) do
  local _, fence, nonce, how, after, tail_at = unpack_('>c16I7c8c1I7', ARGV[index + 2])
  local head = heads[id]
  if not head or fence == 0 or head[FENCE] ~= fence or head[NONCE] ~= nonce then
    answers[index] = 'S\0'
  elseif head[STATE] ~= RUNNING then
    -- Taken away without an end: it went to somebody else, or will.
    answers[index] = head[COMMITTED] == 1 and 'B' .. char(head[STATE]) or 'S\0'
  else
    local tail = sub(ARGV[index + 2], tail_at)
    head[COMMITTED] = 1
    if STATES[how] then
      end_task(head, STATES[how], tail)
    else
      if how == 'b' then head[ATTEMPT] = max(head[ATTEMPT] - 1, 0) end
      if tail ~= '' and head[CANCEL] == 0 then set_tail(head, tail) end
      put_back(head, later(now, after))
    end
    answers[index] = 'A' .. char(head[STATE])
  end
end
return {table.concat(answers), commit(ARGV[2])}
