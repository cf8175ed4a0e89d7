-- ARGV: time, the lane after which to go on, at most so many. Answers where it came to ('': the end), and the lanes.
local after, most, looked = ARGV[2], tonumber(ARGV[3]), 0
local lanes = {}
while #lanes < most do
  local from = after == '' and '-' or '(' .. after .. '\255'
  local member = call('ZRANGEBYLEX', key.ready, from, '+', 'LIMIT', 0, 1)[1]
  if not member then return {'', lanes} end
  after = sub(member, 1, -25)
  if call('SISMEMBER', key.paused, after) == 0 then lanes[#lanes + 1] = after end
  looked = looked + 1
  if looked >= 500 then break end
end
return {after, lanes}
