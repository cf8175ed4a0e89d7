-- The time that decides, shared by the scripts that need it.
--
-- It never goes back: the latest instant seen is kept as `now`. A server that is behind it, after a failover or after its
-- clock was set back, goes on from there at half its pace until it has caught up: leases last longer then, never shorter,
-- and what is due still becomes due. From where it goes on is kept as `behind`: what `now` was, and what the server's clock
-- showed. An older version keeps only `now`; one that is not what `behind` says is of its making, and begins anew.

-- Of the time as it is given ('': the server's own) and these two as they are kept: the time, and `behind` as it is to be
-- kept with it, if the server is.
local function tell_time(given, kept, behind)
  local now, latest = tonumber(given), tonumber(kept) or 0
  if now then return math.max(now, latest) end
  local time = redis.call('TIME')
  local shown = time[1] * 1000 + math.floor(time[2] / 1000)
  if shown >= latest then return shown end
  local at, since = string.match(behind or '', '^(%d+) (%d+)$')
  local passed = tonumber(at) == latest and math.max(shown - tonumber(since), 0) or 0
  now = latest + math.floor(passed / 2)
  -- What is not counted yet is counted the next time, however soon that is.
  return now, string.format('%.0f %.0f', now, shown - passed % 2)
end
