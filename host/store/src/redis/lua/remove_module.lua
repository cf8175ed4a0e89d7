-- KEYS: modules, components, versions, counts. ARGV: name, version. Answers whether it was there.
local call = redis.call
local field = ARGV[1] .. '\1' .. ARGV[2]
local there = call('HGET', KEYS[1], field)
if not there then return 0 end
local place, digest = string.sub(there, 1, 7), string.sub(there, 8, 39)
call('HDEL', KEYS[1], field)
call('ZREM', KEYS[3], ARGV[1] .. '\1' .. place .. ARGV[2])
if call('HINCRBY', KEYS[4], digest, -1) <= 0 then
  call('HDEL', KEYS[4], digest)
  call('HDEL', KEYS[2], digest)
end
return 1
