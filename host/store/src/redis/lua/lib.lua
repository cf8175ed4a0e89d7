-- What all scripts of the task store share: how a task is stored, and what follows from a move of it.
--
-- KEYS is the same list for every script, so that all of them are declared. ARGV[1] is the time in milliseconds, or ''
-- for the server's own. Ids, tokens and instants in members are big-endian bytes, so that the order of bytes is theirs.
-- Strings are never compared with `<`: that follows the server's locale.
--
-- A task is one field of `body` (its head when it arrived, and what was asked for, which never change), and from its
-- first move on one field of `head`. A script loads the tasks it needs, changes them, and writes everything at its end
-- with a few commands, however many tasks there are.

local call, pack, unpack_ = redis.call, struct.pack, struct.unpack
local sub, char, min, max, floor = string.sub, string.char, math.min, math.max, math.floor

local key = {
  meta = KEYS[1], body = KEYS[2], head = KEYS[3], large = KEYS[4], ready = KEYS[5], due = KEYS[6], expiry = KEYS[7],
  ended = KEYS[8], kept = KEYS[9], lease = KEYS[10], cancel = KEYS[11], session = KEYS[12], edge = KEYS[13],
  unique = KEYS[14], tally = KEYS[15], paused = KEYS[16], owed = KEYS[17], schedule = KEYS[18], firing = KEYS[19],
}
local function by_state(state) return KEYS[20 + state] end

local BLOCKED, SCHEDULED, READY, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED = 0, 1, 2, 3, 4, 5, 6, 7

-- A head's fields, in the order of their bytes: first those a task has from the beginning …
local STATE, WAITS, SEQ, CREATED, DUE, EXPIRES, RANK, FLAGS, TTL, KEEP, BUDGET, LANE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
local FIRST = '>BI4I7I7I7I7BBI7I7I4s'
-- … then those that come with its first claim …
local ATTEMPT, CRASHES, FENCE, NONCE, SESSION, STARTED, FINISHED, CANCEL, COMMITTED = 13, 14, 15, 16, 17, 18, 19, 20, 21
local WHOLE = FIRST .. 'I4I4I7c8c8I7I7BB'
-- … and then what is only known while it is loaded: its id, key and window, its last result or error, its stored form
-- when it has not been moved yet, and what the indices say about it.
local ID, UKEY, WINDOW, TAIL, NEW, DIRTY, RUN_OUT = 22, 23, 24, 25, 26, 27, 28
local WAS_STATE, WAS_DUE, WAS_EXPIRES, WAS_SESSION, WAS_FINISHED, WAS_CANCEL = 29, 30, 31, 32, 33, 34
local BODY_AT, LARGE = 35, 36 -- of one that came in this script: where its bytes begin in NEW, or they themselves

local KEYED, RUNS_ANYWAY, FREED_BY_START, FREED_BY_END, LARGE_BODY, LARGE_TAIL = 1, 2, 4, 8, 16, 32
local NOBODY = '\0\0\0\0\0\0\0\0'
local NEVER = 9007199254740991 -- 2^53 - 1: the end of time
local TAIL_LIMIT = 65536       -- longer ones are kept apart, so that reading heads stays cheap

local meta = call('HMGET', key.meta, 'now', 'seq', 'work', 'ends', 'behind')
local now, behind = tell_time(ARGV[1], meta[1], meta[5])
local last_seq = tonumber(meta[2]) or 0

-- Notes the time in a script that writes.
local function keep_time()
  call('HSET', key.meta, 'now', now)
  if behind then call('HSET', key.meta, 'behind', behind) end
end

local function later(time, span) return min(time + span, NEVER) end
local function bytes7(number) return pack('>I7', number) end
local function has(head, flag) return bit.band(head[FLAGS], flag) ~= 0 end

local function first(head) -- the order of arrival, and the id
  return bytes7(head[SEQ]) .. head[ID]
end

-- When it expires from here: only before it has started.
local function expires(head)
  return head[STATE] <= READY and head[ATTEMPT] == 0 and head[EXPIRES] or 0
end

