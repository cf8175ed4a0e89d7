//! What PostgreSQL promises while commits stand still, and when another server answers in its place.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/task.rs"]
mod sample;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{Lane, SessionId, Timestamp};
use omniq_services::{Kind, Server};
use omniq_store::postgres::{Config, PostgresTasks};
use omniq_store::{
    Beat, Clock as _, Enqueued, ErrorKind, Held, Lease, ManualClock, Moved, Result, Session,
    TaskStore, Want, WorkerInfo,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::task::JoinHandle;

use sample::task;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(15);

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

async fn connect(server: &Server) -> PgConnection {
    PgConnection::connect(server.url()).await.unwrap()
}

/// What is asked again until it is answered.
async fn again<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(error.kind().is_passing() && begun.elapsed() < PATIENCE, "{error:?}");
            }
        }
    }
}

/// A store by a clock of the test's, with two tasks that a session holds.
struct Given {
    schema: &'static str,
    store: PostgresTasks,
    clock: ManualClock,
    session: Session,
    leases: Vec<Lease>,
}

impl Given {
    async fn new(schema: &'static str) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let mut config = Config::new(omniq_services::postgres().url()).unwrap();
        config.schema = schema.to_owned();
        config.clock = Some(Arc::new(clock.clone()));
        let store = PostgresTasks::open(config).await.unwrap();
        store.enqueue(vec![task(1), task(2)]).await.unwrap();
        let session = store.open_session(SessionId::new(1), &WorkerInfo::default(), LEASE).await;
        let session = session.unwrap();
        let leases = store.claim(&session, &[Want::new(Lane::default(), 2, 7)]).await.unwrap();
        assert_eq!(leases.len(), 2);
        Self { schema, store, clock, session, leases }
    }

    /// The statement of a heartbeat of that session at that instant.
    fn beat(&self, at: Timestamp) -> String {
        let lease = LEASE.as_millis();
        format!("select id from {}.heartbeat({}, 1, {lease})", self.schema, at.as_millis())
    }

    async fn heartbeat(&self) -> Beat {
        let leases: Vec<_> = self.leases.iter().map(|lease| (lease.id, lease.token)).collect();
        self.store.heartbeat(&self.session, Held::of(&leases)).await.unwrap()
    }

    fn reclaim(&self, max: usize) -> JoinHandle<Result<Vec<Moved>>> {
        let store = self.store.clone();
        tokio::spawn(async move { store.reclaim(max).await })
    }

