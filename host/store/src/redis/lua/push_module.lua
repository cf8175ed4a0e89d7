-- KEYS: modules, components, versions, counts. ARGV: name, version, digest, record, bytes. A version is kept as its
-- place in the order of pushes, its digest and its record. Answers what is there, or ''.
local call, pack = redis.call, struct.pack
local field = ARGV[1] .. '\1' .. ARGV[2]
local there = call('HGET', KEYS[1], field)
if there and string.sub(there, 8, 39) ~= ARGV[3] then return string.sub(there, 8, 39) end
-- What is there may be damaged, and this is not.
if call('HGET', KEYS[2], ARGV[3]) ~= ARGV[5] then call('HSET', KEYS[2], ARGV[3], ARGV[5]) end
if there then return ARGV[3] end
local place = pack('>I7', call('HINCRBY', KEYS[4], 'pushed', 1))
call('HINCRBY', KEYS[4], ARGV[3], 1)
call('HSET', KEYS[1], field, place .. ARGV[3] .. ARGV[4])
call('ZADD', KEYS[3], '0', ARGV[1] .. '\1' .. place .. ARGV[2])
return ''
