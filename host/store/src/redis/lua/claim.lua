-- ARGV: time, origin, session, lane, at most so many, nonce, at most so many bytes (-1: no bound), whether the want has
-- been given one before. Answers whether there may be more for it, the bytes it was given, what `commit` says, and for each lease its fence,
-- attempt, crashes and id, and its stored form.
local session, lane, most, nonce = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local bound, given = tonumber(ARGV[7]), tonumber(ARGV[8]) == 1
local expiry = call('ZSCORE', key.session, session)
if not expiry or tonumber(expiry) < now or call('SISMEMBER', key.paused, lane) == 1 then return {0, 0, 0} end
local members = call('ZRANGEBYLEX', key.ready, '[' .. lane, '[' .. lane .. '\255', 'LIMIT', 0, most)
if #members == 0 then return {0, 0, 0} end
insist()

local ids = {}
for index, member in ipairs(members) do ids[index] = sub(member, -16) end
local bodies = load(ids, true)
local answer = {0, 0, 0}
local used, last, full, again = 0, 0, false, false
for index, id in ipairs(ids) do
  local head, body = heads[id], bodies[index]
  if head then
    local over = expires(head)
    if over > 0 and over <= now then
      head[RUN_OUT] = true
      last = index
      local before = #touched
      end_task(head, EXPIRED, RAN_OUT)
      -- What waited for it may be ready now, and come before the next: look again.
      if #touched > before + 1 then
        again = true
        break
      end
    else
      if bound >= 0 then
        local body_at = 55 + #lane + (has(head, KEYED) and 23 or 0)
        local size = has(head, LARGE_BODY) and unpack_('>I4', body, body_at) or #body - body_at + 1
        if given and used + size > bound then
          full = true
          break
        end
        used = used + size
      end
      given, last = true, index
      head[RUN_OUT] = true
      head[STATE], head[SESSION], head[NONCE], head[STARTED], head[COMMITTED] = RUNNING, session, nonce, now, 0
      head[FENCE], head[ATTEMPT] = head[FENCE] + 1, min(head[ATTEMPT] + 1, 4294967295)
      touch(head)
      settle_key(head)
      answer[#answer + 1] = pack('>I7I4I4', head[FENCE], head[ATTEMPT], head[CRASHES]) .. id
      answer[#answer + 1] = body
    end
  else
    last = index
  end
end
if last > 0 then call('ZREMRANGEBYLEX', key.ready, '[' .. members[1], '[' .. members[last]) end
answer[1] = not full and (again or last < #members or #members == most) and 1 or 0
answer[2] = used
answer[3] = commit(ARGV[2])
return answer
