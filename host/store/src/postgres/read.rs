//! Looking, without changing anything.

use std::collections::HashMap;

use omniq_model::{
    Head, Kind, Lane, SessionId, State, TaskError, TaskId, TaskResult, Timestamp, Token, record,
};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::claim::decode;
use super::copy::PAGE_BYTES;
use super::fault::Result;
use super::filter::{self, ENDED, LIVE, Order, places, table};
use super::live::{CANCEL, number, small, state};
use super::names;
use super::sql::{Schema, Sql, count as limit, task_id, uuid, uuids};
use crate::{Counts, Filter, Info, Page};

/// What is to be known about the tasks `t` of a source.
macro_rules! info {
    ($from:literal) => {
        concat!(
            "select t.seq, t.id, l.tenant, l.queue, x.state, x.attempt, x.crashes, x.fence, x.nonce, x.session, x.flags,
                    t.created, x.due, x.started, x.finished, x.error, x.result, t.body
               from ",
            $from,
            " cross join lateral (select * from $S.state x
                                   where x.seq = t.seq and x.id = t.id and x.lane = t.lane and x.rank = t.rank offset 0) x
              cross join lateral (select l.tenant, l.queue from $S.lane l where l.id = t.lane offset 0) l"
        )
    };
}

/// See [`TaskStore::get`](crate::TaskStore::get).
pub(super) async fn get(
    conn: &mut PgConnection,
    schema: &Schema,
    wanted: &[TaskId],
) -> Result<Vec<Option<Info>>> {
    const GET: &str = info!(
        "unnest($1::uuid[]) as u(id)
         cross join lateral (select * from $S.task t where t.id = u.id offset 0) t"
    );
    let rows = schema.query(GET).bind(uuids(wanted)).fetch_all(conn).await?;
    let found: Vec<Info> = rows.iter().map(info).collect::<Result<_>>()?;
    let found: HashMap<TaskId, Info> = found.into_iter().map(|info| (info.id, info)).collect();
    Ok(wanted.iter().map(|id| found.get(id).cloned()).collect())
}

/// The tasks between two places, the last one included, in the order of arrival.
pub(super) async fn between(
    conn: &mut PgConnection,
    schema: &Schema,
    after: i64,
    last: i64,
) -> Result<Vec<Info>> {
    const BETWEEN: &str = concat!(
        info!("(select y.* from $S.task y where y.seq > $1 and y.seq <= $2) t"),
        " order by t.seq"
    );
    let rows = schema.query(BETWEEN).bind(after).bind(last).fetch_all(conn).await?;
    rows.iter().map(info).collect()
}

/// See [`TaskStore::list`](crate::TaskStore::list).
pub(super) async fn list(
    conn: &mut PgConnection,
    schema: &Schema,
    filter: &Filter,
    before: Option<u64>,
    max: usize,
) -> Result<Page> {
    let states = filter::of_states(filter, &[LIVE, ENDED].concat());
    if states.is_empty() {
        return Ok(Page::default()); // states of a newer version only
    }
    let more = max.saturating_add(1);
    let mut before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
    let mut ids: Vec<TaskId> = Vec::new();
    loop {
        let step = if filter.labels.is_empty() { more - ids.len() } else { 500 };
        let sql = places(filter, &states, Order::Newest, before, step, "");
        let rows = sql.into_query(schema).fetch_all(&mut *conn).await?;
        for row in &rows {
            before = row.try_get(0)?;
            if filter::fits_labels(filter, row.try_get::<Option<&[u8]>, _>(3)?.unwrap_or_default())
            {
                ids.push(task_id(row.try_get(1)?));
            }
            if ids.len() == more {
                break;
            }
        }
        if ids.len() >= more || rows.len() < step {
            break;
        }
    }
    let is_more = ids.len() == more;
    ids.truncate(max);
    // What was forgotten in between is left out; what moved on is shown as it is now.
    let items: Vec<Info> = get(conn, schema, &ids).await?.into_iter().flatten().collect();
    let next = items.last().map(|info| info.head.seq).filter(|_| is_more);
    Ok(Page { items, next })
}

