-- Forgetting ended tasks: shared by remove and purge.

local function forget(list)
  local gone = changes('ZREM')
  local bodies = {}
  local apart = {}
  for _, head in ipairs(list) do
    local member = first(head)
    head[STATE] = -1 -- nowhere
    unlink(gone, head, member)
    bodies[#bodies + 1] = head[ID]
    if has(head, LARGE_BODY) then apart[#apart + 1] = head[ID] .. 'b' end
    if has(head, LARGE_TAIL) then apart[#apart + 1] = head[ID] .. 'r' end
    if has(head, KEYED) then free_key(head) end
  end
  gone:write()
  many('HDEL', key.body, bodies)
  many('HDEL', key.head, bodies)
  many('HDEL', key.large, apart)
  write_tally()
end
