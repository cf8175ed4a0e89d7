//! The task store.

use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};
use sqlx::{PgConnection, Row};

use super::Config;
use super::batch;
use super::claim::{self, RawLease};
use super::command::Command;
use super::database::{Handle, Use};
use super::enqueue::New;
use super::fault::Fault;
use super::finish::RawEnd;
use super::health::HeldSnapshot;
use super::schedule::{self, RawFire};
use super::tx::Tx;
use super::{migrate, read, session, time};
use crate::*;

/// Tasks in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresTasks {
    pub(super) db: Handle,
}

impl PostgresTasks {
    /// Opens the database, and brings its schema up to date; the schema is made if there is none.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the server cannot be used as it is set up, or its user may not do what is needed;
    /// [`Schema`](ErrorKind::Schema) when a newer OmniQ has changed the schema so that this one cannot work with it;
    /// [`NotApplied`](ErrorKind::NotApplied) when the server cannot be reached.
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config).await? })
    }

    /// The place, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config).await? })
    }

    /// Enqueues tasks inside the caller's own transaction on the same database: they are there if and only if it commits.
    ///
    /// The transaction has to be `READ COMMITTED`, which is what PostgreSQL begins unless told otherwise. Workers notice the
    /// tasks within two seconds of the commit, mostly much sooner.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the connection's database has no schema of OmniQ by that name;
    /// [`Unavailable`](ErrorKind::Unavailable) when a statement failed: roll back then, and begin again.
    pub async fn enqueue_in(
        &self,
        conn: &mut PgConnection,
        tasks: Vec<Task>,
    ) -> Result<Vec<Enqueued>> {
        const NOW: &str = "select $S.now()";
        let db = &self.db;
        migrate::expect(conn, &db.schema, &db.config.schema).await?;
        let fail = |fault: Fault| fault.into_error(&db.place, "enqueue tasks in a transaction");
        // Numbers are made outside of the caller's transaction: they stay when it is undone.
        let tasks: Vec<New> = tasks.into_iter().map(New::of).collect();
        let command = Command::Enqueue(tasks);
        let (command, numbers) = db
            .run("enqueue tasks in a transaction", move |db| async move {
                let mut conn = db.acquire().await?;
                let numbers =
                    db.bounded(&mut conn, async |conn| command.numbers(&db, conn).await).await?;
                Ok((command, numbers))
            })
            .await?;
        let Command::Enqueue(tasks) = &command else { return Ok(Vec::new()) };
        let tasks: Vec<&New> = tasks.iter().collect();
        let now = match db.now() {
            Some(now) => now,
            None => {
                let row = db.schema.query(NOW).fetch_one(&mut *conn).await;
                row.and_then(|row| row.try_get(0)).map_err(|error| fail(error.into()))?
            }
        };
        let mut tx = Tx::new(conn, &db.schema, &db.names, Timestamp::from_millis(now));
        let run = async {
            let answers = tx.enqueue(&tasks, &numbers).await?;
            tx.write_counts().await?;
            Ok(answers)
        };
        let answers = run.await.map_err(fail)?;
        self.look_soon();
        Ok(answers)
    }

    /// Nobody says when the caller's transaction commits: so it is looked soon, and a little later, and later again.
    fn look_soon(&self) {
        const LOOKS: [u64; 5] = [5, 20, 100, 400, 1000];
        let db = std::sync::Arc::downgrade(&self.db.arc());
        self.db.runtime.spawn(async move {
            for pause in LOOKS {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let Some(db) = db.upgrade() else { return };
                db.watch.committed(true, false);
            }
        });
    }

    /// Who holds the oldest snapshot for longer than a few seconds, as far as this user may see it. While somebody does,
    /// what tasks leave behind cannot be cleaned up.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn held_snapshot(&self) -> Result<Option<HeldSnapshot>> {
        self.db.run("look for held snapshots", |db| async move { db.held_snapshot().await }).await
    }
}