-- Runs a command that takes any number of arguments, in pieces that fit on the stack.
local function many(command, where, list)
  for from = 1, #list, 4000 do
    call(command, where, unpack(list, from, min(from + 3999, #list)))
  end
end

local function fetch(where, ids)
  local values = {}
  for from = 1, #ids, 1000 do
    local part = call('HMGET', where, unpack(ids, from, min(from + 999, #ids)))
    for index = 1, #part do values[from + index - 1] = part[index] end
  end
  return values
end

local heads = {}   -- by id; false: there is no such task
local touched = {} -- those that are to be written

local function read_key(head, value, at)
  if has(head, KEYED) then
    head[UKEY], head[WINDOW] = unpack_('>c16I7', value, at)
    return at + 23
  end
  return at
end

-- A table whose fields are all there from the beginning does not grow, which is what most of the time would go into.
local function of_head(id, value)
  local state, waits, seq, created, due, till, rank, flags, ttl, keep, budget, lane,
    attempt, crashes, fence, nonce, session, started, finished, cancel, committed, at = unpack_(WHOLE, value)
  local head = {
    state, waits, seq, created, due, till, rank, flags, ttl, keep, budget, lane,
    attempt, crashes, fence, nonce, session, started, finished, cancel, committed,
    id, '', 0, '', false, false, false, state, due, 0, session, finished, cancel,
  }
  head[TAIL] = sub(value, read_key(head, value, at))
  head[WAS_EXPIRES] = expires(head)
  heads[id] = head
  return head
end

local function of_body(id, value)
  local state, waits, seq, created, due, till, rank, flags, ttl, keep, budget, lane, at = unpack_(FIRST, value)
  local head = {
    state, waits, seq, created, due, till, rank, flags, ttl, keep, budget, lane,
    0, 0, 0, NOBODY, NOBODY, 0, 0, 0, 0,
    id, '', 0, '', false, false, false, state, due, 0, NOBODY, 0, 0,
  }
  read_key(head, value, at)
  head[WAS_EXPIRES] = expires(head)
  heads[id] = head
  return head
end

-- Loads tasks; those that do not exist are `false` in `heads`. With `bodies`: returns their stored forms.
local function load(ids, bodies)
  local wanted, values = {}, nil
  for _, id in ipairs(ids) do
    if heads[id] == nil then
      heads[id] = false
      wanted[#wanted + 1] = id
    end
  end
  if #wanted > 0 then
    local found, unmoved = fetch(key.head, wanted), {}
    for index, id in ipairs(wanted) do
      if found[index] then of_head(id, found[index]) else unmoved[#unmoved + 1] = id end
    end
    if #unmoved > 0 and not bodies then
      local arrived = fetch(key.body, unmoved)
      for index, id in ipairs(unmoved) do
        if arrived[index] then of_body(id, arrived[index]) end
      end
    end
  end
  if bodies then
    values = #ids > 0 and fetch(key.body, ids) or {}
    for index, id in ipairs(ids) do
      if values[index] and not heads[id] then of_body(id, values[index]) end
    end
  end
  return values
end

local function load_one(id)
  if heads[id] == nil then load({id}) end
  return heads[id]
end

local function touch(head)
  if not head[DIRTY] then
    head[DIRTY] = true
    touched[#touched + 1] = head
  end
end

local function keyed_bytes(head)
  return has(head, KEYED) and head[UKEY] .. bytes7(head[WINDOW]) or ''
end

local function stored(head)
  return pack(WHOLE, unpack(head, 1, COMMITTED)) .. keyed_bytes(head) .. head[TAIL]
end

-- Unique keys

-- Who holds a key, as a head; nil when it is free.
local function holder(ukey)
  local value = call('HGET', key.unique, ukey)
  if not value then return nil end
  local till = unpack_('>I7', value, 17)
  if till > 0 and till <= now then return nil end
  return load_one(sub(value, 1, 16)) or nil
end

-- Takes a task's key, which is free. A window that is over by now takes nothing.
local function take_key(head)
  local window = head[WINDOW] > 0 -- kept one higher, so that a window of nothing is one
  local till = window and later(head[CREATED], head[WINDOW] - 1) or 0
  if not window or now < till then
    call('HSET', key.unique, head[UKEY], head[ID] .. bytes7(till))
  end
end

-- Frees a task's key, if the task holds it.
local function free_key(head)
  local value = call('HGET', key.unique, head[UKEY])
  if value and sub(value, 1, 16) == head[ID] then call('HDEL', key.unique, head[UKEY]) end
end

local function settle_key(head)
  if has(head, KEYED) then
    local over = head[STATE] >= SUCCEEDED
    if over and has(head, FREED_BY_END) or head[STATE] == RUNNING and has(head, FREED_BY_START) then free_key(head) end
  end
end

-- Moves

-- What a task is left with instead of a result: a letter, and what is to be said. `r`: a result. `e`: an error.
local CALLED_OFF, RAN_OUT = 'c', 'x'
local function parent_failed(parent, state) return 'p' .. parent .. char(state) end
local function crashed(crashes) return 'w' .. pack('>I4', crashes) end

local function set_tail(head, tail)
  if has(head, LARGE_TAIL) then
    call('HDEL', key.large, head[ID] .. 'r')
    head[FLAGS] = head[FLAGS] - LARGE_TAIL
  end
  if #tail > TAIL_LIMIT then
    call('HSET', key.large, head[ID] .. 'r', tail)
    head[FLAGS] = head[FLAGS] + LARGE_TAIL
    tail = sub(tail, 1, 1)
  end
  head[TAIL] = tail
end

local function wait_until(head, at)
  touch(head)
  head[SESSION] = NOBODY
  if at <= now then
    head[STATE] = READY
  else
    head[STATE], head[DUE] = SCHEDULED, at
  end
end

local function conclude(head, state, tail)
  touch(head)
  head[STATE], head[FINISHED], head[SESSION] = state, now, NOBODY
  set_tail(head, tail)
  settle_key(head)
end

-- Children of one parent that a single script deals with; the rest is owed, and whoever comes next pays.
local credit = 500
local edges -- whether anybody waits for anybody; nil: not known yet

-- Lets go what waited for ended tasks, or cancels it; `open` is a stack of ids and states.
local function settle_all(open)
  if edges == nil then edges = call('ZCARD', key.edge) > 0 end
  if not edges then return end
  while #open > 0 do
    local parent = table.remove(open)
    local id, state = parent[1], parent[2]
    while true do
      if credit <= 0 then
        open[#open + 1] = parent
        local owed = {}
        for index, entry in ipairs(open) do owed[index] = entry[1] .. char(entry[2]) end
        many('RPUSH', key.owed, owed)
        return
      end
      local members = call('ZRANGEBYLEX', key.edge, '[' .. id, '[' .. id .. '\255', 'LIMIT', 0, min(credit, 200))
      if #members == 0 then break end
      credit = credit - #members
      call('ZREMRANGEBYLEX', key.edge, '[' .. members[1], '[' .. members[#members])
      local ids = {}
      for index, member in ipairs(members) do ids[index] = sub(member, 24, 39) end
      load(ids)
      for index, member in ipairs(members) do
        local child = heads[ids[index]]
        -- One of another life of the id, or one that ended otherwise, does not wait any more.
        if child and child[STATE] == BLOCKED and sub(member, 17, 23) == bytes7(child[SEQ]) then
          child[WAITS] = child[WAITS] - 1
          touch(child)
          if state ~= SUCCEEDED and not has(child, RUNS_ANYWAY) then
            conclude(child, CANCELLED, parent_failed(id, state))
            open[#open + 1] = {child[ID], CANCELLED}
          elseif child[WAITS] <= 0 then
            wait_until(child, child[DUE])
          end
        end
      end
    end
  end
end

-- Ends a task, and settles what waited for it.
local function end_task(head, state, tail)
  conclude(head, state, tail)
  settle_all({{head[ID], state}})
end

-- Puts a running task back, to wait until `at`; one that was to be cancelled is cancelled.
local function put_back(head, at)
  if head[CANCEL] == 1 then
    end_task(head, CANCELLED, CALLED_OFF)
  else
    wait_until(head, at)
  end
end

-- Gives a task a fence that is above those of all claims there can have been of it. Its last claim means nothing any more.
local function raise(head, step)
  head[FENCE], head[NONCE], head[COMMITTED] = min(head[FENCE] + step, NEVER), NOBODY, 0
end

-- What is written at the end

local work, ends = false, false -- whom the changes may interest
local tally = {}                -- by lane and state

local function count(lane, state, change)
  local counts = tally[lane]
  if not counts then
    counts = {}
    tally[lane] = counts
  end
  counts[state] = (counts[state] or 0) + change
end

local function write_tally()
  for lane, counts in pairs(tally) do
    for state, change in pairs(counts) do
      local field = lane .. char(state)
      if change ~= 0 and call('HINCRBY', key.tally, field, change) <= 0 then call('HDEL', key.tally, field) end
    end
  end
end

-- Members that leave and that come, by key; of those that come, each after its score.
local INDICES = {'ready', 'due', 'expiry', 'ended', 'kept', 'lease', 'cancel'}
local gone, new = {}, {}
for _, name in ipairs(INDICES) do gone[name], new[name] = {}, {} end
for state = BLOCKED, EXPIRED do gone[state], new[state] = {}, {} end

local function drop(name, member)
  local list = gone[name]
  list[#list + 1] = member
end

local function add(name, member)
  local list = new[name]
  local at = #list
  list[at + 1], list[at + 2] = '0', member
end

-- Instants that many tasks have in common.
local instants = {}
local function instant(time)
  local bytes = instants[time]
  if not bytes then
    bytes = bytes7(time)
    instants[time] = bytes
  end
  return bytes
end

local function ready_member(head, member)
  return head[LANE] .. char(head[RANK]) .. member
end

local let_go, of_several = nil, false -- the session whose leases end here, and whether there are more

-- Takes what the indices say about a task out of them.
local function unlink(head, member)
  local state = head[WAS_STATE]
  if state == READY then
    if not head[RUN_OUT] then drop('ready', ready_member(head, member)) end
  elseif state == RUNNING then
    let_go = let_go or head[WAS_SESSION]
    of_several = of_several or head[WAS_SESSION] ~= let_go
    drop('lease', head[WAS_SESSION] .. member)
    if head[WAS_CANCEL] == 1 then drop('cancel', head[WAS_SESSION] .. member) end
  elseif state == SCHEDULED then
    drop('due', instant(head[WAS_DUE]) .. member)
  elseif state >= SUCCEEDED then
    drop('ended', instant(head[WAS_FINISHED]) .. head[ID])
    drop('kept', instant(later(head[WAS_FINISHED], head[KEEP])) .. member)
  end
  if state ~= head[STATE] then
    drop(state, member)
    count(head[LANE], state, -1)
  end
end

local function link(head, member)
  local state = head[STATE]
  if state == READY then
    add('ready', ready_member(head, member))
  elseif state == RUNNING then
    add('lease', head[SESSION] .. member)
    if head[CANCEL] == 1 then add('cancel', head[SESSION] .. member) end
  elseif state == SCHEDULED then
    add('due', instant(head[DUE]) .. member)
  elseif state >= SUCCEEDED then
    add('ended', instant(head[FINISHED]) .. head[ID])
    add('kept', instant(later(head[FINISHED], head[KEEP])) .. member)
  end
  if state ~= head[WAS_STATE] then
    add(state, member)
    count(head[LANE], state, 1)
    if state == READY or state == SCHEDULED then work = true end
    if state >= SUCCEEDED then ends = true end
  end
end

-- Tasks were touched in the order of arrival. Then what leaves an index is mostly a range of it, and to take a range out
-- costs one search and not one for each: that counts where millions wait.
local ascending = true

-- `sorted`: the list is in the order of the index. Only then a range of as many members has no others in it.
local function take_out(where, list, sorted)
  local most = #list
  if most >= 8 and sorted then
    local from, to = '[' .. list[1], '[' .. list[most]
    if call('ZLEXCOUNT', where, from, to) == most then
      call('ZREMRANGEBYLEX', where, from, to)
      return
    end
  end
  many('ZREM', where, list)
end

local function write_indices()
  for state = BLOCKED, EXPIRED do take_out(by_state(state), gone[state], ascending) end
  take_out(key.lease, gone.lease, ascending and not of_several)
  for _, name in ipairs(INDICES) do
    if name ~= 'lease' then many('ZREM', key[name], gone[name]) end
    many('ZADD', key[name], new[name])
  end
  for state = BLOCKED, EXPIRED do many('ZADD', by_state(state), new[state]) end
end

-- Writes everything down. Nothing of this is refused for want of memory in a script that has begun to write.
local function write()
  local bodies, moved, before = {}, {}, 0
  for _, head in ipairs(touched) do
    local member = first(head)
    ascending = ascending and head[SEQ] > before
    before = head[SEQ]
    local arrived = head[NEW]
    if arrived then
      local at = #bodies
      bodies[at + 1], bodies[at + 2] = head[ID], pack('>BI4I7I7I7I7', unpack(head, 1, EXPIRES)) .. arrived
    else
      unlink(head, member)
    end
    if not arrived or head[STATE] > READY then
      local at = #moved
      moved[at + 1], moved[at + 2] = head[ID], stored(head)
    end
    link(head, member)
    local over, was_over = expires(head), head[WAS_EXPIRES]
    if over ~= was_over then
      if was_over > 0 then drop('expiry', bytes7(was_over) .. member) end
      if over > 0 then add('expiry', bytes7(over) .. member) end
    end
  end
  many('HSET', key.body, bodies)
  many('HSET', key.head, moved)
  write_indices()
  write_tally()
end

-- Ends a script that may have changed something: writes, notes the time, and tells who waits. Returns 1 if something is
-- owed, and 2 more if there may be work, and 4 more if a task ended.
local function commit(origin)
  write()
  local work_count, ends_count = tonumber(meta[3]) or 0, tonumber(meta[4]) or 0
  if work then work_count = work_count + 1 end
  if ends then ends_count = ends_count + 1 end
  call('HSET', key.meta, 'seq', last_seq, 'work', work_count, 'ends', ends_count)
  keep_time()
  if work or ends then
    call('PUBLISH', key.meta, (work and 'w' or '-') .. (ends and 'e' or '-') .. origin)
  end
  return call('EXISTS', key.owed) + (work and 2 or 0) + (ends and 4 or 0)
end

-- Scripts that do not make the store larger begin with this: a script that has begun to write is not refused for want
-- of memory, and so tasks can still end where none can come in.
local function insist() call('HDEL', key.meta, '-') end

-- What a caller is told about a move.
local function told(head, from)
  return pack('>c16I7I4BB', head[ID], head[FENCE], head[ATTEMPT], from, head[STATE]) .. head[LANE]
end
