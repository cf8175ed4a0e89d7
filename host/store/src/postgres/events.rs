//! The event store: a partition for each day, dropped whole when its time has come.

use std::collections::BTreeSet;

use async_trait::async_trait;
use omniq_model::{TaskEvent, TaskId, Timestamp, record};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;

use super::PostgresTasks;
use super::command::Command;
use super::config::Config;
use super::database::Handle;
use super::fault::{Fault, Result as Answer};
use super::sql::{Bound, Schema, Sql, count, uuid};
use super::tx::Tx;
use crate::{EventFilter, EventStore, Result};

/// Milliseconds of a day.
pub(super) const DAY: i64 = 86_400_000;

/// Events in a PostgreSQL database: their own, or that of tasks.
#[derive(Debug, Clone)]
pub struct PostgresEvents {
    db: Handle,
}

impl PostgresEvents {
    /// Opens a place of its own; see [`PostgresTasks::open`].
    ///
    /// Events that the last moments before the server's death brought are repaired from the tasks, so that nothing waits for
    /// the disk here.
    ///
    /// # Errors
    /// As [`PostgresTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config).await? })
    }

    /// Events beside these tasks, by the same connections.
    pub fn beside(tasks: &PostgresTasks) -> Self {
        Self { db: tasks.db.beside() }
    }

    /// The place, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config).await? })
    }
}

#[async_trait]
impl EventStore for PostgresEvents {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn append(&self, events: Vec<TaskEvent>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let apart = events.into_iter().map(TaskEvent::apart);
        let events = apart.flat_map(|(began, event)| began.into_iter().chain([event]));
        let encoded = |event: TaskEvent| (record::encode(&event), event);
        let events = events.map(encoded).collect();
        self.db.ask(Command::Append(events), "keep events").await
    }

    async fn query(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, TaskEvent)>> {
        let filter = filter.clone();
        let found = self.db.run("read events", move |db| async move {
            let rows = db.fetch(|schema| select(schema, &filter, after, max)).await?;
            rows.iter().map(event).collect()
        });
        found.await
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<usize> {
        // Days that are over go whole, the first one whatever is in it: that costs next to nothing.
        let days = Command::DropDays("event", before.as_millis(), Some(max));
        let dropped: usize = self.db.ask(days, "forget days of events").await?;
        if dropped >= max {
            return Ok(dropped);
        }
        let rest = Command::PurgeEvents(before, max - dropped);
        Ok(dropped + self.db.ask::<usize>(rest, "forget events").await?)
    }

    async fn watermark(&self) -> Result<(Timestamp, TaskId)> {
        let mark = self.db.run("read the watermark", |db| async move {
            mark(&db.fetch(|schema| schema.query(MARK)).await?)
        });
        mark.await
    }

    async fn set_watermark(&self, mark: (Timestamp, TaskId)) -> Result<()> {
        self.db.ask(Command::SetWatermark(mark), "move the watermark").await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

/// Positions are given in the order of arrival; a page goes on after the instant and position of the last one.
fn select(schema: &Schema, filter: &EventFilter, after: Option<u64>, max: usize) -> Bound {
    let mut sql = Sql::default();
    sql.push("select position, record from $S.event e where true");
    if let Some(after) = after {
        // A position that was purged lies before everything that is left.
        sql.push(
            " and (e.at, e.position) > (coalesce((select a.at from $S.event a where a.position = ",
        );
        sql.int(after).push("), ").int(i64::MIN).push("), ").int(after).push(")");
    }
    if let Some(task) = filter.task {
        sql.push(" and e.task = any(").ids(&[task]).push(")");
    }
    if !filter.kinds.is_empty() {
        let kinds = filter.kinds.iter().map(|kind| i16::from(kind.number())).collect();
        sql.push(" and e.kind = any(").numbers(kinds).push(")");
    }
    if let Some(from) = filter.from {
        sql.push(" and e.at >= ").int(from.as_millis());
    }
    if let Some(to) = filter.to {
        sql.push(" and e.at < ").int(to.as_millis());
    }
    sql.push(" order by e.at, e.position limit ").int(max);
    sql.into_query(schema)
}

fn event(row: &PgRow) -> Answer<(u64, TaskEvent)> {
    let event = record::decode("event", row.try_get(1)?)
        .map_err(|error| Fault::Corrupt(error.to_string()))?;
    Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), event))
}

const MARK: &str = "select value from $S.meta where key = 'event_mark'";

/// Reads the answer to [`MARK`].
fn mark(rows: &[PgRow]) -> Answer<(Timestamp, TaskId)> {
    // No task has the lowest of all ids: it is no UUID that anybody makes.
    let none = (Timestamp::from_millis(i64::MIN), TaskId::from_bytes([0; 16]));
    let Some(row) = rows.first() else { return Ok(none) };
    let text: String = row.try_get(0)?;
    let parts =
        text.split_once(' ').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    let (at, id) = parts.ok_or_else(|| Fault::Corrupt(format!("`{text}` is no watermark")))?;
    Ok((Timestamp::from_millis(at), id))
}

