-- The calls that come in crowds, one round trip each. Inside such a function each statement sees what was committed before
-- it began, as two statements of a client do. `$PINNED` holds the planner to the indices whatever its statistics say: these
-- tables are empty when they are looked at and full when they are used. It is part of the function, not of the session, so
-- that it holds behind a pooler of connections too.
--
-- A table is looked up from the rows that are at hand in a subquery with `offset 0`, and rows are deleted by their `ctid`:
-- a join could be turned round, and would then walk the whole table for each row, which looks cheap while it is empty.
--
-- `p_now` is the instant by a test's clock; null: by the server's.

create function $S.now() returns bigint language sql volatile as
$fn$ select floor(extract(epoch from clock_timestamp()) * 1000)::bigint $fn$;

-- Takes tasks in whose ids are not known yet, in their order. `p_waits`: for so many others; -1: it is over already.
-- Returns how many were taken in, when, and their places.
create function $S.put_tasks(
    p_now bigint, p_ids uuid[], p_lanes int[], p_codes int[], p_ranks smallint[], p_flags smallint[], p_run_ats bigint[],
    p_delays bigint[], p_ttls bigint[], p_keeps bigint[], p_waits int[], p_bodies bytea[],
    out made bigint, out at bigint, out seqs bigint[])
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
begin
    at := coalesce(p_now, $S.now());
    with u as (
        select * from unnest(p_ids, p_lanes, p_codes, p_ranks, p_flags, p_run_ats, p_delays, p_ttls, p_keeps, p_waits, p_bodies)
            with ordinality as u(id, lane, code, rank, flags, run_at, delay, ttl, keep, waits, body, place)
    ), fresh as materialized (
        select * from u where not exists (select 1 from $S.task t where t.id = u.id offset 0) order by place
    ), made as (
        insert into $S.task(seq, created, due, keep, id, lane, code, waits, rank, flags, ttl, body)
        select nextval('$S.arrival'), at,
               greatest(coalesce(run_at, -9223372036854775808), at + least(delay, 9223372036854775807 - at)),
               keep, id, lane, code, waits, rank, flags, ttl, body
          from fresh
        on conflict (id) do nothing
        returning seq, keep, due, id, lane, waits, rank, flags, octet_length(body) as size,
                  at + least(ttl, 9223372036854775807 - at) as expires
    ), r as (
        insert into $S.ready(seq, keep, fence, due, id, lane, size, attempt, crashes, waits, rank, flags, expires)
        select seq, keep, 0, due, id, lane, size, 0, 0, 0, rank, flags, expires from made where waits = 0 and due <= at
    ), s as (
        insert into $S.scheduled(seq, keep, fence, due, id, lane, size, attempt, crashes, waits, rank, flags, expires)
        select seq, keep, 0, due, id, lane, size, 0, 0, 0, rank, flags, expires from made where waits = 0 and due > at
    ), b as (
        insert into $S.blocked(seq, keep, fence, due, id, lane, size, attempt, crashes, waits, rank, flags, expires)
        select seq, keep, 0, due, id, lane, size, 0, 0, waits, rank, flags, expires from made where waits > 0
    ), c as (
        insert into $S.tally(lane, state, count)
        select lane, case when waits < 0 then 6 when waits > 0 then 0 when due > at then 1 else 2 end, count(*)
          from made group by 1, 2
    )
    select count(*), array_agg(seq order by seq) into made, seqs from made;
end
$fn$;

-- Leases ready tasks, want by want, the best rank first, in the order of arrival. `p_after` has a place for each of the 19
-- ranks of each want: what stands before it is not looked at. `p_bytes` has how many bytes each want still takes, or -1 less
-- that many where it has been given a task before: only the first one of a want may be larger.
--
-- A row without an id means: the next task of that want is past its time to live and has to be expired before anything else.
create function $S.claim(
    p_now bigint, p_session bigint, p_lanes int[], p_max int[], p_bytes bigint[], p_nonces bigint[], p_after bigint[])
returns table(want int, seq bigint, rank int, id uuid, fence bigint, attempt int, crashes int, created bigint, body bytea)
language plpgsql rows 100 $PINNED as
$fn$
#variable_conflict use_column
declare
    v_now bigint := coalesce(p_now, $S.now());
    v_ranks int;
    v_left int;
    v_bytes bigint;
    v_first boolean;
    v_after bigint;
    v_step int;
    v_taken int;
    v_keyed bigint[];
    v_row record;
