//! Tasks on their way to another store and from one, and how much there is of what.

use std::path::Path;

use omniq_model::{Lane, OnParentFailure, SessionId, State, Task, TaskResult, Timestamp, record};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::enqueue::{Batch, New, millis};
use super::fault::Result;
use super::live::{KEYED, RUNS_ANYWAY};
use super::names::Code;
use super::pack::{Cell, Pack, packed};
use super::read;
use super::tx::Tx;
use super::{filter::Sql, names};
use crate::{
    CopyPage, Counts, Durability, Filter, Imported, Stats, TaskCopy, Weakness, WorkerSeen,
};

/// Bytes of tasks and results after which a page ends.
pub(super) const PAGE_BYTES: i64 = 16 << 20;

/// See [`Admin::export`](crate::Admin::export).
pub(super) async fn export(
    conn: &mut SqliteConnection,
    now: Timestamp,
    after: Option<u64>,
    max: usize,
) -> Result<CopyPage> {
    let after = after.map_or(-1, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
    let Some((last, more)) = page(conn, after, max).await? else { return Ok(CopyPage::default()) };
    let mut sql = Sql::default();
    sql.push("with p as (").push(read::LIVE_COLUMNS).push(" where x.seq > ").int(after);
    sql.push(" and x.seq <= ").int(last);
    sql.push(" union all").push(read::DONE_COLUMNS).push(" where x.seq > ?1 and x.seq <= ?2");
    sql.push(
        ") select p.*, (select t.expires from omniq_task t where t.seq = p.seq),
         exists(select 1 from omniq_ukey u where u.holder = p.seq and (u.until is null or u.until > ",
    );
    sql.int(now.as_millis()).push(")) from p order by 1");
    let rows = sql.into_query().fetch_all(conn).await?;
    let items: Vec<TaskCopy> = rows.iter().map(copy).collect::<Result<_>>()?;
    let next = more.then(|| last.cast_unsigned());
    Ok(CopyPage { items, next })
}

/// Where the page after `after` ends, and whether more follow; `None` where nothing does.
async fn page(conn: &mut SqliteConnection, after: i64, max: usize) -> Result<Option<(i64, bool)>> {
    const SIZES: &str = "
        select x.seq, x.size + length(b.bytes) from (
            select seq, ifnull(length(error), 0) as size from omniq_task where seq > ?1
             union all
            select seq, length(result) from omniq_done where seq > ?1
             order by 1 limit +?2
        ) x left join omniq_body b on b.seq = x.seq order by 1";
    let limit = i64::try_from(max.saturating_add(1)).unwrap_or(i64::MAX);
    let rows = sqlx::query(SIZES).bind(after).bind(limit).fetch_all(conn).await?;
    let (mut bytes, mut last) = (0_i64, None);
    for row in rows.iter().take(max) {
        bytes = bytes.saturating_add(row.try_get::<Option<i64>, _>(1)?.unwrap_or(0));
        if last.is_some() && bytes > PAGE_BYTES {
            return Ok(last.map(|last| (last, true)));
        }
        last = Some(row.try_get(0)?);
    }
    Ok(last.map(|last| (last, rows.len() > max)))
}

/// Reads a row of [`export`].
fn copy(row: &SqliteRow) -> Result<TaskCopy> {
    Ok(TaskCopy {
        info: read::info(row)?,
        expires: row.try_get::<Option<i64>, _>(18)?.map(Timestamp::from_millis),
        holds_key: row.try_get::<i64, _>(19)? != 0,
    })
}

/// A task on its way in from another store.
#[derive(Debug)]
pub(super) struct Landing {
    /// As it lands.
    copy: TaskCopy,
    /// Its stored form; `None` where it cannot be read.
    new: Option<New>,
}

impl Landing {
    pub(super) fn of(copy: TaskCopy) -> Self {
        let copy = copy.landed();
        let known = !matches!(copy.info.head.state, State::Other(_));
        let task = copy.info.task.as_ref().ok().filter(|_| known);
        let new = task.map(|task| New::of(Task::clone(task)));
        Self { copy, new }
    }

    pub(super) fn size(&self) -> usize {
        self.new.as_ref().map_or(0, |new| new.bytes.len())
    }
}

/// A task that is taken in.
struct Landed<'a> {
    copy: &'a TaskCopy,
    new: &'a New,
    seq: i64,
    lane: i64,
    state: State,
    due: i64,
    /// Parents that have not ended, each once.
    parents: Vec<i64>,
}

impl Tx<'_> {
    /// See [`Admin::import`](crate::Admin::import).
    pub(super) async fn import(&mut self, landings: &[Landing]) -> Result<Vec<Imported>> {
        let news: Vec<&New> = landings.iter().filter_map(|landing| landing.new.as_ref()).collect();
        let mut batch = Batch::default();
        self.look_up(&mut batch, &news).await?;
        self.look_up_keys(&mut batch, &news).await?;
        let mut answers = Vec::with_capacity(landings.len());
        let mut landed = Vec::new();
        for landing in landings {
            let Some(new) = &landing.new else {
                answers.push(Imported::Unreadable);
                continue;
            };
            if batch.is_known(new.task.id) {
                answers.push(Imported::There);
                continue;
            }
            let holder = batch.holder(&new.task).filter(|_| landing.copy.holds_key);
            if let Some(holder) = holder {
                answers.push(Imported::KeyTaken(holder));
                continue;
            }
            landed.push(self.land(&mut batch, &landing.copy, new).await?);
            answers.push(Imported::Created);
        }
        self.insert_landed(&landed).await?;
        Ok(answers)
    }

    async fn land<'a>(
        &mut self,
        batch: &mut Batch<'a>,
        copy: &'a TaskCopy,
        new: &'a New,
    ) -> Result<Landed<'a>> {
        let (task, head) = (&new.task, &copy.info.head);
        let blocked = head.state == State::Blocked;
        let parents = if blocked { batch.open_parents(task) } else { Vec::new() };
        let starts = task.starts_at(head.created);
        let state = match head.state {
            State::Blocked if !parents.is_empty() => State::Blocked,
            State::Blocked if starts > self.now => State::Scheduled,
            State::Blocked => State::Ready,
            state => state,
        };
        let due = head.run_at.filter(|_| !blocked).unwrap_or(starts).as_millis();
        let lane = self.names.lane(self.conn, &task.lane).await?;
        self.count(lane, state, 1);
        self.notes(state);
        let seq = batch.admit(new, state, copy.holds_key.then_some(self.now), head.created);
        Ok(Landed { copy, new, seq, lane, state, due, parents })
    }

    async fn insert_landed(&mut self, landed: &[Landed<'_>]) -> Result<()> {
        self.insert_bodies(landed).await?;
        self.insert_live(landed).await?;
        self.insert_done(landed).await?;
        let edges = landed.iter().map(|task| (task.seq, task.parents.as_slice()));
        self.insert_edges_to(edges).await?;
        for task in landed {
            if task.copy.holds_key {
                let created = task.copy.info.head.created;
                self.take_key(task.seq, &task.new.task, created, task.state).await?;
            }
        }
        Ok(())
    }

    async fn insert_bodies(&mut self, landed: &[Landed<'_>]) -> Result<()> {
        packed!(
            INSERT,
            5,
            "insert into omniq_body(seq, id, bytes) select {0}, {1b}, {3b} from {rows}"
        );
        let mut pack = Pack::default();
        for task in landed {
            let id = Cell::Bytes(task.new.task.id.as_bytes());
            pack.row(&[task.seq.into(), id, Cell::Bytes(&task.new.bytes)]);
            if pack.is_full() {
                pack.query(&INSERT).execute(&mut *self.conn).await?;
            }
        }
        if !pack.is_empty() {
            pack.query(&INSERT).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    async fn insert_live(&mut self, landed: &[Landed<'_>]) -> Result<()> {
        packed!(
            INSERT,
            20,
            "insert into omniq_task(seq, lane, code, state, rank, ttl, keep, flags, attempt, crashes, fence, created,
                    started, due, expires, waits, cancel, id, error)
             select {0}, {1}, {2}, {3}, {4}, {5?}, {6}, {7}, {8}, {9}, {10}, {11}, {12?}, {13}, {14?}, {15}, 0, {16b},
                    nullif({18b}, x'') from {rows}"
        );
        let mut pack = Pack::default();
        for task in landed.iter().filter(|task| !task.state.is_terminal()) {
            let row = self.landed_columns(task).await?;
            let error = task.copy.info.head.error.as_ref().map(record::encode);
            let rest = [
                task.due.into(),
                task.copy.expires.map(Timestamp::as_millis).into(),
                i64::try_from(task.parents.len()).unwrap_or(i64::MAX).into(),
                Cell::Bytes(task.new.task.id.as_bytes()),
                Cell::Bytes(error.as_deref().unwrap_or_default()),
            ];
            pack.row(&[&row[..], &rest].concat());
        }
        if !pack.is_empty() {
            pack.query(&INSERT).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    async fn insert_done(&mut self, landed: &[Landed<'_>]) -> Result<()> {
        packed!(
            INSERT,
            20,
            "insert into omniq_done(seq, lane, code, state, rank, ttl, keep, flags, attempt, crashes, fence, created,
                    started, finished, forget, cancel, id, result)
             select {0}, {1}, {2}, {3}, {4}, {5?}, {6}, {7}, {8}, {9}, {10}, {11}, {12?}, {13}, {14}, {15}, {16b}, {18b}
               from {rows}"
        );
        let mut pack = Pack::default();
        for task in landed.iter().filter(|task| task.state.is_terminal()) {
            let row = self.landed_columns(task).await?;
            let head = &task.copy.info.head;
            let result = match &head.result {
                Some(result) => record::encode(result),
                None => record::encode(&TaskResult::default()),
            };
            let finished = head.finished.unwrap_or(self.now);
            let rest = [
                finished.as_millis().into(),
                (finished + task.new.task.result_ttl.get()).as_millis().into(),
                i64::from(head.cancel_requested).into(),
                Cell::Bytes(task.new.task.id.as_bytes()),
                Cell::Bytes(&result),
            ];
            pack.row(&[&row[..], &rest].concat());
            if pack.is_full() {
                pack.query(&INSERT).execute(&mut *self.conn).await?;
            }
        }
        if !pack.is_empty() {
            pack.query(&INSERT).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// The columns both tables have: seq, lane, code, state, rank, ttl, keep, flags, attempt, crashes, fence, created,
    /// started.
    async fn landed_columns(&mut self, landed: &Landed<'_>) -> Result<[Cell<'static>; 13]> {
        let (task, head) = (&landed.new.task, &landed.copy.info.head);
        let code = self.names.code(self.conn, Code::of(task)).await?;
        let keyed = if task.unique.is_some() { KEYED } else { 0 };
        let runs = task.on_parent_failure == OnParentFailure::Run;
        Ok([
            landed.seq.into(),
            landed.lane.into(),
            code.into(),
            i64::from(landed.state.number()).into(),
            i64::from(-task.priority.get()).into(),
            task.ttl.map(|ttl| millis(ttl.get())).into(),
            millis(task.result_ttl.get()).into(),
            (keyed | if runs { RUNS_ANYWAY } else { 0 }).into(),
            i64::from(head.attempt).into(),
            i64::from(head.crashes).into(),
            i64::try_from(head.fence).unwrap_or(i64::MAX).into(),
            head.created.as_millis().into(),
            head.started.map(Timestamp::as_millis).into(),
        ])
    }
}

/// See [`Admin::stats`](crate::Admin::stats).
pub(super) async fn stats(conn: &mut SqliteConnection, now: Timestamp) -> Result<Stats> {
    let counts: Counts = read::count(conn, &Filter::default()).await?;
    const OLDEST: &str = "select created from omniq_task where state = 2 order by seq limit 1";
    const HISTORY: &str = "select min(finished), max(finished) from omniq_done";
    const BYTES: &str = "
        select (page_count - freelist_count) * page_size, freelist_count * page_size
          from pragma_page_count, pragma_freelist_count, pragma_page_size";
    let oldest: Option<i64> = sqlx::query_scalar(OLDEST).fetch_optional(&mut *conn).await?;
    let history = sqlx::query(HISTORY).fetch_one(&mut *conn).await?;
    let at = |index| -> Result<Option<Timestamp>> {
        Ok(history.try_get::<Option<i64>, _>(index)?.map(Timestamp::from_millis))
    };
    let bytes = sqlx::query(BYTES).fetch_one(&mut *conn).await?;
    let bytes_of = |index| -> Result<u64> { Ok(bytes.try_get::<i64, _>(index)?.cast_unsigned()) };
    Ok(Stats {
        counts,
        paused: paused(conn).await?,
        workers: workers(conn, now).await?,
        oldest_ready: oldest.map(Timestamp::from_millis),
        history: at(0)?.zip(at(1)?),
        bytes: vec![("used", bytes_of(0)?), ("free for use", bytes_of(1)?)],
    })
}

async fn paused(conn: &mut SqliteConnection) -> Result<Vec<Lane>> {
    const PAUSED: &str =
        "select tenant, queue from omniq_lane where paused <> 0 order by tenant, queue";
    let rows = sqlx::query(PAUSED).fetch_all(conn).await?;
    rows.iter().map(|row| names::lane(row.try_get(0)?, row.try_get(1)?)).collect()
}

async fn workers(conn: &mut SqliteConnection, now: Timestamp) -> Result<Vec<WorkerSeen>> {
    const WORKERS: &str = "
        select s.id, s.name, s.expires,
               (select count(*) from omniq_task t where t.state = 3 and t.session = s.id)
          from omniq_session s where s.expires >= ?1 order by s.name, s.id";
    let rows = sqlx::query(WORKERS).bind(now.as_millis()).fetch_all(conn).await?;
    let worker = |row: &SqliteRow| {
        Ok(WorkerSeen {
            session: SessionId::new(row.try_get::<i64, _>(0)?.cast_unsigned()),
            name: row.try_get(1)?,
            until: Timestamp::from_millis(row.try_get(2)?),
            holds: row.try_get::<i64, _>(3)?.cast_unsigned(),
        })
    };
    rows.iter().map(worker).collect()
}

/// What SQLite calls itself.
pub(super) async fn version(conn: &mut SqliteConnection) -> Result<String> {
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(conn).await?;
    Ok(format!("SQLite {version}"))
}

/// What of a file's promise is weaker than is good.
pub(super) fn weaknesses(durability: Durability, path: &Path, reserve: u64) -> Vec<Weakness> {
    let what = match durability {
        Durability::Disk => None,
        Durability::Os => {
            Some("an answered write survives a crash of the process, not one of the machine")
        }
        Durability::None => Some("an answered write may be lost"),
    };
    let mut weaker: Vec<Weakness> = what
        .map(|what| Weakness {
            what: what.into(),
            next: "set `OMNIQ_DURABILITY=disk` where that matters".into(),
        })
        .into_iter()
        .collect();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let lacking = super::space::lacking(folder.unwrap_or(Path::new(".")), reserve);
    weaker.extend(lacking.map(|what| Weakness {
        what: format!("no new tasks are accepted: {what}"),
        next: "free some space, or let finished tasks expire sooner".into(),
    }));
    weaker
}