/// See [`TaskStore::count`](crate::TaskStore::count).
pub(super) async fn count(
    conn: &mut PgConnection,
    schema: &Schema,
    filter: &Filter,
) -> Result<Counts> {
    if filter::is_of_lanes_only(filter) {
        return tally(conn, schema, filter).await;
    }
    let mut counts = Counts::new();
    let states = filter::of_states(filter, &[LIVE, ENDED].concat());
    if states.is_empty() {
        return Ok(counts);
    }
    if !filter.labels.is_empty() || !filter.ids.is_empty() {
        return count_one_by_one(conn, schema, filter, &states).await;
    }
    let mut sql = Sql::default();
    for (index, state) in states.iter().filter(|state| !state.is_terminal()).enumerate() {
        let number = number(*state).to_string();
        sql.push(if index == 0 { "" } else { " union all " });
        sql.push("select ").push(&number).push("::smallint, count(*) from $S.").push(table(*state));
        sql.push(" x join $S.task t on t.seq = x.seq where true");
        filter::conditions(filter, &mut sql);
    }
    let ended: Vec<i16> =
        states.iter().filter(|state| state.is_terminal()).map(|state| number(*state)).collect();
    if !ended.is_empty() {
        sql.push(if ended.len() == states.len() { "" } else { " union all " });
        sql.push("select x.state, count(*) from $S.done x join $S.task t on t.seq = x.seq where x.state = any(");
        sql.numbers(ended).push(")");
        filter::conditions(filter, &mut sql);
        sql.push(" group by x.state");
    }
    for row in sql.into_query(schema).fetch_all(conn).await? {
        let count: i64 = row.try_get(1)?;
        if count > 0 {
            *counts.entry(state(row.try_get(0)?)).or_default() += count.cast_unsigned();
        }
    }
    Ok(counts)
}

async fn count_one_by_one(
    conn: &mut PgConnection,
    schema: &Schema,
    filter: &Filter,
    states: &[State],
) -> Result<Counts> {
    const STEP: usize = 1000;
    let (mut counts, mut after) = (Counts::new(), -1_i64);
    loop {
        let sql = places(filter, states, Order::Oldest, after, STEP, "");
        let rows = sql.into_query(schema).fetch_all(&mut *conn).await?;
        for row in &rows {
            after = row.try_get(0)?;
            if filter::fits_labels(filter, row.try_get::<Option<&[u8]>, _>(3)?.unwrap_or_default())
            {
                *counts.entry(state(row.try_get(2)?)).or_default() += 1;
            }
        }
        if rows.len() < STEP {
            return Ok(counts);
        }
    }
}

async fn tally(conn: &mut PgConnection, schema: &Schema, filter: &Filter) -> Result<Counts> {
    let mut sql = Sql::default();
    sql.push("select c.state, sum(c.count)::bigint from $S.tally c join $S.lane l on l.id = c.lane where true");
    filter::lane_conditions(filter, &mut sql);
    sql.push(" group by c.state");
    let mut counts = Counts::new();
    for row in sql.into_query(schema).fetch_all(conn).await? {
        let state = state(row.try_get(0)?);
        let count: i64 = row.try_get(1)?;
        if !filter::of_states(filter, &[state]).is_empty() && count > 0 {
            counts.insert(state, count.cast_unsigned());
        }
    }
    Ok(counts)
}

/// See [`TaskStore::ended`](crate::TaskStore::ended).
pub(super) async fn ended(
    conn: &mut PgConnection,
    schema: &Schema,
    after: (Timestamp, TaskId),
    max: usize,
) -> Result<Vec<Info>> {
    const ENDED: &str = "
        select t.seq, t.id, l.tenant, l.queue, x.state, x.attempt, x.crashes, x.fence, x.nonce, null::bigint, x.flags,
               t.created, null::bigint, x.started, x.finished, null::bytea, x.result, t.body
          from (select * from $S.done d where d.finished >= $1 and (d.finished, d.id) > ($1, $2)
                 order by d.finished, d.id limit $3) x
         cross join lateral (select * from $S.task t where t.seq = x.seq offset 0) t
         cross join lateral (select l.tenant, l.queue from $S.lane l where l.id = t.lane offset 0) l
         order by x.finished, x.id";
    const SIZES: &str = "
        select octet_length(t.body)::bigint + octet_length(x.result)::bigint
          from (select * from $S.done d where d.finished >= $1 and (d.finished, d.id) > ($1, $2)
                 order by d.finished, d.id limit $3) x
         cross join lateral (select * from $S.task t where t.seq = x.seq offset 0) t
         order by x.finished, x.id";
    let query =
        |sql, max| schema.query(sql).bind(after.0.as_millis()).bind(uuid(after.1)).bind(limit(max));
    let (mut bytes, mut fitting) = (0_i64, 0);
    for row in query(SIZES, max).fetch_all(&mut *conn).await? {
        bytes = bytes.saturating_add(row.try_get::<Option<i64>, _>(0)?.unwrap_or(0));
        if fitting > 0 && bytes > PAGE_BYTES {
            break;
        }
        fitting += 1;
    }
    query(ENDED, fitting).fetch_all(conn).await?.iter().map(info).collect()
}

