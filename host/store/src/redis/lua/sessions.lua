-- Sessions, shared by the scripts about them. A session is a member of `session`, its score the end of its lease.

local function lives(session)
  local till = call('ZSCORE', key.session, session)
  return till and now <= tonumber(till), till
end

-- What a session holds, in the order of arrival, at most `most` after `after`.
local function held_by(session, after, most)
  local from = after == '' and '[' .. session or '(' .. session .. after
  local members = call('ZRANGEBYLEX', key.lease, from, '[' .. session .. '\255', 'LIMIT', 0, most)
  local ids = {}
  for index, member in ipairs(members) do ids[index] = sub(member, 16) end
  load(ids)
  return members, ids
end
