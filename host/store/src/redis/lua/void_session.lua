-- ARGV: time, origin, session, by how much fences rise, at most so many. Puts back what the session holds as if it had not been
-- claimed, with a fence that no claim of before has, and forgets the session when nothing is left. Answers what was moved,
-- and whether the session is gone.
insist()
local session, step, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local members, ids = held_by(session, '', most)
local moved = {}
for _, id in ipairs(ids) do
  local head = heads[id]
  if head and head[STATE] == RUNNING and head[SESSION] == session then
    head[ATTEMPT] = max(head[ATTEMPT] - 1, 0)
    put_back(head, now)
    moved[#moved + 1] = told(head, RUNNING)
    if head[STATE] < SUCCEEDED then raise(head, step) end
  end
end
local owed = commit(ARGV[2])
local gone = #members < most
if gone then call('ZREM', key.session, session) end
return {owed, moved, gone and 1 or 0}
