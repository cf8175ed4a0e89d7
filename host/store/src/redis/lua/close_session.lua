-- ARGV: time, session. Forgets a session that holds nothing any more; answers whether it is gone.
insist()
local members = held_by(ARGV[2], '', 1)
if #members > 0 then return 0 end
call('ZREM', key.session, ARGV[2])
return 1
