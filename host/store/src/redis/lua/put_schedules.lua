-- ARGV: time, then for each schedule: name, the version it was seen with (0: none), whether there is a next instant, that
-- instant, whether it is paused, its record. Answers the new version, or 0.
local versions = {}
for at = 2, #ARGV, 6 do
  local name = ARGV[at]
  local value = call('HGET', key.schedule, name)
  local current = value and unpack_('>I7', value) or 0
  if current ~= tonumber(ARGV[at + 1]) then
    versions[#versions + 1] = 0
  else
    versions[#versions + 1] =
      put_schedule(name, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), ARGV[at + 5])
  end
end
return versions
