-- The event log, in a file of its own.

create table omniq_meta(
    key text primary key,
    value any not null
) strict, without rowid;

create table omniq_event(
    position integer primary key autoincrement,
    task blob not null,
    fence integer not null,
    kind integer not null,
    at integer not null,
    record blob not null,
    unique(task, fence, kind)
) strict;
create index omniq_event_at on omniq_event(at);
