-- ARGV: time, then ids. Answers head and stored form of each; what is missing is ''.
local ids, answers = {}, {}
for at = 2, #ARGV do ids[at - 1] = ARGV[at] end
local moved, bodies = fetch(key.head, ids), fetch(key.body, ids)
for index = 1, #ids do
  answers[2 * index - 1], answers[2 * index] = moved[index] or '', bodies[index] or ''
end
return answers
