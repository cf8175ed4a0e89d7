//! The event store, in a file of its own: it has its own writer, so that events never hold tasks up.

use async_trait::async_trait;
use omniq_model::{EventKind, TaskEvent, TaskId, Timestamp, record};
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
        let lines = events.into_iter().map(Line::of).collect();
        self.db.ask(Command::Append(lines), "keep events").await
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

/// What is kept in a row: an event, or an attempt's end and when the attempt began, which are two.
#[derive(Debug)]
pub(super) struct Line {
    event: TaskEvent,
    bytes: Vec<u8>,
    began: Option<Timestamp>,
}

impl Line {
    fn of(mut event: TaskEvent) -> Self {
        let began = event.began.take();
        Self { bytes: record::encode(&event), event, began }
    }

    /// So many bytes go into the store.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The first lines, as many as one statement takes: fence, kind, instant, beginning and record of each, and the ids side
    /// by side, which are all of a length; and how many these are.
    fn pack(lines: &[&Self]) -> (Pack, Vec<u8>, usize) {
        let (mut pack, mut ids) = (Pack::default(), Vec::with_capacity(16 * lines.len()));
        for (taken, line) in lines.iter().enumerate() {
            if pack.is_full() {
                return (pack, ids, taken);
            }
            pack.row(&[
                line.event.fence.cast_signed().into(),
                i64::from(line.event.kind.number()).into(),
                line.event.at.as_millis().into(),
                line.began.map(Timestamp::as_millis).into(),
                Cell::Bytes(&line.bytes),
            ]);
            ids.extend_from_slice(line.event.task.as_bytes());
        }
        (pack, ids, lines.len())
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
        let mut event: TaskEvent = record::decode("event", row.try_get(3)?)
            .map_err(|error| Fault::Corrupt(error.to_string()))?;
        let (position, own): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        if own == 0 {
            event = event.beginning(Timestamp::from_millis(row.try_get(0)?));
        }
        Ok((position.wrapping_mul(2).wrapping_add(own).cast_unsigned(), event))
    };
    rows.iter().map(event).collect()
}

/// Of each row the event it is (`own` is 1), and of those that say when the attempt began also that (0). The position of an
/// event is twice that of its row, and `own`.
fn select(filter: &EventFilter, after: Option<u64>, max: usize) -> Sql {
    let mut sql = Sql::default();
    half(&mut sql, filter, after, max, true);
    if filter.kinds.is_empty() || filter.kinds.contains(&EventKind::Started) {
        sql.push(" union all ");
        half(&mut sql, filter, after, max, false);
    }
    sql.push(" order by 1, 2, 3").limit(max);
    sql
}

