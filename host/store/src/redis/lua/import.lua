-- ARGV: time, origin, then of each task from another store: what `arrive` takes (with its bytes where they are kept apart),
-- and what has happened to it: state, whether it holds its key, whether it was called off, instants, counts, how it ended
-- or why its latest attempt gave no result. Answers C (created), T (there) or K id (its key is taken) for each.
local HISTORY = '>BBBI7I7I7I4I4I7I7I7'

-- What of those it names is there and has not ended, each once.
local function open_parents(names)
  local open, seen = {}, {}
  for at = 1, #names, 16 do
    local id = sub(names, at, at + 15)
    local parent = load_one(id)
    if parent and parent[STATE] < SUCCEEDED and not seen[id] then open[#open + 1] = id end
    seen[id] = true
  end
  return open
end

local places, ids, answers, moved = {}, {}, {}, {}
local at = 3
while at <= #ARGV do
  local blob = ARGV[at]
  local large = bit.band(string.byte(blob, 32), LARGE_BODY) ~= 0
  places[#places + 1], ids[#ids + 1] = {at, large and at + 2, large and at + 3 or at + 2}, sub(blob, 1, 16)
  at = at + (large and 4 or 3)
end
local there = #ids > 0 and fetch(key.body, ids) or {}
for index, place in ipairs(places) do
  local blob, parents, large, history = ARGV[place[1]], ARGV[place[1] + 1], place[2] and ARGV[place[2]], ARGV[place[3]]
  local id, _, _, rank, flags, ttl, keep, budget, lane, rest_at = unpack_(ARRIVAL, blob)
  local rest, body_at = sub(blob, 31), rest_at - 30
  local state, holds, cancel, created, due, expiry, attempt, crashes, fence, started, finished, tail_at =
    unpack_(HISTORY, history)
  local ukey, window = '', 0
  if bit.band(flags, KEYED) ~= 0 then
    ukey, window = unpack_('>c16I7', rest, body_at)
    body_at = body_at + 23
  end
  local taken = holds == 1 and ukey ~= '' and holder(ukey)
  if heads[id] or there[index] then
    answers[index] = 'T'
  elseif taken then
    answers[index] = 'K' .. taken[ID]
  else
    local open = state == BLOCKED and open_parents(parents) or {}
    if state == BLOCKED and #open == 0 then state = due > now and SCHEDULED or READY end
    last_seq = last_seq + 1
    local head = {
      state, #open, last_seq, created, due, expiry, rank, flags, ttl, keep, budget, lane,
      attempt, crashes, fence, NOBODY, NOBODY, started, finished, cancel, 0,
      id, ukey, window, '', rest, true, false, false, 0, 0, NOBODY, 0, 0, body_at, large,
    }
    heads[id] = head
    touched[#touched + 1] = head
    if large then call('HSET', key.large, id .. 'b', large) end
    local tail = sub(history, tail_at)
    set_tail(head, tail)
    if holds == 1 and ukey ~= '' and (window > 0 or state < SUCCEEDED) then take_key(head) end
    if #open > 0 then
      local waits = {}
      for _, parent in ipairs(open) do
        waits[#waits + 1], waits[#waits + 2] = '0', parent .. first(head)
      end
      many('ZADD', key.edge, waits)
      edges = true
    end
    -- One that waits has no head of its own yet, unless something has happened to it.
    if state <= READY and (fence > 0 or tail ~= '') then
      moved[#moved + 1], moved[#moved + 2] = id, stored(head)
    end
    answers[index] = 'C'
  end
end
many('HSET', key.head, moved)
return {answers, commit(ARGV[2])}
