-- ARGV: time, origin. Pays what is owed to those that waited for ended tasks, a part of it; answers whether there is more.
insist()
local owed = call('LRANGE', key.owed, 0, -1)
call('DEL', key.owed)
local open = {}
for index, entry in ipairs(owed) do open[index] = {sub(entry, 1, 16), string.byte(entry, 17)} end
settle_all(open)
return commit(ARGV[2])
