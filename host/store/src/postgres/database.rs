//! An open database: its connections, on a runtime of their own, so that it does not matter which runtime calls come from and
//! how long that lives.

use std::collections::HashMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use tokio::runtime::{Builder, Handle as RuntimeHandle, Runtime};
use tokio::time::timeout;

use super::batch::Batchers;
use super::claim::Cursors;
use super::command::{Answer, Command, run};
use super::config::Config;
use super::fault::{Fault, Result};
use super::health::Trouble;
use super::names::Names;
use super::pool::{Breaks, STANDBY, pool, sync};
use super::sql::{Bound, PINS, Schema};
use super::tx::Tx;
use super::watch::Watch;
use super::{listen, start};
use crate::{Durability, Error, failpoint};
use omniq_model::Timestamp;

/// A store's hold on an open database, which is closed when the last one lets go.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    db: Arc<Database>,
    released: AtomicBool,
}

impl Handle {
    pub(super) async fn open(config: Config) -> crate::Result<Self> {
        Ok(Self::on(&Database::open(config).await?))
    }

    /// The place as it is open in this process, so that it has one set of connections here; opened if it is not.
    pub(super) async fn shared(config: Config) -> crate::Result<Self> {
        type Open = tokio::sync::Mutex<HashMap<(String, Durability), Weak<Database>>>;
        static OPEN: LazyLock<Open> = LazyLock::new(Open::default);
        let mut open = OPEN.lock().await;
        let key = (config.key.clone(), config.durability);
        if let Some(db) = open.get(&key).and_then(Weak::upgrade)
            && !db.is_closed()
        {
            return Ok(Self::on(&db));
        }
        open.retain(|_, db| db.strong_count() > 0);
        let db = Database::open(config).await?;
        open.insert(key, Arc::downgrade(&db));
        Ok(Self::on(&db))
    }

    /// Another store's hold on the same database.
    pub(super) fn beside(&self) -> Self {
        Self::on(&self.0.db)
    }

    fn on(db: &Arc<Database>) -> Self {
        db.holds.fetch_add(1, Ordering::AcqRel);
        Self(Arc::new(Hold { db: Arc::clone(db), released: AtomicBool::new(false) }))
    }

    /// Lets go. The connections are closed if nobody else holds them.
    pub(super) async fn close(&self) -> crate::Result<()> {
        if self.0.release() {
            let db = Arc::clone(&self.0.db);
            let closing = self.0.db.runtime.spawn(async move { db.close().await });
            let _ = closing.await; // it is gone either way
        }
        Ok(())
    }

    /// The database, to be held weakly.
    pub(super) fn arc(&self) -> Arc<Database> {
        Arc::clone(&self.0.db)
    }

    fn check(&self) -> crate::Result<()> {
        let released = self.0.released.load(Ordering::Acquire);
        if released { Err(Error::Closed("postgres")) } else { Ok(()) }
    }

    /// Carries work out on the database's runtime. It is carried out also when the call is dropped.
    pub(super) async fn run<T, F>(
        &self,
        action: &'static str,
        work: impl FnOnce(Arc<Database>) -> F,
    ) -> crate::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.check()?;
        let done = self.0.db.runtime.spawn(work(Arc::clone(&self.0.db))).await;
        let done = done.map_err(|_| {
            Error::unavailable("postgres", action, "the store went away before it answered")
        })?;
        done.map_err(|fault| fault.into_error(&self.0.db.place, action))
    }

    /// Has a command carried out in a transaction.
    pub(super) async fn ask<T>(&self, command: Command, action: &'static str) -> crate::Result<T>
    where
        T: TryFrom<Answer, Error = Fault> + Send + 'static,
    {
        self.run(action, |db| async move { T::try_from(db.command(&command).await?) }).await
    }
}

impl Deref for Handle {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.0.db
    }
}

