-- ARGV: time, the end and id after which to go on, at most so many. Answers id, head and stored form of each.
local members = call('ZRANGEBYLEX', key.ended, ARGV[2] == '' and '-' or '(' .. ARGV[2], '+', 'LIMIT', 0, tonumber(ARGV[3]))
local ids, answers = {}, {}
for index, member in ipairs(members) do ids[index] = sub(member, 8) end
if #ids == 0 then return answers end
local moved, bodies = fetch(key.head, ids), fetch(key.body, ids)
for index, id in ipairs(ids) do
  answers[#answers + 1], answers[#answers + 2], answers[#answers + 3] = id, moved[index] or '', bodies[index] or ''
end
return answers
