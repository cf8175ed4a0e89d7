-- KEYS: the index of results by the end of their time, meta, then the results of one task for each item. ARGV: the time or
-- '', then for each item: fence and nonce, how long it is kept, its task, its value. One that is there stays as it is.
local call, pack = redis.call, struct.pack
call('ZREM', KEYS[1], '-') -- a script that has begun to write is not refused for want of memory
-- By the clock that decides when it is over.
local meta = call('HMGET', KEYS[2], 'now', 'behind')
local now = tell_time(ARGV[1], meta[1], meta[2])
local real = ARGV[1] == ''
for index = 3, #KEYS do
  local at = 2 + (index - 3) * 4
  local token, span, task, value = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  if call('HSETNX', KEYS[index], 'v' .. token, value) == 1 then
    local till = math.min(now + span, 9007199254740991)
    local bytes = pack('>I7', till)
    call('HSET', KEYS[index], 't' .. token, bytes)
    call('ZADD', KEYS[1], '0', bytes .. task .. token)
    -- The server forgets them by itself, should nobody else.
    local left = call('PTTL', KEYS[index])
    local first = call('HLEN', KEYS[index]) == 2
    if real and span < 4398046511104 and (first or left >= 0 and left < span) then
      call('PEXPIRE', KEYS[index], string.format('%.0f', math.max(span, 1)))
    elseif real and span >= 4398046511104 then
      call('PERSIST', KEYS[index])
    end
  end
end
return 1
