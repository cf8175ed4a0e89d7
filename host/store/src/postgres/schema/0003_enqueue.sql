-- `enqueue`: a task from any language, inside whatever transaction the caller is in. It writes the record that the library
-- writes, so that whoever runs the task cannot tell the difference. Arguments are not checked against the function's types
-- here: one that does not fit fails when it runs.

-- CBOR (RFC 8949), in its core deterministic form (section 4.2.1).
create function $S.cbor_head(p_major int, p_n bigint) returns bytea language sql immutable as
$fn$
    select case when p_n < 24 then substring(int4send(p_major << 5 | p_n::int) from 4)
                when p_n < 256 then substring(int4send(p_major << 5 | 24) from 4) || substring(int8send(p_n) from 8)
                when p_n < 65536 then substring(int4send(p_major << 5 | 25) from 4) || substring(int8send(p_n) from 7)
                when p_n < 4294967296 then substring(int4send(p_major << 5 | 26) from 4) || substring(int8send(p_n) from 5)
                else substring(int4send(p_major << 5 | 27) from 4) || int8send(p_n) end
$fn$;

create function $S.cbor_bytes(p_bytes bytea) returns bytea language sql immutable as
$fn$ select $S.cbor_head(2, octet_length(p_bytes)) || p_bytes $fn$;

create function $S.cbor_text(p_text text) returns bytea language sql immutable as
$fn$ select $S.cbor_head(3, octet_length(convert_to(p_text, 'UTF8'))) || convert_to(p_text, 'UTF8') $fn$;

create function $S.cbor_int(p_n bigint) returns bytea language sql immutable as
$fn$ select case when p_n >= 0 then $S.cbor_head(0, p_n) else $S.cbor_head(1, -1 - p_n) end $fn$;

-- A float in the fewest of 2, 4 and 8 bytes that hold it exactly.
create function $S.cbor_float(p_value float8) returns bytea language plpgsql immutable as
$fn$
declare
    v_bits bigint;
    v_sign int;
    v_power int;
    v_rest int;
begin
    -- One that is too large or too small for 4 bytes raises an error there.
    if p_value <> 0 and (abs(p_value) > 3.4e38 or abs(p_value) < 1.2e-38) or p_value::float4::float8 <> p_value then
        return '\xfb'::bytea || float8send(p_value);
    end if;
    v_bits := ('x' || encode(float4send(p_value::float4), 'hex'))::bit(32)::bigint;
    v_sign := (v_bits >> 31)::int << 15;
    v_power := (v_bits >> 23 & 255)::int - 127;
    v_rest := (v_bits & 8388607)::int;
    if v_bits & 2147483647 = 0 then
        return '\xf9'::bytea || substring(int4send(v_sign) from 3);
    elsif v_power between -14 and 15 and v_rest & 8191 = 0 then
        return '\xf9'::bytea || substring(int4send(v_sign | ((v_power + 15) << 10) | (v_rest >> 13)) from 3);
    elsif v_power between -24 and -15 and (v_rest | 8388608) & ((1 << (-1 - v_power)) - 1) = 0 then
        return '\xf9'::bytea || substring(int4send(v_sign | ((v_rest | 8388608) >> (-1 - v_power))) from 3);
    end if;
    return '\xfa'::bytea || float4send(p_value::float4);
end
$fn$;

-- A JSON value. A number without a point is an integer, and one with a point is a float.
create function $S.cbor_json(p_value jsonb) returns bytea language plpgsql immutable as
$fn$
declare
    v_bytes bytea := ''::bytea;
    v_count bigint := 0;
    v_row record;