#[async_trait]
impl TaskStore for PostgresTasks {
    fn caps(&self) -> Caps {
        Caps {
            name: "postgres",
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
        let millis = self.db.run("read its clock", |db| async move { db.clock().await });
        Ok(Timestamp::from_millis(millis.await?))
    }

    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let tasks = tasks.into_iter().map(New::of).collect();
        self.db
            .run(
                "enqueue tasks",
                |db| async move { batch::ask(&db.batchers.enqueues, tasks).await },
            )
            .await
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
        let (id, wants) = (session.id, wants.to_vec());
        let leases = self
            .db
            .run("claim tasks", move |db| async move { claim::claim(&db, id, &wants).await });
        Ok(leases.await?.into_iter().map(RawLease::into_lease).collect())
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        let session = *session;
        let beat = self.db.run("keep a session alive", move |db| async move {
            let now = db.now();
            failpoint::hit("postgres.heartbeat.before_commit");
            let rows = db.fetch(|schema| session::heartbeat(schema, now, &session)).await?;
            failpoint::hit("postgres.heartbeat.after_commit");
            session::read_beat(&rows, held)
        });
        beat.await
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        let id = session.id;
        let cancels = self.db.run("read what is to be stopped", move |db| async move {
            session::read_cancels(&db.fetch(|schema| session::cancels(schema, id)).await?)
        });
        cancels.await
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        self.db.ask(Command::Reconcile(session.id, held.to_vec()), "put lost claims back").await
    }

    async fn finish(&self, _session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let ends = ends.into_iter().map(RawEnd::of).collect();
        self.db
            .run("finish tasks", |db| async move { batch::ask(&db.batchers.ends, ends).await })
            .await
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
        let after = after.cloned();
        let lanes = self.db.run("read the ready lanes", move |db| async move {
            let read = db.read(Use::Keyed, |conn, schema| {
                let after = after.clone();
                Box::pin(async move { read::ready_lanes(conn, schema, after.as_ref(), max).await })
            });
            read.await
        });
        lanes.await
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        let due = self.db.run("make due tasks ready", move |db| async move {
            let now = db.now();
            failpoint::hit("postgres.promote.before_commit");
            let rows = db.fetch(|schema| time::promote(schema, now, max)).await?;
            failpoint::hit("postgres.promote.after_commit");
            let row = rows.first().ok_or_else(|| Fault::Other("an answer had no row".into()))?;
            let due = time::read_due(row)?;
            if due.promoted > 0 {
                db.cursors.forget();
                db.watch.committed(true, false);
            }
            // Who promotes keeps the queue: what is to be done now and then is done beside it.
            tokio::spawn(async move { db.keep().await });
            Ok(due)
        });
        due.await
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
        let tenant = tenant.cloned();
        let schedules = self.db.run("read schedules", move |db| async move {
            let rows = db.fetch(|schema| schedule::schedules(schema, tenant.as_ref())).await?;
            schedule::read_schedules(&rows)
        });
        schedules.await
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        let schedules = self.db.run("read due schedules", move |db| async move {
            let now = db.now();
            let rows = db.fetch(|schema| schedule::due_schedules(schema, now, max)).await?;
            schedule::read_schedules(&rows)
        });
        schedules.await
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        let fires = fires.into_iter().map(RawFire::of).collect();
        self.db.ask(Command::Fire(fires), "fire schedules").await
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        let ids = ids.to_vec();
        let found = self.db.run("read tasks", move |db| async move {
            let read = db.read(Use::Keyed, |conn, schema| {
                let ids = ids.clone();
                Box::pin(async move { read::get(conn, schema, &ids).await })
            });
            read.await
        });
        found.await
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        let filter = filter.clone();
        let page = self.db.run("list tasks", move |db| async move {
            let read = db.read(Use::Report, |conn, schema| {
                let filter = filter.clone();
                Box::pin(async move { read::list(conn, schema, &filter, before, max).await })
            });
            read.await
        });
        page.await
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        let filter = filter.clone();
        let counts = self.db.run("count tasks", move |db| async move {
            let read = db.read(Use::Report, |conn, schema| {
                let filter = filter.clone();
                Box::pin(async move { read::count(conn, schema, &filter).await })
            });
            read.await
        });
        counts.await
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        let ended = self.db.run("read ended tasks", move |db| async move {
            let read = db.read(Use::Keyed, |conn, schema| {
                Box::pin(async move { read::ended(conn, schema, after, max).await })
            });
            read.await
        });
        ended.await
    }

    async fn is_idle(&self) -> Result<bool> {
        let idle = self.db.run("see whether anything is left", |db| async move {
            db.read(Use::Report, |conn, schema| {
                Box::pin(async move { read::is_idle(conn, schema).await })
            })
            .await
        });
        idle.await
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
