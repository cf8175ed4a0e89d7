-- Forgetting ended tasks: shared by remove and purge.

local function forget(list)
  ascending = false
  local ids, apart = {}, {}
  for _, head in ipairs(list) do
    local member = first(head)
    head[STATE] = -1 -- nowhere
    unlink(head, member)
    ids[#ids + 1] = head[ID]
    if has(head, LARGE_BODY) then apart[#apart + 1] = head[ID] .. 'b' end
    if has(head, LARGE_TAIL) then apart[#apart + 1] = head[ID] .. 'r' end
    if has(head, KEYED) then free_key(head) end
  end
  write_indices()
  many('HDEL', key.body, ids)
  many('HDEL', key.head, ids)
  many('HDEL', key.large, apart)
  write_tally()
end
