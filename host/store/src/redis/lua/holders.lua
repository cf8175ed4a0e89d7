-- ARGV: time. The sessions that hold anything.
local sessions = {}
local member = call('ZRANGEBYLEX', key.lease, '-', '+', 'LIMIT', 0, 1)[1]
while member do
  local session = sub(member, 1, 8)
  sessions[#sessions + 1] = session
  member = call('ZRANGEBYLEX', key.lease, '(' .. session .. '\255', '+', 'LIMIT', 0, 1)[1]
end
return sessions
