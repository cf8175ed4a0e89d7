//! The task store.

use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};
use sqlx::SqliteConnection;

use super::Config;
use super::claim::{Claim, RawLease};
use super::command::Command;
use super::copy::{self, Landing};
use super::database::Handle;
use super::enqueue::New;
use super::fault::Fault;
use super::finish::RawEnd;
use super::migrate;
use super::names::Names;
use super::read;
use super::schedule::RawFire;
use super::session;
use super::tx::Tx;
use crate::*;

/// Tasks in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteTasks {
    pub(super) db: Handle,
}

impl SqliteTasks {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the file or its folder cannot be used, [`Corrupt`](ErrorKind::Corrupt) when it
    /// is no database, [`Schema`](ErrorKind::Schema) when a newer OmniQ has written it,
    /// [`Unavailable`](ErrorKind::Unavailable) when another process does not let go of it.
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config, migrate::TASKS).await? })
    }

    /// The file, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config, migrate::TASKS).await? })
    }

    /// Enqueues tasks inside the caller's own transaction on the same file: they are there if and only if it commits.
    ///
    /// Begin it with `BEGIN IMMEDIATE`: one that begins by reading may be refused when it comes to write. Workers of this
    /// process notice the tasks as those of other processes do, some milliseconds after the commit.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the connection's database has no tables of OmniQ;
    /// [`Unavailable`](ErrorKind::Unavailable) when a statement failed: roll back then.
    pub async fn enqueue_in(
        &self,
        conn: &mut SqliteConnection,
        tasks: Vec<Task>,
    ) -> Result<Vec<Enqueued>> {
        migrate::TASKS.expect(conn).await?;
        let tasks: Vec<New> = tasks.into_iter().map(New::of).collect();
        let tasks: Vec<&New> = tasks.iter().collect();
        let mut names = Names::default();
        let mut tx = Tx::new(conn, &mut names, self.db.config.clock.now());
        let run = async {
            let answers = tx.enqueue(&tasks).await?;
            tx.write_counts().await?;
            Ok(answers)
        };
        run.await.map_err(|fault: Fault| self.db.error(fault, "enqueue tasks in a transaction"))
    }
}

#[async_trait]
impl TaskStore for SqliteTasks {
    fn caps(&self) -> Caps {
        Caps {
            name: "sqlite",
            durable: self.db.config.durability != Durability::None,
            shared: true,
            atomic_batch: true,
            external_transaction: true,
        }
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.db.config.clock.now())
    }

    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let tasks = tasks.into_iter().map(New::of).collect();
        self.db.ask(Command::Enqueue(tasks), "enqueue tasks").await
    }

    async fn open_session(
        &self,
        id: SessionId,
        worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        let open = Command::OpenSession(id, worker.name.clone(), lease);
        self.db.ask(open, "open a session").await
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        self.db.ask(Command::CloseSession(session.id), "close a session").await
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        if wants.is_empty() {
            return Ok(Vec::new());
        }
        let claim = Claim { session: session.id, wants: wants.to_vec() };
        let leases: Vec<RawLease> = self.db.ask(Command::Claim(claim), "claim tasks").await?;
        Ok(leases.into_iter().map(RawLease::into_lease).collect())
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        self.db.ask(Command::Heartbeat(*session, held), "keep a session alive").await
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        let mut reader = self.db.reader().await?;
        let cancels = session::cancels(reader.conn(), session.id).await;
        cancels.map_err(|fault| self.db.error(fault, "read what is to be stopped"))
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        self.db.ask(Command::Reconcile(session.id, held.to_vec()), "put lost claims back").await
    }

    async fn finish(&self, _session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let ends = ends.into_iter().map(RawEnd::of).collect();
        self.db.ask(Command::Finish(ends), "finish tasks").await
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        self.db.ask(Command::Cancel(select.clone()), "cancel tasks").await
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        self.db.ask(Command::Retry(select.clone()), "retry tasks").await
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        self.db.ask(Command::Remove(select.clone()), "remove tasks").await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        self.db.ask(Command::Pause(lane.clone(), paused), "pause a lane").await
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        let mut reader = self.db.reader().await?;
        let lanes = read::ready_lanes(reader.conn(), after, max).await;
        lanes.map_err(|fault| self.db.error(fault, "read the ready lanes"))
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        self.db.ask(Command::Promote(max), "make due tasks ready").await
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        self.db.ask(Command::Reclaim(max), "take tasks from dead sessions").await
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        self.db.ask(Command::Expire(max), "expire tasks").await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.db.ask(Command::Purge(max), "forget ended tasks").await
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        self.db.ask(Command::PutSchedules(schedules), "keep schedules").await
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        self.db.ask(Command::RemoveSchedules(names.to_vec()), "remove schedules").await
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        let mut reader = self.db.reader().await?;
        let schedules = read::schedules(reader.conn(), tenant).await;
        schedules.map_err(|fault| self.db.error(fault, "read schedules"))
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        let now = self.db.config.clock.now();
        let mut reader = self.db.reader().await?;
        let schedules = read::due_schedules(reader.conn(), now, max).await;
        schedules.map_err(|fault| self.db.error(fault, "read due schedules"))
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        let fires = fires.into_iter().map(RawFire::of).collect();
        self.db.ask(Command::Fire(fires), "fire schedules").await
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        let mut reader = self.db.reader().await?;
        let found = read::get(reader.conn(), ids).await;
        found.map_err(|fault| self.db.error(fault, "read tasks"))
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        let mut reader = self.db.reader().await?;
        let page = read::list(reader.conn(), filter, before, max).await;
        page.map_err(|fault| self.db.error(fault, "list tasks"))
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        let mut reader = self.db.reader().await?;
        let counts = read::count(reader.conn(), filter).await;
        counts.map_err(|fault| self.db.error(fault, "count tasks"))
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        let mut reader = self.db.reader().await?;
        let ended = read::ended(reader.conn(), after, max).await;
        ended.map_err(|fault| self.db.error(fault, "read ended tasks"))
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.db.watch.now(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        self.db.watch.changed(interest, seen, timeout).await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

#[async_trait]
impl Admin for SqliteTasks {
    async fn check(&self) -> Result<Report> {
        let mut reader = self.db.reader().await?;
        let layout = migrate::TASKS.read(reader.conn()).await;
        let layout = layout.map_err(|fault| self.db.error(fault, "read its schema"))?;
        let version = copy::version(reader.conn()).await;
        let version = version.map_err(|fault| self.db.error(fault, "read its version"))?;
        let Config { durability, path, reserve, .. } = &self.db.config;
        let weaker = copy::weaknesses(*durability, path, *reserve);
        Ok(Report { version, durability: *durability, layout: Some(layout), weaker })
    }

    async fn finish_migration(&self) -> Result<Layout> {
        self.db.ask(Command::FinishMigration, "finish its migration").await
    }

    async fn restored(&self) -> Result<Restored> {
        self.db.ask(Command::Restored, "note that it was restored").await
    }

    async fn stats(&self) -> Result<Stats> {
        let now = self.db.config.clock.now();
        let mut reader = self.db.reader().await?;
        let stats = copy::stats(reader.conn(), now).await;
        stats.map_err(|fault| self.db.error(fault, "count what is in it"))
    }

    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage> {
        let now = self.db.config.clock.now();
        let mut reader = self.db.reader().await?;
        let page = copy::export(reader.conn(), now, after, max).await;
        page.map_err(|fault| self.db.error(fault, "export tasks"))
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> Result<Vec<Imported>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let landings = tasks.into_iter().map(Landing::of).collect();
        self.db.ask(Command::Import(landings), "import tasks").await
    }
}