/// The earliest instant at which something can have happened to a task: a day before its id was made, if that tells, since
/// clocks differ. It spares a look at older days.
fn earliest(task: TaskId) -> i64 {
    let bytes = task.as_bytes();
    if bytes[6] >> 4 != 7 {
        return i64::MIN;
    }
    let made = bytes[..6].iter().fold(0_i64, |made, byte| made << 8 | i64::from(*byte));
    made - DAY
}

impl Tx<'_> {
    /// See [`EventStore::append`].
    pub(super) async fn append(&mut self, events: &[(Vec<u8>, TaskEvent)]) -> Answer<()> {
        // One who appends at a time: nobody else can bring the same event meanwhile.
        const LOCK: &str = "
            select pg_advisory_xact_lock(hashtextextended('omniq events $S', 0)), set_config('synchronous_commit', 'off', true)";
        const APPEND: &str = "
            insert into $S.event(at, task, fence, kind, record)
            select u.at, u.task, u.fence, u.kind, u.record
              from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::smallint[], $5::bytea[], $6::bigint[])
                       with ordinality as u(at, task, fence, kind, record, earliest, place)
             where not exists (select 1 from $S.event e where e.task = u.task and e.fence = u.fence and e.kind = u.kind
                                                          and e.at >= u.earliest offset 0)
             order by u.place";
        self.query(LOCK).execute(&mut *self.conn).await?;
        let mut seen = BTreeSet::new();
        let fresh = |event: &TaskEvent| (event.task, event.fence, event.kind);
        let events: Vec<_> = events.iter().filter(|(_, event)| seen.insert(fresh(event))).collect();
        let query = self
            .query(APPEND)
            .bind(events.iter().map(|(_, event)| event.at.as_millis()).collect::<Vec<i64>>())
            .bind(events.iter().map(|(_, event)| uuid(event.task)).collect::<Vec<Uuid>>())
            .bind(events.iter().map(|(_, event)| event.fence.cast_signed()).collect::<Vec<i64>>())
            .bind(
                events
                    .iter()
                    .map(|(_, event)| i16::from(event.kind.number()))
                    .collect::<Vec<i16>>(),
            )
            .bind(events.iter().map(|(bytes, _)| bytes.as_slice()).collect::<Vec<_>>())
            .bind(events.iter().map(|(_, event)| earliest(event.task)).collect::<Vec<i64>>());
        match query.execute(&mut *self.conn).await.map_err(Fault::from) {
            Err(Fault::NoDay) => Err(Fault::NoDays(
                events.iter().map(|(_, event)| event.at.as_millis().div_euclid(DAY)).collect(),
            )),
            done => done.map(drop),
        }
    }

    /// See [`EventStore::purge`].
    pub(super) async fn purge_events(&mut self, before: Timestamp, max: usize) -> Answer<usize> {
        const PURGE: &str = "
            delete from $S.event e
             using (select at, position from $S.event where at < $1 order by at, position limit $2) o
             where e.at = o.at and e.position = o.position";
        let query = self.query(PURGE).bind(before.as_millis()).bind(count(max));
        let done = query.execute(&mut *self.conn).await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Drops the partitions of days that were over by then: empty ones, or also others with about so many rows. Tells how
    /// many went with them.
    pub(super) async fn drop_days(
        &mut self,
        table: &'static str,
        before: i64,
        max: Option<usize>,
    ) -> Answer<usize> {
        const DROP: &str = "select $S.drop_days($1, $2, $3)";
        // Others do not wait long behind the lock that this waits for.
        sqlx::raw_sql("set local lock_timeout = 200").execute(&mut *self.conn).await?;
        let query = self.query(DROP).bind(table).bind(before).bind(max.map(count));
        let gone: i64 = query.fetch_one(&mut *self.conn).await?.try_get(0)?;
        Ok(usize::try_from(gone).unwrap_or(0))
    }

    /// See [`EventStore::set_watermark`].
    pub(super) async fn set_watermark(&mut self, new: (Timestamp, TaskId)) -> Answer<()> {
        const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('omniq mark $S', 0))";
        const SET: &str = "
            insert into $S.meta(key, value) values('event_mark', $1)
            on conflict (key) do update set value = excluded.value";
        self.query(LOCK).execute(&mut *self.conn).await?;
        let current = mark(&self.query(MARK).fetch_all(&mut *self.conn).await?)?;
        if new > current {
            let text = format!("{} {}", new.0.as_millis(), new.1);
            self.query(SET).bind(text).execute(&mut *self.conn).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_before_when_nothing_can_have_happened() {
        let at = 1_700_000_000_000;
        assert_eq!(earliest(TaskId::new(Timestamp::from_millis(at), [0; 10])), at - DAY);
        assert_eq!(earliest(TaskId::derived(&[b"nightly"])), i64::MIN);
    }
}
