-- KEYS: meta. ARGV: what the store holds, the newest schema this version knows, the oldest writer that may write then, a
-- random name. Answers what the store says of itself: kind, schema, oldest writer.
local call = redis.call
local found = call('HMGET', KEYS[1], 'kind', 'schema', 'min_writer')
if not found[2] then
  call('HSET', KEYS[1], 'kind', ARGV[1], 'schema', ARGV[2], 'min_reader', ARGV[3], 'min_writer', ARGV[3], 'incarnation', ARGV[4])
  return {ARGV[1], ARGV[2], ARGV[3]}
end
if found[1] == ARGV[1] and tonumber(found[2]) < tonumber(ARGV[2]) then
  -- Steps from older schemas stand here, each under the number it leads to.
  call('HSET', KEYS[1], 'schema', ARGV[2])
end
return found
