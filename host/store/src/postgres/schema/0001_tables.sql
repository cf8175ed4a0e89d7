-- Tables of tasks, results, modules and events. `$S` is the schema that everything lives in, so that many share a database.
--
-- A task's body is written once, into `task`. What changes is a small row that moves from one table to another as the task
-- goes on, so that a claim only ever walks claimable rows and nothing has an index on a state.

-- What a task runs, for filters. Rows are never removed.
create table $S.code(
    id int generated always as identity primary key,
    digest bytea not null,
    name text collate "C" not null,
    version text collate "C" not null,
    function bytea not null,            -- UTF-8; text could not hold every character
    key bytea not null generated always as (sha256(function)) stored,
    unique(digest, name, version, key)
);

-- A tenant's queue. Rows are never removed: tasks refer to them by number.
create table $S.lane(
    id int generated always as identity primary key,
    tenant text collate "C" not null,
    queue text collate "C" not null,
    paused boolean not null default false,
    ranks int not null default 0,       -- a bit for each rank that was ever used
    unique(tenant, queue)
);

create sequence $S.arrival;
-- Tasks as they were asked for, until they are forgotten.
create table $S.task(
    seq bigint primary key,
    created bigint not null,
    due bigint not null,                -- starts not before
    keep bigint not null,               -- how long the result is kept, in milliseconds
    id uuid not null unique,
    lane int not null,
    code int not null,
    waits int not null,                 -- for so many tasks, when it came
    rank smallint not null,             -- 9 less the priority: the least comes first
    flags smallint not null,
    ttl bigint,
    body bytea not null
);

-- What changes of a task that is ready. The other three have the same columns.
create table $S.ready(
    seq bigint not null,
    keep bigint not null,
    fence bigint not null,
    due bigint not null,
    id uuid not null,
    lane int not null,
    size int not null,                  -- of its body
    attempt int not null,
    crashes int not null,
    waits int not null,                 -- for so many tasks that have not ended
    rank smallint not null,
    flags smallint not null,
    nonce bigint,                       -- of the current claim, or of the last one whose end was committed
    session bigint,
    expires bigint,                     -- as long as no attempt counts: must have started by then
    started bigint,
    error bytea
);
create table $S.scheduled(like $S.ready);
create table $S.blocked(like $S.ready);
create table $S.lease(like $S.ready);
-- What a claim walks.
alter table $S.ready add primary key (lane, rank, seq);
alter table $S.scheduled add primary key (seq);
create index scheduled_due on $S.scheduled(due, seq);
alter table $S.blocked add primary key (seq);
alter table $S.lease add primary key (id);
create index lease_session on $S.lease(session);
create index ready_expires on $S.ready(expires, seq) where expires is not null and attempt = 0;
create index scheduled_expires on $S.scheduled(expires, seq) where expires is not null and attempt = 0;
create index blocked_expires on $S.blocked(expires, seq) where expires is not null and attempt = 0;
-- Rows come and go by the million while hardly any stay: they are cleaned up early and at full speed.
alter table $S.ready set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_index_cleanup = on);
alter table $S.scheduled set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_index_cleanup = on);
alter table $S.blocked set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_index_cleanup = on);
alter table $S.lease set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_index_cleanup = on);

-- Tasks that have ended, a partition for each day of their end; an empty one of a day that is over is dropped.
create table $S.done(
    seq bigint not null,
    finished bigint not null,
    forget bigint not null,
    fence bigint not null,
    id uuid not null,
    lane int not null,
    attempt int not null,
    crashes int not null,
    rank smallint not null,
    flags smallint not null,
    state smallint not null,
    nonce bigint,
    started bigint,
    result bytea not null,
    primary key (seq, finished)
) partition by range (finished);
create index done_finished on $S.done(finished);
create index done_forget on $S.done(forget);
-- The dead letter queue, and what was called off: few among very many.
create index done_unwell on $S.done(state, seq) where state <> 4;

-- How many tasks of a lane came to a state, or left it: rows are only added, so that nobody waits for a counter, and are
-- added up now and then.
create table $S.tally(
    lane int not null,
    state smallint not null,
    count bigint not null
);

-- Which task waits for which.
create table $S.edge(
    parent bigint not null,
    child bigint not null,
    primary key (parent, child)
);

create table $S.ukey(
    tenant text collate "C" not null,
    key bytea not null,
    holder bigint not null,
    scope smallint not null,
    until bigint,
    primary key (tenant, key)
);
create index ukey_holder on $S.ukey(holder);
create index ukey_until on $S.ukey(until) where until is not null;

create table $S.session(
    id bigint primary key,
    name text not null,
    lease bigint not null,
    expires bigint not null
);

create sequence $S.schedule_version;
create table $S.schedule(
    tenant text collate "C" not null,
    name text collate "C" not null,
    version bigint not null,
    next bigint,
    paused boolean not null,
    record bytea not null,
    primary key (tenant, name)
);
create index schedule_due on $S.schedule(next) where next is not null and not paused;

create table $S.result(
    task uuid not null,
    fence bigint not null,
    nonce bigint not null,
    forget bigint not null,
    format smallint not null,
    bytes bytea not null,
    primary key (task, fence, nonce)
);
create index result_forget on $S.result(forget);

create table $S.component(
    digest bytea primary key,
    bytes bytea not null
);
alter table $S.component alter column bytes set storage external;

create table $S.module(
    seq bigint generated always as identity primary key,
    name text collate "C" not null,
    version text collate "C" not null,
    digest bytea not null,
    command boolean not null,
    record bytea not null,
    unique(name, version)
);
create index module_digest on $S.module(digest);
-- What `enqueue` needs to know of a module: a function's short and full name.
create table $S.function(
    module bigint not null,
    short text collate "C" not null,
    name text collate "C" not null,
    primary key (module, name)
);

-- The event log, a partition for each day.
create table $S.event(
    position bigint generated always as identity,
    at bigint not null,
    task uuid not null,
    fence bigint not null,
    kind smallint not null,
    record bytea not null
) partition by range (at);
create index event_at on $S.event(at, position);
create index event_task on $S.event(task, fence, kind);

-- Where a task that is known stands: it is in exactly one of the five.
create view $S.state as
    select 2::smallint as state, seq, id, lane, rank, attempt, crashes, fence, nonce, session, flags, due, started,
           null::bigint as finished, error, null::bytea as result from $S.ready
    union all
    select 1::smallint, seq, id, lane, rank, attempt, crashes, fence, nonce, session, flags, due, started,
           null::bigint, error, null::bytea from $S.scheduled
    union all
    select 0::smallint, seq, id, lane, rank, attempt, crashes, fence, nonce, session, flags, due, started,
           null::bigint, error, null::bytea from $S.blocked
    union all
    select 3::smallint, seq, id, lane, rank, attempt, crashes, fence, nonce, session, flags, due, started,
           null::bigint, error, null::bytea from $S.lease
    union all
    select state, seq, id, lane, rank, attempt, crashes, fence, nonce, null::bigint, flags, null::bigint, started,
           finished, null::bytea, result from $S.done;
