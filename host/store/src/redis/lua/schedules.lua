-- Schedules, shared by the scripts that change them. One is kept as version, next instant (one higher; 0: none),
-- whether it is paused, and its record.

-- Takes what is known of a schedule's next instant out of the index.
local function forget_firing(name)
  local value = call('HGET', key.schedule, name)
  if value then
    local _, next_at, paused = unpack_('>I7I7B', value)
    if next_at > 0 and paused == 0 then call('ZREM', key.firing, bytes7(next_at - 1) .. name) end
  end
  return value
end

-- One counter of versions for all, so that a name that is used again gets a higher one.
local function put_schedule(name, has_next, next_at, paused, record)
  local version = call('HINCRBY', key.meta, 'version', 1)
  forget_firing(name)
  local kept = has_next == 1 and next_at + 1 or 0
  call('HSET', key.schedule, name, pack('>I7I7B', version, kept, paused) .. record)
  if has_next == 1 and paused == 0 then call('ZADD', key.firing, '0', bytes7(next_at) .. name) end
  return version
end
