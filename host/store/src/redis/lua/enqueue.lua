-- ARGV: time, origin, then tasks as `arrive` takes them. Refused as a whole when memory is full: nothing is written
-- before the first command that such a server refuses.
local answers = arrive(3)
return {answers, commit(ARGV[2])}