    /// Waits until that has an end, or so many wait for a lock in this schema.
    async fn done_or_waiting<T>(&self, done: &JoinHandle<T>, many: i64) {
        const WAITING: &str = "
            select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%' || $1 || '%'";
        let mut conn = connect(omniq_services::postgres()).await;
        let begun = Instant::now();
        while !done.is_finished() {
            let waiting = sqlx::query(WAITING).bind(self.schema).fetch_one(&mut conn).await;
            if waiting.unwrap().get::<i64, _>(0) >= many {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody waits");
        }
    }
}

/// A heartbeat came in time, and the disk takes long to keep it: who reclaims meanwhile sees the lease as it was.
#[tokio::test]
async fn a_session_whose_heartbeat_is_being_committed_keeps_its_tasks() {
    let given = Given::new("slow_beat").await;
    let mut conn = connect(omniq_services::postgres()).await;
    let mut beat = conn.begin().await.unwrap();
    given.clock.advance(LEASE - Duration::from_millis(1));
    let told = sqlx::query(AssertSqlSafe(given.beat(given.clock.now())));
    assert_eq!(told.fetch_all(&mut *beat).await.unwrap().len(), 3, "it lives, and holds both");
    given.clock.advance(Duration::from_secs(5));
    let reclaiming = given.reclaim(100);
    given.done_or_waiting(&reclaiming, 1).await;
    beat.commit().await.unwrap();
    let moved = reclaiming.await.unwrap().unwrap();
    assert_eq!(moved, [], "it was told that it lives for a lease from then on");
    let beat = given.heartbeat().await;
    assert!(matches!(beat, Beat::Alive { matches: true, .. }), "{beat:?}");
    // It still dies when nothing is heard of it.
    given.clock.advance(LEASE + Duration::from_millis(1));
    assert_eq!(given.reclaim(100).await.unwrap().unwrap().len(), 2);
    assert_eq!(given.heartbeat().await, Beat::Dead);
    given.store.close().await.unwrap();
}

/// A heartbeat looked at the clock in time, and its session was found dead before it came to its row.
#[tokio::test]
async fn a_session_that_was_found_dead_is_not_told_that_it_lives() {
    let given = Given::new("late_beat").await;
    let in_time = given.clock.now();
    given.clock.advance(LEASE + Duration::from_millis(1));
    let server = omniq_services::postgres();
    let (mut holder, mut conn) = (connect(server).await, connect(server).await);
    // Whoever reclaims waits where it makes them ready.
    let mut holding = holder.begin().await.unwrap();
    run(&mut holding, "insert into late_beat.ready select * from late_beat.lease").await;
    let reclaiming = given.reclaim(1);
    given.done_or_waiting(&reclaiming, 1).await;
    let beat = given.beat(in_time);
    let beating = tokio::spawn(async move {
        sqlx::query(AssertSqlSafe(beat)).fetch_all(&mut conn).await.unwrap().len()
    });
    given.done_or_waiting(&beating, 2).await;
    holding.rollback().await.unwrap();
    assert_eq!(reclaiming.await.unwrap().unwrap().len(), 1, "one of its tasks was taken away");
    assert_eq!(beating.await.unwrap(), 0, "so it is dead");
    assert_eq!(given.reclaim(100).await.unwrap().unwrap().len(), 1);
    given.store.close().await.unwrap();
}

/// Somebody may stand still in the midst of a heartbeat.
#[tokio::test]
async fn a_heartbeat_that_stands_still_holds_nobody_up_who_reclaims() {
    let given = Given::new("still_beat").await;
    let other = given.store.open_session(SessionId::new(2), &WorkerInfo::default(), LEASE).await;
    other.unwrap();
    let mut conn = connect(omniq_services::postgres()).await;
    let mut holding = conn.begin().await.unwrap();
    run(&mut holding, "select 1 from still_beat.session where id = 2 for update").await;
    given.clock.advance(LEASE + Duration::from_millis(1));
    let reclaiming = given.reclaim(100);
    given.done_or_waiting(&reclaiming, 1).await;
    assert!(reclaiming.is_finished(), "it waits for a row that it does not need");
    assert_eq!(reclaiming.await.unwrap().unwrap().len(), 2);
    holding.rollback().await.unwrap();
    given.store.close().await.unwrap();
}

/// After a failover the URL may lead to the server that was the primary: it lets itself be read, and lags behind.
#[tokio::test]
async fn a_server_that_has_become_a_standby_shows_nothing() {
    let server = Server::start(Kind::Postgres, &[]);
    let url = format!("{}?timeout=2", server.url());
    let store = PostgresTasks::open(Config::new(&url).unwrap()).await.unwrap();
    store.enqueue(vec![task(1)]).await.unwrap();
    server.kill();
    let signal = server.folder().join("data/standby.signal");
    std::fs::write(&signal, "").unwrap();
    std::fs::set_permissions(&signal, PermissionsExt::from_mode(0o666)).unwrap();
    server.restart();
    let mut kinds = Vec::new();
    let told = loop {
        // The first calls may find connections that seem to be alive.
        let error = store.get(&[task(1).id]).await.expect_err("it may be over what it shows");
        kinds.push(error.kind());
        assert!(kinds.len() < 20, "{kinds:?}");
        if error.kind() == ErrorKind::NotApplied {
            break std::error::Error::source(&error).unwrap().to_string();
        }
    };
    assert!(told.contains("is a standby"), "{told}");
    run(&mut connect(&server).await, "select pg_promote()").await;
    let there = again(async || store.get(&[task(1).id]).await).await;
    assert!(there[0].is_some());
    let answers = again(async || store.enqueue(vec![task(1)]).await).await;
    assert!(matches!(answers[..], [Enqueued::Duplicate { .. }]), "{answers:?}");
    store.close().await.unwrap();
}
