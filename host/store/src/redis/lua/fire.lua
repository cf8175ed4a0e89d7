-- ARGV: time, origin, name, version, next instant and whether there is one, then the tasks it makes.
local name, version = ARGV[3], tonumber(ARGV[4])
local value = call('HGET', key.schedule, name)
if not value then return {'L', 0} end
local current, _, paused = unpack_('>I7I7B', value)
if current ~= version or paused == 1 then return {'L', 0} end
-- One that is there already was made by an earlier firing of the same instant; one whose unique key is taken is not to
-- be made.
arrive(7)
put_schedule(name, tonumber(ARGV[5]), tonumber(ARGV[6]), 0, sub(value, 16))
return {'F', commit(ARGV[2])}