begin
    perform 1 from $S.session s where s.id = p_session and s.expires >= v_now;
    if not found then return; end if;
    for v_want in 1 .. cardinality(p_lanes) loop
        select l.ranks into v_ranks from $S.lane l where l.id = p_lanes[v_want] and not l.paused;
        continue when v_ranks is null;
        v_left := p_max[v_want];
        v_first := p_bytes[v_want] >= 0;
        v_bytes := case when v_first then p_bytes[v_want] else -1 - p_bytes[v_want] end;
        for v_rank in 0 .. 18 loop
            exit when v_left <= 0;
            continue when v_ranks & (1 << v_rank) = 0;
            v_after := coalesce(p_after[(v_want - 1) * 19 + v_rank + 1], -1);
            loop
                exit when v_left <= 0;
                v_step := least(v_left, 1000);
                v_taken := 0;
                v_keyed := null;
                for v_row in
                    with c as materialized (
                        select q.ctid as loc, q.seq, q.size, q.attempt = 0 and coalesce(q.expires <= v_now, false) as over
                          from $S.ready q
                         where q.lane = p_lanes[v_want] and q.rank = v_rank and q.seq > v_after
                         order by q.seq limit v_step for update skip locked
                    ), k as materialized (
                        select c.loc, bool_or(c.over) over w as stop, sum(c.size) over w as total, row_number() over w as place
                          from c window w as (order by c.seq)
                    ), d as (
                        delete from $S.ready q
                         where q.ctid = any(array(
                                   select k.loc from k where not k.stop and (k.total <= v_bytes or k.place = 1 and v_first)))
                        returning q.*
                    ), l as (
                        -- Who made it ready may have read the clock later than this call did: it does not start before that.
                        insert into $S.lease(seq, keep, fence, due, id, lane, size, attempt, crashes, waits, rank, flags, nonce,
                                             session, expires, started, error)
                        select d.seq, d.keep, d.fence + 1, d.due, d.id, d.lane, d.size, least(d.attempt, 2147483646) + 1,
                               d.crashes, 0, d.rank, d.flags, p_nonces[v_want], p_session, d.expires, greatest(v_now, d.due), d.error
                          from d
                        returning seq, id, fence, attempt, crashes, size, flags
                    )
                    select l.*, t.created, t.body
                      from l left join lateral (select t.created, t.body from $S.task t where t.id = l.id offset 0) t on true
                     order by l.seq
                loop
                    v_taken := v_taken + 1;
                    v_bytes := greatest(v_bytes - v_row.size, 0);
                    v_first := false;
                    if v_row.flags & 8 <> 0 then v_keyed := v_keyed || v_row.seq; end if;
                    want := v_want;
                    seq := v_row.seq;
                    rank := v_rank;
                    id := v_row.id;
                    fence := v_row.fence;
                    attempt := v_row.attempt;
                    crashes := v_row.crashes;
                    created := v_row.created;
                    body := v_row.body;
                    return next;
                end loop;
                if v_taken > 0 then
                    v_left := v_left - v_taken;
                    insert into $S.tally(lane, state, count)
                    values (p_lanes[v_want], 2, -v_taken), (p_lanes[v_want], 3, v_taken);
                    if v_keyed is not null then
                        -- Keys that are taken until their task starts.
                        delete from $S.ukey u where u.scope = 0 and u.holder = any(v_keyed);
                    end if;
                end if;
                continue when v_taken = v_step;
                -- Why were there fewer? What stands there is free to take, so that it is taken or a reason is found.
                select q.size, q.attempt = 0 and coalesce(q.expires <= v_now, false) as over into v_row
                  from $S.ready q
                 where q.lane = p_lanes[v_want] and q.rank = v_rank and q.seq > v_after
                 order by q.seq limit 1 for update skip locked;
                exit when not found;
                if v_row.over then
                    want := v_want;
                    rank := v_rank;
                    id := null;
                    return next;
                    return;
                end if;
                if not v_first and v_row.size > v_bytes then
                    v_left := 0;
                end if;
            end loop;
        end loop;
    end loop;
end
$fn$;

-- Commits the ends of leases that need no more than that: without a key to free, and for which nobody waits. Returns which.
create function $S.finish(
    p_now bigint, p_ids uuid[], p_fences bigint[], p_nonces bigint[], p_states smallint[], p_results bytea[]) returns uuid[]
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
declare
    v_now bigint := coalesce(p_now, $S.now());
    v_ids uuid[];
    v_seqs bigint[];