/// See [`TaskStore::is_idle`](crate::TaskStore::is_idle).
pub(super) async fn is_idle(conn: &mut PgConnection, schema: &Schema) -> Result<bool> {
    const ANY: &str = "
        select exists (select 1 from $S.ready) or exists (select 1 from $S.lease) or exists (select 1 from $S.scheduled)
            or exists (select 1 from $S.blocked)";
    let any: bool = schema.query(ANY).fetch_one(conn).await?.try_get(0)?;
    Ok(!any)
}

/// See [`TaskStore::ready_lanes`](crate::TaskStore::ready_lanes).
pub(super) async fn ready_lanes(
    conn: &mut PgConnection,
    schema: &Schema,
    after: Option<&Lane>,
    max: usize,
) -> Result<Vec<Lane>> {
    let mut sql = Sql::default();
    // Hops from lane to lane over the index, so that it costs the lanes with work, not all that ever were.
    sql.push("with recursive hop(lane) as ((select r.lane from $S.ready r order by r.lane limit 1) union all");
    sql.push(
        " select (select r.lane from $S.ready r where r.lane > hop.lane order by r.lane limit 1)",
    );
    sql.push(" from hop where hop.lane is not null) select l.tenant, l.queue from hop");
    sql.push(" cross join lateral (select * from $S.lane l where l.id = hop.lane offset 0) l where not l.paused");
    if let Some(after) = after {
        sql.push(" and (l.tenant, l.queue) > (").text(after.tenant.as_str());
        sql.push(", ").text(after.queue.as_str()).push(")");
    }
    sql.push(" order by l.tenant, l.queue limit ").int(max);
    let rows = sql.into_query(schema).fetch_all(conn).await?;
    rows.iter().map(|row| names::lane(row.try_get(0)?, row.try_get(1)?)).collect()
}

/// Reads a row of [`info!`] or [`ended`].
fn info(row: &PgRow) -> Result<Info> {
    let state = state(row.try_get(4)?);
    let fence: i64 = row.try_get(7)?;
    let nonce: Option<i64> = row.try_get(8)?;
    let session: Option<i64> = row.try_get(9)?;
    let millis = |index| -> Result<Option<Timestamp>> {
        Ok(row.try_get::<Option<i64>, _>(index)?.map(Timestamp::from_millis))
    };
    let token =
        Token { fence: fence.cast_unsigned(), nonce: nonce.unwrap_or_default().cast_unsigned() };
    let result = row.try_get::<Option<&[u8]>, _>(16)?.map(result);
    let error = row.try_get::<Option<&[u8]>, _>(15)?.map(error);
    Ok(Info {
        id: task_id(row.try_get(1)?),
        lane: names::lane(row.try_get(2)?, row.try_get(3)?)?,
        task: decode(row.try_get(17)?),
        head: Head {
            state,
            seq: row.try_get::<i64, _>(0)?.cast_unsigned(),
            attempt: small(row.try_get(5)?),
            crashes: small(row.try_get(6)?),
            fence: fence.cast_unsigned(),
            lease: session.map(|id| (SessionId::new(id.cast_unsigned()), token)),
            cancel_requested: row.try_get::<i16, _>(10)? & CANCEL != 0,
            created: Timestamp::from_millis(row.try_get(11)?),
            run_at: millis(12)?.filter(|_| state == State::Scheduled),
            started: millis(13)?,
            finished: millis(14)?,
            error: error.or_else(|| result.as_ref().and_then(|result| result.error.clone())),
            result,
        },
    })
}

/// A result as it was kept; one that cannot be read says so, instead of hiding its task.
fn result(bytes: &[u8]) -> TaskResult {
    record::decode("result", bytes).unwrap_or_else(|error| TaskResult::failure(unreadable(&error)))
}

fn error(bytes: &[u8]) -> TaskError {
    record::decode("error", bytes).unwrap_or_else(|error| unreadable(&error))
}

fn unreadable(error: &omniq_model::DecodeError) -> TaskError {
    TaskError::new(Kind::Undecodable, error.to_string())
}