fn half(sql: &mut Sql, filter: &EventFilter, after: Option<u64>, max: usize, own: bool) {
    let (at, own) = if own { ("at", 1) } else { ("began", 0) };
    sql.push(&format!(
        "select * from (select {at} as at, position, {own} as own, record from omniq_event e where {at} is not null"
    ));
    if own == 0 {
        // It may have come alone before.
        let alone = format!(
            "s.task = e.task and s.fence = e.fence and s.kind = {}",
            EventKind::Started.number()
        );
        sql.push(&format!(" and not exists(select 1 from omniq_event s where {alone})"));
    }
    if let Some(after) = after {
        // A position that was purged lies before everything that is left.
        let (row, its) = (after / 2, if after % 2 == 1 { "at" } else { "began" });
        let time = format!("coalesce((select {its} from omniq_event where position = ");
        sql.push(&format!(" and ({at}, position) >= (")).push(&time).int(row);
        sql.push("), ").int(i64::MIN).push("), ").int(row).push(")");
        sql.push(&format!(" and ({at}, position, {own}) > (")).push(&time).int(row);
        sql.push("), ").int(i64::MIN).push("), ").int(row).push(", ").int(after % 2).push(")");
    }
    if let Some(task) = filter.task {
        sql.push(" and task = unhex(").text(task.to_string().replace('-', "")).push(")");
    }
    if own == 1 && !filter.kinds.is_empty() {
        let kinds: Vec<_> = filter.kinds.iter().map(|kind| kind.number().to_string()).collect();
        sql.push(" and kind in (").push(&kinds.join(", ")).push(")");
    }
    if let Some(from) = filter.from {
        sql.push(&format!(" and {at} >= ")).int(from.as_millis());
    }
    if let Some(to) = filter.to {
        sql.push(&format!(" and {at} < ")).int(to.as_millis());
    }
    sql.push(&format!(" order by {at}, position")).limit(max).push(")");
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
    pub(super) async fn append(&mut self, lines: &[&Line]) -> Answer<()> {
        packed!(
            WHOLE,
            6,
            "insert into omniq_event(fence, kind, at, began, task, record)
             select {0}, {1}, {2}, {3}, substr(?4, r.key * 16 + 1, 16), {4b} from {rows}
              where true on conflict do nothing"
        );
        let (mut whole, mut plain): (Vec<&Line>, Vec<&Line>) =
            lines.iter().partition(|line| line.began.is_some());
        if self.insert_lines(&WHOLE, &whole).await? == whole.len() as u64 {
            whole.clear();
        }
        let begun = |line: &&Line| Some(Line::of(line.event.beginning(line.began?)));
        let beginnings: Vec<Line> = whole.iter().filter_map(begun).collect();
        plain.extend(beginnings.iter().chain(whole));
        self.append_apart(&plain).await
    }

    /// Keeps each event that is not kept yet in a row of its own.
    async fn append_apart(&mut self, lines: &[&Line]) -> Answer<()> {
        packed!(
            BEGUN,
            6,
            "insert into omniq_event(fence, kind, at, task, record)
             select {0}, {1}, {2}, substr(?4, r.key * 16 + 1, 16), {4b} from {rows}
              where not exists(select 1 from omniq_event e
                                where e.task = substr(?4, r.key * 16 + 1, 16) and e.fence = {0} and e.began is not null)
             on conflict do nothing"
        );
        packed!(
            OTHERS,
            6,
            "insert into omniq_event(fence, kind, at, task, record)
             select {0}, {1}, {2}, substr(?4, r.key * 16 + 1, 16), {4b} from {rows}
              where true on conflict do nothing"
        );
        let (begun, others): (Vec<&Line>, Vec<&Line>) =
            lines.iter().partition(|line| line.event.kind == EventKind::Started);
        for (lines, sql) in [(begun, &BEGUN), (others, &OTHERS)] {
            self.insert_lines(sql, &lines).await?;
        }
        Ok(())
    }

    /// Runs a statement over lines, as many at a time as SQLite takes; returns how many rows it made.
    async fn insert_lines(&mut self, sql: &'static str, mut lines: &[&Line]) -> Answer<u64> {
        let mut rows = 0;
        while !lines.is_empty() {
            let (mut pack, ids, taken) = Line::pack(lines);
            rows += pack.query(sql).bind(ids).execute(&mut *self.conn).await?.rows_affected();
            lines = &lines[taken..];
        }
        Ok(rows)
    }

    /// See [`EventStore::purge`].
    pub(super) async fn purge_events(&mut self, before: Timestamp, max: usize) -> Answer<usize> {
        // Beginnings go with their ends, or before them.
        const PART: &str = "
            update omniq_event set began = null where position in
                (select position from omniq_event where began < ?1 and at >= ?1 order by began, position limit +?2)";
        const PURGE: &str = "
            delete from omniq_event where position in
                (select position from (select position, sum(1 + (began is not null)) over (order by at, position) as events
                                         from (select position, at, began from omniq_event where at < ?1
                                                order by at, position limit +?2))
                  where events <= ?2 + 1)
            returning began is not null";
        let (before, max) = (before.as_millis(), i64::try_from(max).unwrap_or(i64::MAX - 1));
        let gone: Vec<i64> =
            sqlx::query_scalar(PURGE).bind(before).bind(max).fetch_all(&mut *self.conn).await?;
        let gone = gone.iter().fold(0, |sum: usize, part| sum + 1 + usize::from(*part == 1));
        let left = max.saturating_sub(i64::try_from(gone).unwrap_or(i64::MAX));
        if left <= 0 {
            return Ok(gone);
        }
        let parts = sqlx::query(PART).bind(before).bind(left).execute(&mut *self.conn).await?;
        Ok(gone + usize::try_from(parts.rows_affected()).unwrap_or(usize::MAX))
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
