//! Looking, without changing anything.

use std::collections::HashMap;

use omniq_model::{
    Head, Kind, Schedule, SessionId, State, TaskError, TaskId, TaskResult, Timestamp, Token, record,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::claim::decode;
use super::copy::PAGE_BYTES;
use super::fault::{Fault, Result};
use super::filter::Sql;
use super::live::{small, state, task_id};
use super::names;
use crate::{Counts, Filter, Info, Page};

/// States of tasks in the hot table.
pub(super) const LIVE: [State; 4] =
    [State::Blocked, State::Scheduled, State::Ready, State::Running];
/// States of tasks in the history.
pub(super) const ENDED: [State; 4] =
    [State::Succeeded, State::Failed, State::Cancelled, State::Expired];

pub(super) const LIVE_COLUMNS: &str = "
    select x.seq, x.id, l.tenant, l.queue, x.state, x.attempt, x.crashes, x.fence, x.nonce, x.session, x.cancel,
           x.created, x.due, x.started, null as finished, x.error, null as result, b.bytes
      from omniq_task x cross join omniq_lane l on l.id = x.lane left join omniq_body b on b.seq = x.seq";
pub(super) const DONE_COLUMNS: &str = "
    select x.seq, x.id, l.tenant, l.queue, x.state, x.attempt, x.crashes, x.fence, x.nonce, null, x.cancel,
           x.created, null, x.started, x.finished, null, x.result, b.bytes
      from omniq_done x cross join omniq_lane l on l.id = x.lane left join omniq_body b on b.seq = x.seq";

/// See [`TaskStore::get`](crate::TaskStore::get).
pub(super) async fn get(
    conn: &mut SqliteConnection,
    wanted: &[TaskId],
) -> Result<Vec<Option<Info>>> {
    let mut sql = Sql::default();
    sql.push(LIVE_COLUMNS).push(" where ").ids(wanted);
    sql.push(" union all").push(DONE_COLUMNS).push(" where ").ids(wanted);
    let rows = sql.into_query().fetch_all(conn).await?;
    let found: Vec<Info> = rows.iter().map(info).collect::<Result<_>>()?;
    let found: HashMap<TaskId, Info> = found.into_iter().map(|info| (info.id, info)).collect();
    Ok(wanted.iter().map(|id| found.get(id).cloned()).collect())
}

/// Tasks that fit, before the place `before`, the newest first, labels not looked at.
fn newest(filter: &Filter, before: Option<u64>, max: usize) -> Sql {
    let mut sql = Sql::default();
    let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
    let (live, ended) = (filter.wants(&LIVE), filter.wants(&ENDED));
    for (wanted, columns) in [(live, LIVE_COLUMNS), (ended, DONE_COLUMNS)] {
        if wanted {
            if live && ended && columns == DONE_COLUMNS {
                sql.push(" union all");
            }
            sql.push(columns).push(" where x.seq < ").int(before);
            filter.conditions(&mut sql);
            if columns == DONE_COLUMNS && !filter.wants(&[State::Succeeded]) {
                sql.push(" and x.state <> 4"); // so that the index of few is used
            }
        }
    }
    sql.push(" order by 1 desc").limit(max);
    sql
}

/// See [`TaskStore::list`](crate::TaskStore::list).
pub(super) async fn list(
    conn: &mut SqliteConnection,
    filter: &Filter,
    mut before: Option<u64>,
    max: usize,
) -> Result<Page> {
    let mut items: Vec<Info> = Vec::new();
    if !filter.wants(&LIVE) && !filter.wants(&ENDED) {
        return Ok(Page::default()); // states of a newer version only
    }
    let more = max.saturating_add(1);
    loop {
        let step = if filter.labels.is_empty() { more - items.len() } else { 500 };
        let rows = newest(filter, before, step).into_query().fetch_all(&mut *conn).await?;
        for row in &rows {
            before = Some(row.try_get::<i64, _>(0)?.cast_unsigned());
            if filter.fits_labels(row.try_get::<Option<&[u8]>, _>(17)?.unwrap_or_default()) {
                items.push(info(row)?);
            }
            if items.len() == more {
                break;
            }
        }
        if items.len() >= more || rows.len() < step {
            break;
        }
    }
    let next = if items.len() == more { items.pop() } else { None };
    let next = next.and_then(|_| items.last().map(|info| info.head.seq));
    Ok(Page { items, next })
}

/// See [`TaskStore::count`](crate::TaskStore::count).
pub(super) async fn count(conn: &mut SqliteConnection, filter: &Filter) -> Result<Counts> {
    if filter.is_of_lanes_only() {
        return tally(conn, filter).await;
    }
    let mut counts = Counts::new();
    for (wanted, table) in
        [(filter.wants(&LIVE), "omniq_task"), (filter.wants(&ENDED), "omniq_done")]
    {
        if !wanted {
            continue;
        }
        let mut sql = Sql::default();
        if filter.labels.is_empty() {
            sql.push("select x.state, count(*) from ").push(table).push(" x where true");
            filter.conditions(&mut sql);
            sql.push(" group by x.state");
            for row in sql.into_query().fetch_all(&mut *conn).await? {
                let count: i64 = row.try_get(1)?;
                *counts.entry(state(row.try_get(0)?)).or_default() += count.cast_unsigned();
            }
        } else {
            count_labelled(conn, filter, table, &mut counts).await?;
        }
    }
    Ok(counts)
}

async fn count_labelled(
    conn: &mut SqliteConnection,
    filter: &Filter,
    table: &'static str,
    counts: &mut Counts,
) -> Result<()> {
    const STEP: usize = 1000;
    let mut after = -1_i64;
    loop {
        let mut sql = Sql::default();
        sql.push("select x.seq, x.state, b.bytes from ").push(table);
        sql.push(" x cross join omniq_body b on b.seq = x.seq where x.seq > ").int(after);
        filter.conditions(&mut sql);
        sql.push(" order by x.seq").limit(STEP);
        let rows = sql.into_query().fetch_all(&mut *conn).await?;
        for row in &rows {
            after = row.try_get(0)?;
            if filter.fits_labels(row.try_get(2)?) {
                *counts.entry(state(row.try_get(1)?)).or_default() += 1;
            }
        }
        if rows.len() < STEP {
            return Ok(());
        }
    }
}

async fn tally(conn: &mut SqliteConnection, filter: &Filter) -> Result<Counts> {
    let mut sql = Sql::default();
    sql.push(
        "select c.state, sum(c.count) from omniq_tally c cross join omniq_lane l on l.id = c.lane",
    );
    sql.push(" where c.count <> 0");
    filter.lane_conditions(&mut sql);
    sql.push(" group by c.state");
    let mut counts = Counts::new();
    for row in sql.into_query().fetch_all(conn).await? {
        let state = state(row.try_get(0)?);
        let count: i64 = row.try_get(1)?;
        if filter.wants(&[state]) && count > 0 {
            counts.insert(state, count.cast_unsigned());
        }
    }
    Ok(counts)
}

/// See [`TaskStore::ended`](crate::TaskStore::ended).
pub(super) async fn ended(
    conn: &mut SqliteConnection,
    after: (Timestamp, TaskId),
    max: usize,
) -> Result<Vec<Info>> {
    const SIZES: &str = "
        select length(x.result) + ifnull(length(b.bytes), 0) from omniq_done x left join omniq_body b on b.seq = x.seq";
    let (mut bytes, mut fitting) = (0_i64, 0);
    for row in ended_after(SIZES, after, max).into_query().fetch_all(&mut *conn).await? {
        bytes = bytes.saturating_add(row.try_get(0)?);
        if fitting > 0 && bytes > PAGE_BYTES {
            break;
        }
        fitting += 1;
    }
    let rows = ended_after(DONE_COLUMNS, after, fitting).into_query().fetch_all(conn).await?;
    rows.iter().map(info).collect()
}

/// These columns of tasks that ended after that one.
fn ended_after(columns: &str, after: (Timestamp, TaskId), max: usize) -> Sql {
    let mut sql = Sql::default();
    let at = after.0.as_millis();
    sql.push(columns).push(" where x.finished >= ").int(at);
    sql.push(" and (x.finished, x.id) > (")
        .int(at)
        .push(", unhex(")
        .text(after.1.to_string().replace('-', ""))
        .push("))");
    sql.push(" order by x.finished, x.id").limit(max);
    sql
}

/// See [`TaskStore::ready_lanes`](crate::TaskStore::ready_lanes).
pub(super) async fn ready_lanes(
    conn: &mut SqliteConnection,
    after: Option<&omniq_model::Lane>,
    max: usize,
) -> Result<Vec<omniq_model::Lane>> {
    let mut sql = Sql::default();
    // Hops from lane to lane over the index, so that it costs the lanes with work, not all that ever were.
    sql.push(
        "with recursive some(lane) as (select min(lane) from omniq_task where state = 2 union all",
    );
    sql.push(" select (select min(lane) from omniq_task where state = 2 and lane > some.lane)");
    sql.push(" from some where some.lane is not null)");
    sql.push(" select l.tenant, l.queue from some cross join omniq_lane l on l.id = some.lane");
    sql.push(" where l.paused = 0");
    if let Some(after) = after {
        sql.push(" and (l.tenant, l.queue) > (").text(after.tenant.as_str());
        sql.push(", ").text(after.queue.as_str()).push(")");
    }
    sql.push(" order by l.tenant, l.queue").limit(max);
    let rows = sql.into_query().fetch_all(conn).await?;
    rows.iter().map(|row| names::lane(row.try_get(0)?, row.try_get(1)?)).collect()
}

/// See [`TaskStore::schedules`](crate::TaskStore::schedules).
pub(super) async fn schedules(
    conn: &mut SqliteConnection,
    tenant: Option<&omniq_model::Name>,
) -> Result<Vec<Schedule>> {
    let mut sql = Sql::default();
    sql.push("select record, version from omniq_schedule where true");
    if let Some(tenant) = tenant {
        sql.push(" and tenant = ").text(tenant.as_str());
    }
    sql.push(" order by tenant, name");
    read_schedules(&sql.into_query().fetch_all(conn).await?)
}

/// See [`TaskStore::due_schedules`](crate::TaskStore::due_schedules).
pub(super) async fn due_schedules(
    conn: &mut SqliteConnection,
    now: Timestamp,
    max: usize,
) -> Result<Vec<Schedule>> {
    let mut sql = Sql::default();
    sql.push("select record, version from omniq_schedule");
    sql.push(" where paused = 0 and next is not null and next <= ").int(now.as_millis());
    sql.push(" order by next, tenant, name").limit(max);
    read_schedules(&sql.into_query().fetch_all(conn).await?)
}

fn read_schedules(rows: &[SqliteRow]) -> Result<Vec<Schedule>> {
    let schedule = |row: &SqliteRow| {
        let schedule: Schedule = record::decode("schedule", row.try_get(0)?)
            .map_err(|error| Fault::Corrupt(error.to_string()))?;
        let version: i64 = row.try_get(1)?;
        Ok(Schedule { version: version.cast_unsigned(), ..schedule })
    };
    rows.iter().map(schedule).collect()
}

/// Reads a row of [`LIVE_COLUMNS`] or [`DONE_COLUMNS`].
pub(super) fn info(row: &SqliteRow) -> Result<Info> {
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
        id: task_id(row.try_get(1)?)?,
        lane: names::lane(row.try_get(2)?, row.try_get(3)?)?,
        task: decode(row.try_get::<Option<&[u8]>, _>(17)?.unwrap_or_default()),
        head: Head {
            state,
            seq: row.try_get::<i64, _>(0)?.cast_unsigned(),
            attempt: small(row.try_get(5)?),
            crashes: small(row.try_get(6)?),
            fence: fence.cast_unsigned(),
            lease: session.map(|id| (SessionId::new(id.cast_unsigned()), token)),
            cancel_requested: row.try_get::<i64, _>(10)? != 0,
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
