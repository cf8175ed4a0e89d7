-- ARGV: time, session, how long it lives. One that lives is kept alive; one that has died and is known stays dead.
insist()
local alive, known = lives(ARGV[2])
if alive or not known then call('ZADD', key.session, later(now, tonumber(ARGV[3])), ARGV[2]) end
keep_time()
return 1
