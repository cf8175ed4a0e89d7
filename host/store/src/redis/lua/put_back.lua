-- ARGV: time, origin, session, then id, fence and nonce of each claim that goes back as if it had not been made; those
-- that are not the session's any more are passed over.
insist()
local ids, moved = {}, {}
for at = 4, #ARGV do ids[at - 3] = sub(ARGV[at], 1, 16) end
load(ids)
for index, id in ipairs(ids) do
  local head = heads[id]
  local _, fence, nonce = unpack_('>c16I7c8', ARGV[index + 3])
  if head and head[STATE] == RUNNING and head[SESSION] == ARGV[3] and head[FENCE] == fence and head[NONCE] == nonce then
    head[ATTEMPT] = max(head[ATTEMPT] - 1, 0)
    put_back(head, now)
    moved[#moved + 1] = told(head, RUNNING)
  end
end
return {commit(ARGV[2]), moved}