impl Hold {
    /// Tells whether nobody holds the database any more.
    fn release(&self) -> bool {
        !self.released.swap(true, Ordering::AcqRel)
            && self.db.holds.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.release() {
            self.db.closed.store(true, Ordering::Release);
            let db = Arc::clone(&self.db);
            self.db.runtime.spawn(async move { db.close().await });
        }
    }
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Calls that look rows up by key: the planner is held to the indices.
    Keyed,
    /// Reports: the planner may do what it thinks best.
    Report,
}

/// A future that borrows a connection.
pub(super) type OnConnection<'c, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>;

/// An open database. What is in it is seen through the stores made of it.
#[derive(Debug)]
pub(super) struct Database {
    pub config: Config,
    pub schema: Schema,
    pub names: Names,
    pub watch: Arc<Watch>,
    pub cursors: Cursors,
    pub trouble: Trouble,
    pub batchers: Batchers,
    pub place: String,
    pub pool: PgPool,
    pub runtime: RuntimeHandle,
    /// Dropped with it, without waiting: the last hold may be let go of in async code.
    owned: Mutex<Option<Runtime>>,
    breaks: Arc<Breaks>,
    holds: AtomicUsize,
    closed: AtomicBool,
}

impl Drop for Database {
    fn drop(&mut self) {
        let runtime =
            self.owned.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Database {
    async fn open(config: Config) -> crate::Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("omniq-postgres")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::Config(format!("the store's runtime did not start: {error}"))
            })?;
        let handle = runtime.handle().clone();
        let opened = handle.spawn(Self::open_on(config, handle.clone())).await;
        let opened = opened.unwrap_or_else(|_| Err(Error::Closed("postgres")));
        match opened {
            Ok(db) => {
                *db.owned.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(runtime);
                Ok(db)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    async fn open_on(config: Config, runtime: RuntimeHandle) -> crate::Result<Arc<Self>> {
        let schema = Schema::new(&config.schema, !config.pooled);
        start::prepare(&config, &schema).await?;
        let breaks = Arc::new(Breaks::default());
        let (batchers, queues) = Batchers::new();
        let db = Arc::new(Self {
            place: config.place(),
            pool: pool(&config, &breaks),
            names: Names::default(),
            watch: Arc::new(Watch::default()),
            cursors: Cursors::default(),
            trouble: Trouble::default(),
            owned: Mutex::new(None),
            holds: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            config,
            schema,
            batchers,
            runtime,
            breaks,
        });
        let fail = |fault: Fault| fault.into_error(&db.place, "make partitions for its days");
        db.make_days().await.map_err(fail)?;
        queues.serve(&db);
        listen::start(&db);
        Ok(db)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Lets what is under way end, and closes the connections.
    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = timeout(self.config.patience, self.pool.close()).await; // those that hang break with the process
    }

    /// The instant by a test's clock; `None`: the server is to look at its own.
    pub(super) fn now(&self) -> Option<i64> {
        self.config.clock.as_ref().map(|clock| clock.now().as_millis())
    }

    /// The time now.
    pub(super) async fn clock(&self) -> Result<i64> {
        const NOW: &str = "select $S.now()";
        if let Some(now) = self.now() {
            return Ok(now);
        }
        let rows = self.fetch(|schema| schema.query(NOW)).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }

    /// A connection, once one is free or can be made.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>> {
        self.breaks.pause().await;
        self.pool.acquire().await.map_err(|error| match Fault::on_connect(error) {
            Fault::NotReached(_) if self.breaks.met_standby() => Fault::NotReached(STANDBY.into()),
            fault => fault,
        })
    }

    /// Makes the partitions of today and tomorrow.
    pub(super) async fn make_days(&self) -> Result<()> {
        for ahead in [0, 1] {
            self.make_day("done", ahead).await?;
        }
        Ok(())
    }

    async fn make_day(&self, table: &'static str, ahead: i64) -> Result<()> {
        const MAKE: &str = "select $S.make_day($1, coalesce($2, $S.now()) + $3 * 86400000)";
        let now = self.now();
        self.fetch(move |schema| schema.query(MAKE).bind(table).bind(now).bind(ahead)).await?;
        Ok(())
    }

    /// Makes the partition of events for a day, counted from 1970.
    async fn make_event_day(&self, day: i64) -> Result<()> {
        const MAKE: &str = "select $S.make_day('event', $1 * 86400000)";
        self.fetch(move |schema| schema.query(MAKE).bind(day)).await?;
        Ok(())
    }

    /// Has one statement carried out by itself; once more if it collided with others.
    pub(super) async fn fetch(
        &self,
        make: impl Fn(&Schema) -> Bound + Send + Sync,
    ) -> Result<Vec<PgRow>> {
        let mut tries = Tries::default();
        loop {
            let mut conn = self.acquire().await?;
            let done = self
                .bounded(&mut conn, async |conn| self.fetch_on(conn, make(&self.schema)).await)
                .await;
            drop(conn);
            match done {
                Err(fault) => tries.again(self, fault).await?,
                done => return done,
            }
        }
    }

    async fn fetch_on(&self, conn: &mut PgConnection, query: Bound) -> Result<Vec<PgRow>> {
        if !self.config.pooled {
            return Ok(query.fetch_all(conn).await?);
        }
        // A pooler may give each statement another connection, unless a transaction holds them together.
        self.begin(conn, Use::Keyed).await?;
        let done = query.fetch_all(&mut *conn).await.map_err(Fault::from);
        self.end(conn, done).await
    }

    /// Reads something in a transaction, so that one instant is seen, and with a planner for that use.
    pub(super) async fn read<T: Send>(
        &self,
        of: Use,
        work: impl for<'c> Fn(&'c mut PgConnection, &'c Schema) -> OnConnection<'c, T> + Send + Sync,
    ) -> Result<T> {
        let mut tries = Tries::default();
        loop {
            let mut conn = self.acquire().await?;
            let done = self
                .bounded(&mut conn, async |conn| {
                    if of == Use::Keyed && !self.config.pooled {
                        return work(conn, &self.schema).await;
                    }
                    self.begin(conn, of).await?;
                    let done = work(conn, &self.schema).await;
                    self.end(conn, done).await
                })
                .await;
            drop(conn);
            match done {
                Err(fault) => tries.again(self, fault).await?,
                done => return done,
            }
        }
    }

    /// Has a command carried out in a transaction; once more if it collided with others.
    pub(super) async fn command(&self, command: &Command) -> Result<Answer> {
        let mut tries = Tries::default();
        loop {
            match self.transact(command).await {
                Err(fault) => tries.again(self, fault).await?,
                done => return done,
            }
        }
    }

    async fn transact(&self, command: &Command) -> Result<Answer> {
        let mut conn = self.acquire().await?;
        let (work, ends, answer) = self
            .bounded(&mut conn, async |conn| {
                let numbers = command.numbers(self, conn).await?;
                let now = self.begin(conn, Use::Keyed).await?;
                let mut tx = Tx::new(conn, &self.schema, &self.names, now);
                let mut done = run(&mut tx, command, &numbers).await;
                if done.is_ok() {
                    let counted = tx.write_counts().await;
                    done = counted.and(done);
                }
                let (work, ends) = (tx.work, tx.ends);
                hit(command.kind(), "before_commit");
                let answer = self.end(conn, done).await?;
                hit(command.kind(), "after_commit");
                Ok((work, ends, answer))
            })
            .await?;
        if work {
            self.cursors.forget();
        }
        self.watch.committed(work, ends);
        Ok(answer)
    }

    /// Begins a transaction; the instant of it. What it sets is gone with it, so that a pooler may stand in between.
    async fn begin(&self, conn: &mut PgConnection, of: Use) -> Result<Timestamp> {
        let millis = self.config.patience.as_millis();
        let sync = sync(self.config.durability);
        let pins = match of {
            Use::Report => "set local enable_seqscan = on; set local enable_bitmapscan = on; set local enable_hashjoin = on;
                            set local enable_mergejoin = on; set local plan_cache_mode = auto;",
            Use::Keyed if self.config.pooled => PINS,
            Use::Keyed => "",
        };
        let session = if self.config.pooled {
            format!(
                "set local synchronous_commit = {sync}; set local statement_timeout = {millis}; set local lock_timeout = 5000;
                 set local idle_in_transaction_session_timeout = {millis};"
            )
        } else {
            String::new()
        };
        let begin =
            format!("begin isolation level read committed; {pins} {session} select $S.now()");
        let row = sqlx::raw_sql(AssertSqlSafe(self.schema.fill(&begin))).fetch_one(conn).await?;
        let now = self.now();
        Ok(Timestamp::from_millis(now.map_or_else(|| row.try_get(0), Ok)?))
    }

    /// Works outside of any transaction, where it may: through a pooler each statement is sent in two steps that would reach
    /// different servers without one.
    pub(super) async fn apart<T>(
        &self,
        conn: &mut PgConnection,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        if !self.config.pooled {
            return work(conn).await;
        }
        self.begin(conn, Use::Keyed).await?;
        let done = work(&mut *conn).await;
        self.end(conn, done).await
    }

    /// Commits if all went well, otherwise undoes everything.
    async fn end<T>(&self, conn: &mut PgConnection, done: Result<T>) -> Result<T> {
        match done {
            Ok(done) => {
                sqlx::raw_sql("commit").execute(conn).await?;
                Ok(done)
            }
            Err(fault) => {
                if !fault.is_of_connection()
                    && sqlx::raw_sql("rollback").execute(conn).await.is_err()
                {
                    return Err(Fault::Lost(fault.to_string()));
                }
                Err(fault)
            }
        }
    }

    /// Works with a connection for as long as a call may take. One that broke or hangs is thrown away.
    pub(super) async fn bounded<T>(
        &self,
        conn: &mut PoolConnection<Postgres>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let patience = self.config.patience;
        let done = timeout(patience, work(&mut *conn)).await;
        let done = done
            .unwrap_or_else(|_| Err(Fault::Lost(format!("no answer came within {patience:?}"))));
        match &done {
            Err(fault) if fault.is_of_connection() => {
                conn.close_on_drop();
                self.breaks.note();
            }
            _ => self.breaks.forget(),
        }
        done
    }
}

fn hit(kind: &str, place: &str) {
    if cfg!(any(debug_assertions, feature = "failpoints")) {
        failpoint::hit(&format!("postgres.{kind}.{place}"));
    }
}

/// Full jitter: anything up to a ceiling that doubles with each try, a second at most.
pub(super) fn jitter(base: Duration, tries: u32) -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _};
    let ceiling = base.saturating_mul(1 << tries.min(10)).min(Duration::from_secs(1));
    // Each state is made from fresh keys: random enough for that.
    let roll = std::hash::RandomState::new().build_hasher().finish() % 1000;
    ceiling.mul_f64(roll as f64 / 1000.0)
}

/// How often a call has been tried.
#[derive(Debug, Default)]
pub(super) struct Tries {
    collisions: u32,
    days: u32,
}

impl Tries {
    /// Prepares the next try where there is sense in one; gives the fault back where there is none.
    pub(super) async fn again(&mut self, db: &Database, fault: Fault) -> Result<()> {
        match fault {
            Fault::Again(_) if self.collisions < 10 => {
                self.collisions += 1;
                tokio::time::sleep(jitter(Duration::from_millis(2), self.collisions)).await;
                Ok(())
            }
            Fault::NoDay if self.days < 3 => {
                self.days += 1;
                Box::pin(db.make_days()).await
            }
            Fault::NoDays(days) if self.days < 3 => {
                self.days += 1;
                for day in days {
                    Box::pin(db.make_event_day(day)).await?;
                }
                Ok(())
            }
            fault => Err(fault),
        }
    }
}