begin
    with u as materialized (
        select * from unnest(p_ids, p_fences, p_nonces, p_states, p_results) as u(id, fence, nonce, state, result)
    ), h as materialized (
        select l.*, u.state, u.result
          from u cross join lateral (select q.ctid as loc, q.* from $S.lease q where q.id = u.id offset 0) l
         where l.fence = u.fence and l.nonce = u.nonce and l.flags & 1 = 0
           and not exists (select 1 from $S.edge e where e.parent = l.seq offset 0)
    ), g as (
        delete from $S.lease l where l.ctid = any(array(select h.loc from h)) returning l.seq
    ), e as materialized (
        -- What is still there once its lock was had. A case is looked up in a hash table, where a condition would be a join.
        select * from h where case when h.seq in (select g.seq from g) then true else false end
    ), d as (
        insert into $S.done(seq, finished, forget, fence, id, lane, attempt, crashes, rank, flags, state, nonce, started, result)
        select seq, v_now, v_now + least(keep, 9223372036854775807 - v_now), fence, id, lane, attempt, crashes, rank, flags,
               state, nonce, started, result
          from e
    ), c as (
        insert into $S.tally(lane, state, count)
        select lane, state, count(*) from e group by 1, 2 union all select lane, 3, -count(*) from e group by 1
    )
    select array_agg(id), array_agg(seq) into v_ids, v_seqs from e;
    -- A task that was to wait for one of these may have come while the statement above waited for its lock: that statement
    -- saw what had been committed before it began, this one sees what was committed before the lock was given.
    if exists (select 1 from $S.edge e where e.parent = any(v_seqs)) then
        raise exception 'a task came that waits for one that ends' using errcode = 'OQ001';
    end if;
    return v_ids;
end
$fn$;

-- Keeps a session alive. Nothing: it is dead. Otherwise a row without an id, and one for each lease.
create function $S.heartbeat(p_now bigint, p_session bigint, p_lease bigint)
returns table(id uuid, fence bigint, nonce bigint, flags smallint)
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
declare
    v_now bigint := coalesce(p_now, $S.now());
begin
    update $S.session s set expires = v_now + least(p_lease, 9223372036854775807 - v_now), lease = p_lease
     where s.id = p_session and s.expires >= v_now;
    if not found then return; end if;
    return query select null::uuid, 0::bigint, 0::bigint, 0::smallint
                  union all
                 select l.id, l.fence, l.nonce, l.flags from $S.lease l where l.session = p_session;
end
$fn$;

-- Makes scheduled tasks ready whose time has come; says how many, and how long until the next.
create function $S.promote(p_now bigint, p_max bigint, out promoted bigint, out wait bigint)
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
declare
    v_now bigint := coalesce(p_now, $S.now());
begin
    with due as materialized (
        select s.ctid as loc from $S.scheduled s where s.due <= v_now order by s.due, s.seq limit p_max for update skip locked
    ), g as (
        delete from $S.scheduled s where s.ctid = any(array(select due.loc from due)) returning s.*
    ), r as (
        insert into $S.ready select * from g
    ), c as (
        insert into $S.tally(lane, state, count)
        select lane, 2, count(*) from g group by 1 union all select lane, 1, -count(*) from g group by 1
    )
    select count(*) into promoted from g;
    select greatest(s.due - v_now, 0) into wait from $S.scheduled s order by s.due, s.seq limit 1;
end
$fn$;

-- Locks the rows of tasks that have not ended, in the order of arrival, and says what is in them. One that moves from a
-- table to another meanwhile is missing: ask again.
create function $S.hold(p_ids uuid[])
returns table(state smallint, seq bigint, keep bigint, fence bigint, due bigint, id uuid, lane int, size int, attempt int,
              crashes int, waits int, rank smallint, flags smallint, nonce bigint, session bigint, expires bigint,
              started bigint, error bytea)
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
begin
    return query
    with t as materialized (
        select t.* from unnest(p_ids) as u(id)
         cross join lateral (select t.seq, t.id, t.lane, t.rank from $S.task t where t.id = u.id offset 0) t order by t.seq
    ), r as materialized (
        select q.* from t cross join lateral (
            select * from $S.ready q where q.lane = t.lane and q.rank = t.rank and q.seq = t.seq offset 0 for update) q
    ), s as materialized (
        select q.* from t cross join lateral (select * from $S.scheduled q where q.seq = t.seq offset 0 for update) q
    ), b as materialized (
        select q.* from t cross join lateral (select * from $S.blocked q where q.seq = t.seq offset 0 for update) q
    ), l as materialized (
        select q.* from t cross join lateral (select * from $S.lease q where q.id = t.id offset 0 for update) q
    )
    select 2::smallint, r.* from r union all select 1::smallint, s.* from s union all select 0::smallint, b.* from b
     union all select 3::smallint, l.* from l;
end
$fn$;

