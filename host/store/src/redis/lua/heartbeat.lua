-- ARGV: time, session, how long it lives from now on (-1: it is only looked at), what was told before, at most so many.
-- Answers whether it lives, and what it holds: the place after which to go on, then id, fence, nonce and whether it is to
-- be stopped.
local session, lease = ARGV[2], tonumber(ARGV[3])
if lease >= 0 then
  insist()
  if not lives(session) then return {0} end
  call('ZADD', key.session, later(now, lease), session)
  keep_time()
end
local most = tonumber(ARGV[5])
local members, ids = held_by(session, ARGV[4], most)
local answer = {1, #members == most and sub(members[most], 9) or ''}
for _, id in ipairs(ids) do
  local head = heads[id]
  if head then answer[#answer + 1] = pack('>c16I7c8B', id, head[FENCE], head[NONCE], head[CANCEL]) end
end
return answer
