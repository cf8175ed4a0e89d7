//! Every statement the SQLite backend runs is looked at as SQLite means to run it: none walks all tasks, and none is prepared
//! anew at every call.
//!
//! The statements are caught on their way into the library, so that none is forgotten here.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use omniq_model::{
    Digest, Kind, Lane, ModuleRef, Payload, Schedule, Scope, SessionId, Span, State, Task,
    TaskError, TaskId, TaskResult, Timestamp, Timing, Unique,
};
use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{End, Filter, Fire, Held, How, Lease, Select, TaskStore, Want, WorkerInfo};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tracing::field::{Field, Visit};
use tracing::span;

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Keeps the text of every statement.
struct Catch;

impl tracing::Subscriber for Catch {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let whole = if text.statement.trim().is_empty() { text.summary } else { text.statement };
        SEEN.lock().unwrap().insert(whole.trim().to_owned());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => self.summary = value.to_owned(),
            "db.statement" => self.statement = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

fn task(number: u32) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    let id = TaskId::derived(&[&number.to_be_bytes()]);
    Task::new(id, module, "f", Payload::cbor([0xa0]))
}

/// Calls everything that is called while work is done.
async fn work(store: &SqliteTasks) {
    let lease = Duration::from_secs(60);
    let id = SessionId::new(1);
    let session = store.open_session(id, &WorkerInfo::default(), lease).await.unwrap();
    let mut tasks: Vec<Task> = (0..20).map(task).collect();
    tasks[5].after = vec![tasks[0].id, tasks[1].id];
    tasks[6].delay = Span::from_secs(100);
    tasks[7].ttl = Some(Span::ZERO);
    tasks[8].unique = Some(Unique {
        key: "k".into(),
        scope: Scope::UntilStarted,
        window: Span::ZERO,
        unknown: Default::default(),
    });
    store.enqueue(tasks.clone()).await.unwrap();
    store.enqueue(tasks.clone()).await.unwrap();
    store.expire(10).await.unwrap();
    let want = Want::new(Lane::default(), 14, 7);
    let leases = store.claim(&session, &[want]).await.unwrap();
    assert_eq!(leases.len(), 14);
    store.cancel(&by_id(leases[4].id)).await.unwrap();
    store.cancel(&by_id(task(19).id)).await.unwrap();
    store.cancels(&session).await.unwrap();
    store.heartbeat(&session, Held::default()).await.unwrap();
    let result = || TaskResult::success(Payload::cbor([1]));
    let error = || TaskError::new(Kind::Trap, "it trapped");
    let end = |lease: &Lease, how| End { id: lease.id, token: lease.token, how };
    let ends = vec![
        end(&leases[0], How::Succeeded(result().into())),
        end(&leases[1], How::Failed(TaskResult::failure(error()).into())),
        end(&leases[2], How::Retry { after: Duration::from_secs(9), error: error() }),
        end(&leases[3], How::Release { after: Duration::ZERO, error: Some(error()) }),
    ];
    store.finish(&session, ends.clone()).await.unwrap();
    store.finish(&session, ends).await.unwrap();
    store.retry(&by_id(leases[1].id)).await.unwrap();
    store.remove(&by_id(leases[0].id)).await.unwrap();
    store.reconcile(&session, &[(leases[5].id, leases[5].token)]).await.unwrap();
    store.promote(10).await.unwrap();
    store.reclaim(10).await.unwrap();
    store.purge(10).await.unwrap();
    store.pause(&Lane::default(), false).await.unwrap();
    store.ready_lanes(None, 10).await.unwrap();
    store.ready_lanes(Some(&Lane::default()), 10).await.unwrap();
    schedules(store).await;
    read(store).await;
    store.close_session(&session).await.unwrap();
}

async fn schedules(store: &SqliteTasks) {
    let schedule = Schedule {
        tenant: Default::default(),
        name: "nightly".parse().unwrap(),
        timing: Timing::Every(Span::from_secs(60)),
        zone: String::new(),
        missed: Default::default(),
        task: task(100),
        paused: None,
        next: Some(Timestamp::from_millis(1)),
        version: 0,
        unknown: Default::default(),
    };
    store.put_schedules(vec![schedule.clone()]).await.unwrap();
    let due = store.due_schedules(10).await.unwrap();
    let Schedule { tenant, name, version, .. } = due[0].clone();
    let names = [(tenant.clone(), name.clone())];
    store
        .fire(vec![Fire { tenant, name, version, next: None, tasks: vec![task(101)] }])
        .await
        .unwrap();
    store.schedules(None).await.unwrap();
    store.remove_schedules(&names).await.unwrap();
}

async fn read(store: &SqliteTasks) {
    store.get(&[task(1).id, task(2).id]).await.unwrap();
    for states in
        [vec![], vec![State::Ready], vec![State::Failed], vec![State::Failed, State::Expired]]
    {
        let filter = Filter { states, ..Filter::default() };
        store.list(&filter, None, 10).await.unwrap();
        store.list(&filter, Some(15), 10).await.unwrap();
        store.count(&filter).await.unwrap();
    }
    store.ended((Timestamp::from_millis(0), task(1).id), 10).await.unwrap();
    store.is_idle().await.unwrap();
}

fn by_id(id: TaskId) -> Select {
    Select { filter: Filter { ids: vec![id], ..Filter::default() }, max: 10 }
}

/// The lines of a plan that walk a table which grows with backlog, history or names.
async fn walks(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let explain = AssertSqlSafe(format!("explain query plan {sql}"));
    let rows = sqlx::query(explain).fetch_all(conn).await.unwrap();
    let lines = rows.iter().map(|row| row.get::<String, _>(3));
    lines.filter(|line| is_walk(line)).collect()
}

fn is_walk(line: &str) -> bool {
    // `x`, `t`, `d`, `b` and `l` are what the statements call their tables.
    const GROWING: [&str; 10] = [
        "omniq_task",
        "omniq_done",
        "omniq_body",
        "omniq_ukey",
        "omniq_lane",
        "x",
        "t",
        "d",
        "b",
        "l",
    ];
    let mut words = line.split_whitespace();
    words.next() == Some("SCAN") && words.next().is_some_and(|table| GROWING.contains(&table))
}

#[tokio::test]
async fn no_statement_walks_all_tasks() {
    tracing::subscriber::set_global_default(Catch).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = SqliteTasks::open(Config::new(&path)).await.unwrap();
    work(&store).await;
    let mut conn = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let seen = SEEN.lock().unwrap().clone();
    let looked_at = |sql: &&str| {
        let first = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
        ["select", "insert", "update", "delete", "with"].contains(&first.as_str())
    };
    let parts = seen.iter().flat_map(|sql| sql.split(';'));
    let hot: BTreeSet<_> = parts.map(str::trim).filter(looked_at).collect();
    assert!(hot.len() > 50, "only {} statements were caught", hot.len());
    let mut bad = Vec::new();
    for sql in hot {
        // SQLite looks at such a parameter while it prepares, and prepares the statement anew at every call.
        if sql.contains("limit ?") {
            bad.push(format!("a bare parameter as limit: write `limit +?`\n{sql}"));
        }
        // A list of everything walks from its newest task on, as far as its page goes.
        let is_list = sql.contains("order by 1 desc limit");
        for line in walks(&mut conn, sql).await {
            if !is_list || line.contains("USING INDEX") {
                bad.push(format!("{line}\n{sql}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
    for line in ["SCAN t", "SCAN omniq_done USING INDEX omniq_done_finished"] {
        assert!(is_walk(line), "{line}");
    }
}