-- Locks the blocked tasks that wait for these, each once for each of those.
create function $S.hold_children(p_parents bigint[])
returns table(parent bigint, seq bigint, keep bigint, fence bigint, due bigint, id uuid, lane int, size int, attempt int,
              crashes int, waits int, rank smallint, flags smallint, nonce bigint, session bigint, expires bigint,
              started bigint, error bytea)
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
begin
    return query
    select e.parent, q.*
      from (select e.parent, e.child from $S.edge e where e.parent = any(p_parents) order by e.child, e.parent offset 0) e
     cross join lateral (select * from $S.blocked q where q.seq = e.child offset 0 for update) q;
end
$fn$;

-- Whether these tasks, of which others are to wait, are there, and where they stand. One that has not ended is held there
-- until the caller's transaction is over: its end waits for that. One that is known and has no state was on the move: ask again.
create function $S.hold_parents(p_ids uuid[]) returns table(id uuid, seq bigint, state smallint)
language plpgsql $PINNED as
$fn$
#variable_conflict use_column
begin
    return query
    with t as materialized (
        select t.* from unnest(p_ids) as u(id)
         cross join lateral (select t.seq, t.id, t.lane, t.rank from $S.task t where t.id = u.id offset 0) t order by t.seq
    ), r as materialized (
        select q.seq, 2::smallint as state from t cross join lateral (
            select q.seq from $S.ready q where q.lane = t.lane and q.rank = t.rank and q.seq = t.seq offset 0 for key share) q
    ), s as materialized (
        select q.seq, 1::smallint as state
          from t cross join lateral (select q.seq from $S.scheduled q where q.seq = t.seq offset 0 for key share) q
    ), b as materialized (
        select q.seq, 0::smallint as state
          from t cross join lateral (select q.seq from $S.blocked q where q.seq = t.seq offset 0 for key share) q
    ), l as materialized (
        select q.seq, 3::smallint as state
          from t cross join lateral (select q.seq from $S.lease q where q.id = t.id offset 0 for key share) q
    ), x as materialized (
        select * from r union all select * from s union all select * from b union all select * from l union all
        select d.seq, d.state
          from t cross join lateral (select d.seq, d.state from $S.done d where d.seq = t.seq offset 0) d
    )
    select t.id, t.seq, x.state from t left join x on x.seq = t.seq;
end
$fn$;

-- Makes the partition of `done` or `event` for the day of an instant, if there is none.
create function $S.make_day(p_table text, p_at bigint) returns void
language plpgsql as
$fn$
declare
    v_day bigint := floor(p_at / 86400000.0);
    v_name text := p_table || '_' || to_char(timestamp '1970-01-01' + v_day * interval '1 day', 'YYYYMMDD');
begin
    perform pg_advisory_xact_lock(hashtextextended('omniq days $S', 0));
    if to_regclass('$S.' || v_name) is not null then return; end if;
    -- Attached, not made as a partition: then readers and writers of other days go on meanwhile.
    execute format('create table $S.%I (like $S.%I including defaults including constraints)', v_name, p_table);
    execute format('alter table $S.%I attach partition $S.%I for values from (%s) to (%s)',
                   p_table, v_name, v_day * 86400000, (v_day + 1) * 86400000);
end
$fn$;

-- Drops the partitions of days that were over at an instant: empty ones, or with `p_max` also others, as long as no more rows
-- than that go with them, or it is the first. Says how many rows did.
create function $S.drop_days(p_table text, p_before bigint, p_max bigint) returns bigint
language plpgsql as
$fn$
declare
    v_name text;
    v_rows bigint;
    v_gone bigint := 0;
begin
    for v_name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = ('$S.' || p_table)::regclass
           and (to_date(right(c.relname, 8), 'YYYYMMDD') - date '1970-01-01' + 1) * 86400000::bigint <= p_before
         order by c.relname
    loop
        if p_max is null then
            execute format('select count(*) from (select 1 from $S.%I limit 1) x', v_name) into v_rows;
            continue when v_rows > 0;
            -- Nobody can bring a row from here on.
            execute format('lock table $S.%I in access exclusive mode', p_table);
            execute format('select count(*) from (select 1 from $S.%I limit 1) x', v_name) into v_rows;
            continue when v_rows > 0;
        else
            execute format('select count(*) from $S.%I', v_name) into v_rows;
            exit when v_gone > 0 and v_gone + v_rows > p_max;
        end if;
        execute format('drop table $S.%I', v_name);
        v_gone := v_gone + v_rows;
        exit when v_gone >= p_max;
    end loop;
    return v_gone;
end
$fn$;
