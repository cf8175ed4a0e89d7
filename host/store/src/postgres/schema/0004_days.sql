-- Drops the partitions of days that were over at an instant: empty ones, or with `p_max` also others, as long as no more rows
-- than that go with them, or it is the first. Says how many rows did; of a day of more than `p_max` that it was more: counting
-- all of them may take longer than a statement is given.
create or replace function $S.drop_days(p_table text, p_before bigint, p_max bigint) returns bigint
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
            execute format('select count(*) from (select 1 from $S.%I limit %s) x', v_name, p_max + 1) into v_rows;
            exit when v_gone > 0 and v_gone + v_rows > p_max;
        end if;
        execute format('drop table $S.%I', v_name);
        v_gone := v_gone + v_rows;
        exit when v_gone >= p_max;
    end loop;
    return v_gone;
end
$fn$;
