//! The event store, in a file of its own: it has its own writer, so that events never hold tasks up.

use async_trait::async_trait;
use omniq_model::{TaskEvent, TaskId, Timestamp, record};
use sqlx::{Row, SqliteConnection};

use super::command::Command;
use super::config::Config;
use super::database::Handle;
use super::fault::{Fault, Result as Answer};
use super::filter::Sql;
use super::live::task_id;
use super::migrate;
use super::pack::{Cell, Pack, packed};
use super::tx::Tx;
use crate::{Durability, EventFilter, EventStore, Result};

/// Events in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteEvents {
    db: Handle,
}

impl SqliteEvents {
    /// Opens the file, or creates it; see [`SqliteTasks::open`](super::SqliteTasks::open).
    ///
    /// Events that the last moments before a loss of power brought are repaired from the tasks, so that nothing waits for
    /// the disk: [`Durability::Disk`] is the same as [`Durability::Os`] here.
    ///
    /// # Errors
    /// As [`SqliteTasks::open`](super::SqliteTasks::open).
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(relaxed(config), migrate::EVENTS).await? })
    }

    /// The same, shared with whoever has the file open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(relaxed(config), migrate::EVENTS).await? })
    }
}

fn relaxed(mut config: Config) -> Config {
    if config.durability == Durability::Disk {
        config.durability = Durability::Os;
    }
    config
}

#[async_trait]
impl EventStore for SqliteEvents {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn append(&self, events: Vec<TaskEvent>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let encoded = |event: TaskEvent| (record::encode(&event), event);
        let events = events.into_iter().map(encoded).collect();
        self.db.ask(Command::Append(events), "keep events").await
    }

    async fn query(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, TaskEvent)>> {
        let mut reader = self.db.reader().await?;
        let found = query(reader.conn(), filter, after, max).await;
        found.map_err(|fault| self.db.error(fault, "read events"))
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<usize> {
        self.db.ask(Command::PurgeEvents(before, max), "forget events").await
    }

    async fn watermark(&self) -> Result<(Timestamp, TaskId)> {
        let mut reader = self.db.reader().await?;
        let mark = watermark(reader.conn()).await;
        mark.map_err(|fault| self.db.error(fault, "read the watermark"))
    }

    async fn set_watermark(&self, mark: (Timestamp, TaskId)) -> Result<()> {
        self.db.ask(Command::SetWatermark(mark), "move the watermark").await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

async fn query(
    conn: &mut SqliteConnection,
    filter: &EventFilter,
    after: Option<u64>,
    max: usize,
) -> Answer<Vec<(u64, TaskEvent)>> {
    let rows = select(filter, after, max).into_query().fetch_all(conn).await?;
    let event = |row: &sqlx::sqlite::SqliteRow| {
        let event = record::decode("event", row.try_get(1)?)
            .map_err(|error| Fault::Corrupt(error.to_string()))?;
        Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), event))
    };
    rows.iter().map(event).collect()
}

fn select(filter: &EventFilter, after: Option<u64>, max: usize) -> Sql {
    let mut sql = Sql::default();
    sql.push("select position, record from omniq_event where true");
    if let Some(after) = after {
        // A position that was purged lies before everything that is left.
        sql.push(" and (at, position) > (coalesce((select at from omniq_event where position = ");
        sql.int(after).push("), ").int(i64::MIN).push("), ").int(after).push(")");
    }
    if let Some(task) = filter.task {
        sql.push(" and task = unhex(").text(task.to_string().replace('-', "")).push(")");
    }
    if !filter.kinds.is_empty() {
        let kinds: Vec<_> = filter.kinds.iter().map(|kind| kind.number().to_string()).collect();
        sql.push(" and kind in (").push(&kinds.join(", ")).push(")");
    }
    if let Some(from) = filter.from {
        sql.push(" and at >= ").int(from.as_millis());
    }
    if let Some(to) = filter.to {
        sql.push(" and at < ").int(to.as_millis());
    }
    sql.push(" order by at, position limit ").int(max);
    sql
}

async fn watermark(conn: &mut SqliteConnection) -> Answer<(Timestamp, TaskId)> {
    const MARK: &str = "
        select (select value from omniq_meta where key = 'mark_at'),
               (select value from omniq_meta where key = 'mark_id')";
    let row = sqlx::query(MARK).fetch_one(conn).await?;
    match (row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<&[u8]>, _>(1)?) {
        (Some(at), Some(id)) => Ok((Timestamp::from_millis(at), task_id(id)?)),
        // No task has the lowest of all ids: it is no UUID that anybody makes.
        _ => Ok((Timestamp::from_millis(i64::MIN), TaskId::from_bytes([0; 16]))),
    }
}

impl Tx<'_> {
    /// See [`EventStore::append`].
    pub(super) async fn append(&mut self, events: &[&(Vec<u8>, TaskEvent)]) -> Answer<()> {
        packed!(
            APPEND,
            7,
            "insert into omniq_event(fence, kind, at, task, record)
             select {0}, {1}, {2}, {3b}, {5b} from {rows} where true on conflict do nothing"
        );
        let mut pack = Pack::default();
        for (bytes, event) in events {
            pack.row(&[
                event.fence.cast_signed().into(),
                i64::from(event.kind.number()).into(),
                event.at.as_millis().into(),
                Cell::Bytes(event.task.as_bytes()),
                Cell::Bytes(bytes),
            ]);
        }
        pack.query(&APPEND).execute(&mut *self.conn).await?;
        Ok(())
    }

    /// See [`EventStore::purge`].
    pub(super) async fn purge_events(&mut self, before: Timestamp, max: usize) -> Answer<usize> {
        const PURGE: &str = "
            delete from omniq_event where position in
                (select position from omniq_event where at < ?1 order by at, position limit ?2)";
        let done = sqlx::query(PURGE)
            .bind(before.as_millis())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .execute(&mut *self.conn)
            .await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    /// See [`EventStore::set_watermark`].
    pub(super) async fn set_watermark(&mut self, mark: (Timestamp, TaskId)) -> Answer<()> {
        const SET: &str = "
            insert into omniq_meta(key, value) values('mark_at', ?1), ('mark_id', ?2)
            on conflict do update set value = excluded.value";
        if mark > watermark(self.conn).await? {
            sqlx::query(SET)
                .bind(mark.0.as_millis())
                .bind(mark.1.as_bytes().to_vec())
                .execute(&mut *self.conn)
                .await?;
        }
        Ok(())
    }
}
