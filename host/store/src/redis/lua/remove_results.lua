-- KEYS: the index of results, then the results of one task each. ARGV: the tasks.
local call = redis.call
for index = 2, #KEYS do
  local times = {}
  for _, field in ipairs(call('HKEYS', KEYS[index])) do
    if string.sub(field, 1, 1) == 't' then times[#times + 1] = field end
  end
  for _, field in ipairs(times) do
    call('ZREM', KEYS[1], call('HGET', KEYS[index], field) .. ARGV[index - 1] .. string.sub(field, 2))
  end
  call('UNLINK', KEYS[index])
end
return 1
