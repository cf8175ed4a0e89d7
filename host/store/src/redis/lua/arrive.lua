-- How tasks come in: shared by enqueue and fire.

local ARRIVAL = '>c16I7I7BBI7I7I4s'

-- The bytes of a task as it was asked for; of a large one they are kept apart.
local function asked_for(id, value)
  local fields = {unpack_(FIRST, value)}
  local keyed = bit.band(fields[FLAGS], KEYED) ~= 0
  local apart = bit.band(fields[FLAGS], LARGE_BODY) ~= 0
  return apart and call('HGET', key.large, id .. 'b') or sub(value, fields[13] + (keyed and 23 or 0))
end

-- Whom a new task waits for, of those it names: how many have not ended, and the first that ended otherwise than well.
local ALONE = {}
local function parents_of(names)
  if names == '' then return ALONE end
  local open, failed, seen = {}, nil, {}
  for at = 1, #names, 16 do
    local id = sub(names, at, at + 15)
    local parent = load_one(id)
    if not parent then return nil, id end
    if parent[STATE] < SUCCEEDED then
      if not seen[id] then open[#open + 1] = id end
      seen[id] = true
    elseif parent[STATE] ~= SUCCEEDED and not failed then
      failed = {id, parent[STATE]}
    end
  end
  return open, failed
end

-- Accepts the tasks of ARGV[from] and on: what each is, the ids it waits for, and its bytes where they are kept apart.
-- Answers C (created), D id state (duplicate), X (conflict) or U id (unknown parent) for each.
local function arrive(from)
  local places, ids, answers = {}, {}, {}
  local at = from
  while at <= #ARGV do
    local blob = ARGV[at]
    places[#places + 1], ids[#ids + 1] = at, sub(blob, 1, 16)
    local large = bit.band(string.byte(blob, 32), LARGE_BODY) ~= 0
    at = at + (large and 3 or 2)
  end
  local there = #ids > 0 and fetch(key.body, ids) or {}
  for index, place in ipairs(places) do
    local blob, parents = ARGV[place], ARGV[place + 1]
    local id, run_at, delay, rank, flags, ttl, keep, budget, lane, rest_at = unpack_(ARRIVAL, blob)
    local rest = sub(blob, 31)
    local body_at = rest_at - 30
    local ukey, window = '', 0
    if bit.band(flags, KEYED) ~= 0 then
      ukey, window = unpack_('>c16I7', rest, body_at)
      body_at = body_at + 23
    end
    local large = bit.band(flags, LARGE_BODY) ~= 0 and ARGV[place + 2]
    local known = heads[id] or there[index] and load_one(id)
    local holds = not known and ukey ~= '' and holder(ukey)
    local open, failed
    if not known and not holds then open, failed = parents_of(parents) end
    if known then
      local bytes = large or sub(rest, body_at)
      local kept = known[LARGE] or known[NEW] and sub(known[NEW], known[BODY_AT]) or asked_for(id, there[index])
      answers[index] = kept == bytes and 'D' .. id .. char(known[STATE]) or 'X'
    elseif holds then
      answers[index] = 'D' .. holds[ID] .. char(holds[STATE])
    elseif not open then
      answers[index] = 'U' .. failed
    else
      local fails = failed and bit.band(flags, RUNS_ANYWAY) == 0
      local starts = max(run_at, later(now, delay))
      local state = (fails or #open > 0) and BLOCKED or starts > now and SCHEDULED or READY
      last_seq = last_seq + 1
      local head = {
        state, #open, last_seq, now, starts, ttl > 0 and later(now, ttl - 1) or 0, rank, flags, ttl, keep, budget, lane,
        0, 0, 0, NOBODY, NOBODY, 0, 0, 0, 0,
        id, ukey, window, '', rest, true, false, false, 0, 0, NOBODY, 0, 0, body_at, large,
      }
      heads[id] = head
      touched[#touched + 1] = head
      if large then call('HSET', key.large, id .. 'b', large) end
      if ukey ~= '' then take_key(head) end
      if #open > 0 then
        local waits = {}
        for _, parent in ipairs(open) do
          waits[#waits + 1], waits[#waits + 2] = '0', parent .. first(head)
        end
        many('ZADD', key.edge, waits)
        edges = true
      end
      if fails then end_task(head, CANCELLED, parent_failed(failed[1], failed[2])) end
      answers[index] = 'C'
    end
  end
  return table.concat(answers)
end
