-- ARGV: time, session. What it holds and is to be stopped: id, fence, nonce.
local members = call('ZRANGEBYLEX', key.cancel, '[' .. ARGV[2], '[' .. ARGV[2] .. '\255')
local ids, answer = {}, {}
for index, member in ipairs(members) do ids[index] = sub(member, 16) end
load(ids)
for _, id in ipairs(ids) do
  local head = heads[id]
  if head then answer[#answer + 1] = pack('>c16I7c8', id, head[FENCE], head[NONCE]) end
end
return answer
