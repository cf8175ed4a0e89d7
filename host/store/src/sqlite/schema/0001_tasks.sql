-- Tasks, results and modules. Every name has a prefix, so that the file may be shared with an application's own tables.

create table omniq_meta(
    key text primary key,
    value any not null
) strict, without rowid;

-- A tenant's queue. Rows are never removed: tasks refer to them by number.
create table omniq_lane(
    id integer primary key,
    tenant text not null,
    queue text not null,
    paused integer not null default 0,
    unique(tenant, queue)
) strict;

-- What a task runs, for filters. Rows are never removed.
create table omniq_code(
    id integer primary key,
    digest blob not null,
    name text not null,
    version text not null,
    function text not null,
    unique(digest, name, version, function)
) strict;

-- Tasks that have not ended: small rows, since every change of a state writes one anew.
create table omniq_task(
    seq integer primary key,
    id blob not null,
    lane integer not null,
    code integer not null,
    state integer not null,
    rank integer not null,      -- the priority turned round: the least comes first
    attempt integer not null,
    crashes integer not null,
    fence integer not null,
    nonce integer,              -- of the current claim, or of the last one whose end was committed
    session integer,
    cancel integer not null,    -- somebody wants the attempt stopped
    created integer not null,
    due integer not null,       -- not before this instant
    expires integer,            -- as long as no attempt counts: must have started by then
    started integer,
    ttl integer,
    keep integer not null,      -- how long the result is kept, in milliseconds
    flags integer not null,
    waits integer not null,     -- for so many tasks
    error blob
) strict;
-- What a claim walks: nothing but claimable rows, in their order.
create index omniq_task_ready on omniq_task(lane, rank, seq) where state = 2;
create index omniq_task_due on omniq_task(due) where state = 1;
create index omniq_task_held on omniq_task(session, cancel) where state = 3;
create index omniq_task_expires on omniq_task(expires) where expires is not null and attempt = 0 and state < 3;

-- Tasks as they were asked for. Written once. Autoincrement: a place in the order is never given twice.
create table omniq_body(
    seq integer primary key autoincrement,
    id blob not null unique,    -- here, where nothing moves it: by id a task is found through its body
    bytes blob not null
) strict;

-- Tasks that have ended, until they are forgotten.
create table omniq_done(
    seq integer primary key,
    id blob not null,
    lane integer not null,
    code integer not null,
    state integer not null,
    rank integer not null,
    attempt integer not null,
    crashes integer not null,
    fence integer not null,
    nonce integer,
    cancel integer not null,
    created integer not null,
    started integer,
    ttl integer,
    keep integer not null,
    flags integer not null,
    finished integer not null,
    forget integer not null,
    result blob not null
) strict;
create index omniq_done_finished on omniq_done(finished);
create index omniq_done_forget on omniq_done(forget);
-- The dead letter queue, and what was called off: few among very many.
create index omniq_done_unwell on omniq_done(state, seq) where state <> 4;

-- How many tasks of a lane stand in a state; changed with them in the same commit.
create table omniq_tally(
    lane integer not null,
    state integer not null,
    count integer not null,
    primary key(lane, state)
) strict, without rowid;

-- Which task waits for which.
create table omniq_edge(
    parent integer not null,
    child integer not null,
    primary key(parent, child)
) strict, without rowid;

create table omniq_ukey(
    tenant text not null,
    key text not null,
    holder integer not null,
    scope integer not null,
    until integer,
    primary key(tenant, key)
) strict, without rowid;
create index omniq_ukey_holder on omniq_ukey(holder);
create index omniq_ukey_until on omniq_ukey(until) where until is not null;

create table omniq_session(
    id integer primary key,
    name text not null,
    lease integer not null,
    expires integer not null
) strict;

create table omniq_schedule(
    tenant text not null,
    name text not null,
    version integer not null,
    next integer,
    paused integer not null,
    record blob not null,
    primary key(tenant, name)
) strict;
create index omniq_schedule_due on omniq_schedule(next) where next is not null and paused = 0;

create table omniq_result(
    seq integer primary key,
    task blob not null,
    fence integer not null,
    nonce integer not null,
    forget integer not null,
    format integer not null,
    bytes blob not null,
    unique(task, fence, nonce)
) strict;
create index omniq_result_forget on omniq_result(forget);

create table omniq_component(
    digest blob primary key,
    bytes blob not null
) strict;

create table omniq_module(
    seq integer primary key autoincrement,
    name text not null,
    version text not null,
    digest blob not null,
    record blob not null,
    unique(name, version)
) strict;
create index omniq_module_digest on omniq_module(digest);