begin
    case jsonb_typeof(p_value)
    when 'null' then return '\xf6'::bytea;
    when 'boolean' then return case when p_value::boolean then '\xf5'::bytea else '\xf4'::bytea end;
    when 'string' then return $S.cbor_text(p_value #>> '{}');
    when 'number' then
        if position('.' in p_value #>> '{}') > 0 then return $S.cbor_float((p_value #>> '{}')::float8); end if;
        if (p_value #>> '{}')::numeric between -9223372036854775808 and 9223372036854775807 then
            return $S.cbor_int((p_value #>> '{}')::bigint);
        end if;
        raise exception 'the number % is too large for an argument', p_value #>> '{}'
            using errcode = '22003', hint = 'write it as text where the function takes text, or with a point where it takes a float';
    when 'array' then
        for v_row in select value from jsonb_array_elements(p_value) with ordinality as e(value, place) order by place loop
            v_bytes := v_bytes || $S.cbor_json(v_row.value);
            v_count := v_count + 1;
        end loop;
        return $S.cbor_head(4, v_count) || v_bytes;
    else
        for v_row in select $S.cbor_text(key) as key, value from jsonb_each(p_value) order by 1 loop
            v_bytes := v_bytes || v_row.key || $S.cbor_json(v_row.value);
            v_count := v_count + 1;
        end loop;
        return $S.cbor_head(5, v_count) || v_bytes;
    end case;
end
$fn$;

-- Enqueues a call of a module's function with arguments by name, and returns the task's id. The same call again with the
-- same id changes nothing.
create function $S.enqueue(
    module text,
    function text default '',
    args jsonb default '{}',
    queue text default 'default',
    tenant text default 'default',
    version text default null,
    id uuid default null,
    priority int default 0,
    delay interval default '0',
    run_at timestamptz default null,
    ttl interval default null,
    labels jsonb default '{}')
returns uuid language plpgsql as
$fn$
#variable_conflict use_column
declare
    v_now bigint := $S.now();
    v_module record;
    v_function text := '';
    v_lane int;
    v_code int;
    v_id uuid := enqueue.id;
    v_rank int := 9 - enqueue.priority;
    v_delay bigint := greatest(extract(epoch from enqueue.delay) * 1000, 0)::bigint;
    v_run_at bigint := floor(extract(epoch from enqueue.run_at) * 1000)::bigint;
    v_ttl bigint := case when enqueue.ttl is not null then greatest(extract(epoch from enqueue.ttl) * 1000, 0)::bigint end;
    v_keep constant bigint := 86400000;
    v_args bytea;
    v_fields int := 4;
    v_body bytea;
    v_made bigint;
begin
    if v_rank not between 0 and 18 then
        raise exception '`%` is not a priority; it goes from -9 to 9, higher first', enqueue.priority using errcode = '22023';
    end if;
    if enqueue.queue !~ '^[A-Za-z0-9._-]([A-Za-z0-9._/+@:-]{0,126}[A-Za-z0-9._-])?$'
       or enqueue.tenant !~ '^[A-Za-z0-9._-]([A-Za-z0-9._/+@:-]{0,126}[A-Za-z0-9._-])?$' then
        raise exception '`%` or `%` is not a name', enqueue.tenant, enqueue.queue
            using errcode = '22023', hint = 'a name has 1 to 128 letters, digits, `.`, `_` or `-`, and between them also `/`, `+`, `@` and `:`';
    end if;
    if jsonb_typeof(enqueue.labels) <> 'object' or exists (
        select 1 from jsonb_each(enqueue.labels) l where jsonb_typeof(l.value) <> 'string') then
        raise exception 'labels are an object of texts, such as {"customer": "acme"}' using errcode = '22023';
    end if;
    select m.seq, m.digest, m.name, m.version, m.command into v_module from $S.module m
     where m.name = enqueue.module and (enqueue.version is null or m.version = enqueue.version) order by m.seq desc limit 1;
    if not found then
        raise exception 'there is no module `%`%', enqueue.module, coalesce(' with version `' || enqueue.version || '`', '')
            using errcode = '42704', hint = 'push it with `omniq push`';
    end if;
    if enqueue.function <> '' then
        select f.name into v_function from $S.function f
         where f.module = v_module.seq and (f.short = enqueue.function or f.name = enqueue.function) order by f.name = enqueue.function desc limit 1;
        if not found then
            raise exception 'the module `%` has no function `%`', enqueue.module, enqueue.function using errcode = '42704',
                hint = 'it has ' || coalesce((select string_agg('`' || f.short || '`', ', ') from $S.function f where f.module = v_module.seq), 'none');
        end if;
        if jsonb_typeof(enqueue.args) not in ('object', 'array') then
            raise exception 'arguments are an object by name, or an array by position' using errcode = '22023';
        end if;
        v_args := $S.cbor_json(enqueue.args);
    elsif v_module.command then
        if enqueue.args in ('{}', '[]') then
            v_args := '\xa0'::bytea;
        elsif jsonb_typeof(enqueue.args) <> 'array' or exists (
            select 1 from jsonb_array_elements(enqueue.args) a(value) where jsonb_typeof(a.value) <> 'string') then
            raise exception 'the arguments of a command are an array of texts' using errcode = '22023';
        else
            v_args := '\xa101'::bytea || $S.cbor_json(enqueue.args);
        end if;
    else
        raise exception 'the module `%` is no command: say which function', enqueue.module using errcode = '22023';
    end if;
    if v_id is null then
        -- Version 7 (RFC 9562): the milliseconds, then random bits.
        v_id := encode(set_byte(substring(int8send(v_now) from 3) || substring(uuid_send(gen_random_uuid()) from 7), 6,
                                get_byte(uuid_send(gen_random_uuid()), 6) & 15 | 112), 'hex')::uuid;
    end if;

    -- The record of the task; fields that have their default are left out.
    v_body := '\x01'::bytea || $S.cbor_bytes(uuid_send(v_id));
    if enqueue.tenant <> 'default' or enqueue.queue <> 'default' then
        v_fields := v_fields + 1;
        v_body := v_body || '\x02a2'::bytea || $S.cbor_text('tenant') || $S.cbor_text(enqueue.tenant)
                         || $S.cbor_text('queue') || $S.cbor_text(enqueue.queue);
    end if;
    v_body := v_body || '\x03a301'::bytea || $S.cbor_bytes(v_module.digest) || '\x02'::bytea || $S.cbor_text(v_module.name)
                     || '\x03'::bytea || $S.cbor_text(v_module.version);
    if v_function <> '' then
        v_fields := v_fields + 1;
        v_body := v_body || '\x04'::bytea || $S.cbor_text(v_function);
    end if;
    v_body := v_body || '\x058200'::bytea || $S.cbor_bytes(v_args);
    if enqueue.priority <> 0 then
        v_fields := v_fields + 1;
        v_body := v_body || '\x06'::bytea || $S.cbor_int(enqueue.priority);
    end if;
    if v_run_at is not null then
        v_fields := v_fields + 1;
        v_body := v_body || '\x07'::bytea || $S.cbor_int(v_run_at);
    end if;
    if v_delay <> 0 then
        v_fields := v_fields + 1;
        v_body := v_body || '\x08'::bytea || $S.cbor_int(v_delay);
    end if;
    if v_ttl is not null then
        v_fields := v_fields + 1;
        v_body := v_body || '\x09'::bytea || $S.cbor_int(v_ttl);
    end if;
    v_body := v_body || '\x0c'::bytea || $S.cbor_int(v_keep);
    if enqueue.labels <> '{}' then
        v_fields := v_fields + 1;
        v_body := v_body || '\x10'::bytea || $S.cbor_json(enqueue.labels);
    end if;
    v_body := $S.cbor_head(5, v_fields) || v_body;

    select l.id into v_lane from $S.lane l
     where l.tenant = enqueue.tenant and l.queue = enqueue.queue and l.ranks & (1 << v_rank) <> 0;
    if not found then
        insert into $S.lane(tenant, queue, ranks) values(enqueue.tenant, enqueue.queue, 1 << v_rank)
            on conflict (tenant, queue) do update set ranks = lane.ranks | excluded.ranks returning lane.id into v_lane;
    end if;
    select c.id into v_code from $S.code c where c.digest = v_module.digest and c.name = v_module.name
       and c.version = v_module.version and c.key = sha256(convert_to(v_function, 'UTF8'));
    if not found then
        insert into $S.code(digest, name, version, function)
        values(v_module.digest, v_module.name, v_module.version, convert_to(v_function, 'UTF8'))
            on conflict (digest, name, version, key) do update set name = excluded.name returning code.id into v_code;
    end if;
    select p.made into v_made from $S.put_tasks(
        null, array[v_id], array[v_lane], array[v_code], array[v_rank::smallint], array[0::smallint], array[v_run_at],
        array[v_delay], array[v_ttl], array[v_keep], array[0], array[v_body]) p;
    if v_made = 0 and not exists (select 1 from $S.task t where t.id = v_id and t.body = v_body) then
        raise exception 'another task has the id `%`', v_id using errcode = '23505', hint = 'give each task an id of its own';
    end if;
    return v_id;
end
$fn$;

-- Tells workers that there is work, at once instead of when they look next. After the commit, never inside the transaction
-- that enqueues: such transactions would commit one after the other.
create function $S.wake() returns void language sql volatile as
$fn$ select pg_notify('omniq:' || btrim('$S', '"'), 'w') $fn$;
