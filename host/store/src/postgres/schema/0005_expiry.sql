-- Takes tasks in whose ids are not known yet, in their order. `p_waits`: for so many others; -1: it is over already.
-- Returns how many were taken in, when, and their places. A task without a time to live never expires: `least` passes nulls
-- over, and would make the last instant there is of it, and a row in the index of those that expire.
create or replace function $S.put_tasks(
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
                  case when ttl is not null then at + least(ttl, 9223372036854775807 - at) end as expires
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

-- Makes scheduled tasks ready whose time has come; says how many, and how long until the next.
create or replace function $S.promote(p_now bigint, p_max bigint, out promoted bigint, out wait bigint)
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
    -- What is due and could have been taken is held by somebody: to ask again at once would only turn round and round.
    if promoted < p_max and wait = 0 then wait := 100; end if;
end
$fn$;
