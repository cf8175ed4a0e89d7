-- ARGV: time. Answers what the time is.
return now
