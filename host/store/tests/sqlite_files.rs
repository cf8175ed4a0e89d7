//! Files that cannot be used, and what is said about them; what is left of a full disk; large tasks; many at once.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, Span, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::sqlite::{Config, SqliteEvents, SqliteResults, SqliteTasks};
use omniq_store::{
    Changes, Durability, End, Enqueued, ErrorKind, Filter, Finished, Fire, Fired, How, Interest,
    Lease, ManualClock, Options, ResultKey, ResultStore, StagedResult, TaskStore, Want, WorkerInfo,
    open_modules, open_results, open_tasks,
};
use sqlx::{Connection, SqliteConnection};

fn task(number: u64) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    let id = TaskId::derived(&[&number.to_be_bytes()]);
    Task::new(id, module, "f", Payload::cbor([0xa0]))
}

fn with_body(number: u64, bytes: usize) -> Task {
    Task { args: Payload::raw(vec![7; bytes]), ..task(number) }
}

async fn open(path: &Path) -> SqliteTasks {
    SqliteTasks::open(Config::new(path)).await.unwrap()
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap()
}

async fn run(path: &Path, sql: &'static str) {
    let mut conn = connect(path).await;
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

async fn claim(store: &SqliteTasks, max: usize) -> Vec<Lease> {
    let lease = Duration::from_secs(3600);
    let id = SessionId::new(1);
    let session = store.open_session(id, &WorkerInfo::default(), lease).await.unwrap();
    store.claim(&session, &[Want::new(Lane::default(), max, 7)]).await.unwrap()
}

async fn finish(store: &SqliteTasks, leases: Vec<Lease>, result: &TaskResult) -> Vec<Finished> {
    let session = omniq_store::Session { id: SessionId::new(1), lease: Duration::from_secs(1) };
    let how = || How::Succeeded(result.clone().into());
    let end = |lease: Lease| End { id: lease.id, token: lease.token, how: how() };
    store.finish(&session, leases.into_iter().map(end).collect()).await.unwrap()
}

#[tokio::test]
async fn what_cannot_be_opened_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text"), "this is no database, but a file of some length").unwrap();
    std::fs::write(at("short"), "x").unwrap();
    for (name, size) in [("page", 512), ("long", 4096), ("longer", 70_000)] {
        std::fs::write(at(name), "no database ".repeat(size).split_at(size).0).unwrap();
    }
    std::fs::create_dir(at("folder")).unwrap();
    open(&at("newer")).await.close().await.unwrap();
    run(&at("newer"), "update omniq_meta set value = 99 where key in ('schema', 'min_writer')")
        .await;
    SqliteEvents::open(Config::new(at("events"))).await.unwrap();
    for (path, kind, part) in [
        (at("text"), ErrorKind::Corrupt, "does not begin as a SQLite database"),
        (at("short"), ErrorKind::Corrupt, "does not begin as a SQLite database"),
        (at("page"), ErrorKind::Corrupt, "not a database"),
        (at("long"), ErrorKind::Corrupt, "not a database"),
        (at("longer"), ErrorKind::Corrupt, "not a database"),
        (at("folder"), ErrorKind::Config, "is a folder"),
        (at("text/below"), ErrorKind::Config, "could not be made"),
        (Path::new("/proc/omniq/file").to_owned(), ErrorKind::Config, "could not be made"),
        (
            at("newer"),
            ErrorKind::Schema,
            "has schema 99, and this omniq works with 1 to 1; start an omniq",
        ),
        (at("events"), ErrorKind::Config, "holds events, not tasks"),
    ] {
        let error = SqliteTasks::open(Config::new(&path)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(message.contains(part), "{message}");
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
    assert_eq!(std::fs::read(at("text")).unwrap()[..4], *b"this", "nothing was written over it");
    for (name, size) in [("page", 512), ("long", 4096), ("longer", 70_000)] {
        assert_eq!(
            std::fs::read(at(name)).unwrap(),
            "no database ".repeat(size).as_bytes()[..size]
        );
    }
}

#[tokio::test]
async fn a_newer_schema_that_lets_us_write_is_worked_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    open(&path).await.close().await.unwrap();
    run(&path, "update omniq_meta set value = 2 where key = 'schema'").await;
    let store = open(&path).await;
    assert_eq!(store.enqueue(vec![task(1)]).await.unwrap(), [Enqueued::Created]);
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    store.enqueue((0..500).map(|number| with_body(number, 500)).collect()).await.unwrap();
    store.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(2) {
        page.fill(0xa5);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = match SqliteTasks::open(Config::new(&path)).await {
        Ok(store) => store.enqueue((0..500).map(task).collect()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[tokio::test]
async fn folders_are_made_and_several_may_open_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/omniq.db");
    let opening: Vec<_> =
        (0..8).map(|_| tokio::spawn(SqliteTasks::open(Config::new(&path)))).collect();
    for (number, opening) in opening.into_iter().enumerate() {
        let store = opening.await.unwrap().unwrap();
        let answers = store.enqueue(vec![task(number as u64)]).await.unwrap();
        assert_eq!(answers, [Enqueued::Created]);
    }
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_new_tasks_and_lets_others_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    store.enqueue(vec![task(1)]).await.unwrap();
    store.close().await.unwrap();
    let store =
        SqliteTasks::open(Config { reserve: u64::MAX, ..Config::new(&path) }).await.unwrap();
    let error = store.enqueue(vec![task(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    let fire = |tasks| Fire {
        tenant: Default::default(),
        name: "nightly".parse().unwrap(),
        version: 1,
        next: None,
        tasks,
    };
    let error = store.fire(vec![fire(vec![task(3)])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "a firing brings tasks as well: {error}");
    assert_eq!(store.fire(vec![fire(Vec::new())]).await.unwrap(), [Fired::Lost]);
    let leases = claim(&store, 10).await;
    let ends = finish(&store, leases, &TaskResult::default()).await;
    assert_eq!(ends, [Finished::Applied(State::Succeeded)]);
}

/// A disk that fills up in the midst of writing, where this process may make one.
#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |args: &[&str]| {
        let done = std::process::Command::new(args[0]).args(&args[1..]).arg(&disk).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "none"]) {
        println!("skipped: this user may not mount a small disk");
        return;
    }
    let path = disk.join("omniq.db");
    let store = SqliteTasks::open(Config { reserve: 0, ..Config::new(&path) }).await.unwrap();
    let (mut accepted, mut refused) = (0, None);
    for number in 0..1000 {
        match store.enqueue(vec![with_body(2 * number, 20_000), task(2 * number + 1)]).await {
            Ok(_) => accepted += 2,
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let error = refused.expect("4 MiB do not hold it all");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts.get(&State::Ready), Some(&accepted), "each pair is whole");
    let page = store.list(&Filter::default(), None, usize::MAX).await.unwrap();
    assert_eq!(page.items.len() as u64, accepted);
    store.close().await.unwrap();
    assert!(mount(&["umount"]));
}

#[tokio::test]
async fn one_that_is_at_fault_fails_alone() {
    const POISON: &str = "
        create trigger poison before insert on omniq_body when length(new.bytes) > 5000
        begin select raise(abort, 'poison'); end";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    run(&path, POISON).await;
    let calls: Vec<_> = (0..40)
        .map(|number| {
            let store = store.clone();
            let bytes = if number % 10 == 3 { 6000 } else { 10 };
            tokio::spawn(async move { store.enqueue(vec![with_body(number, bytes)]).await })
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        match call.await.unwrap() {
            Ok(answers) => assert!(number % 10 != 3 && answers == [Enqueued::Created], "{number}"),
            Err(error) => assert!(number % 10 == 3, "{number}: {error}"),
        }
    }
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts.get(&State::Ready), Some(&36));
}

#[tokio::test]
async fn large_tasks_and_results_are_whole() {
    const LARGE: usize = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("omniq.db")).await;
    let tasks: Vec<_> = (0..3).map(|number| with_body(number, LARGE)).collect();
    store.enqueue(tasks.clone()).await.unwrap();
    let leases = claim(&store, 3).await;
    for (lease, task) in leases.iter().zip(&tasks) {
        assert!(**lease.task.as_ref().unwrap() == *task);
    }
    let result = TaskResult::success(Payload::raw(vec![9; LARGE]));
    finish(&store, leases, &result).await;
    let infos = store.get(&[tasks[0].id, tasks[2].id]).await.unwrap();
    assert!(infos.iter().flatten().all(|info| info.head.result.as_ref() == Some(&result)));
}

#[tokio::test]
async fn a_file_that_is_purged_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
    let config = Config { clock: Arc::new(clock.clone()), ..Config::new(&path) };
    let store = SqliteTasks::open(config).await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..6 {
        let short = |task: Task| Task { result_ttl: Span::from_secs(1), ..task };
        let tasks = (0..1500).map(|number| short(with_body(round * 10_000 + number, 4000)));
        store.enqueue(tasks.collect()).await.unwrap();
        let leases = claim(&store, 1500).await;
        finish(&store, leases, &TaskResult::default()).await;
        clock.advance(Duration::from_secs(2));
        while store.purge(100).await.unwrap() > 0 {}
        let mut conn = connect(&path).await;
        let pages: i64 =
            sqlx::query_scalar("pragma page_count").fetch_one(&mut conn).await.unwrap();
        sizes.push(pages * 4096);
    }
    assert!(sizes[5] <= sizes[0] + (1 << 20), "{sizes:?}");
    assert!(sizes[5] < 8 << 20, "most of what a round took is given back: {sizes:?}");
    store.close().await.unwrap();
    assert!(!path.with_extension("db-wal").exists(), "the log has gone into the file");
}

#[tokio::test]
async fn a_commit_of_somebody_else_wakes_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let (ours, theirs) = (open(&path).await, open(&path).await);
    let seen = ours.changes(Interest::Work);
    let waiter = ours.clone();
    let long = Duration::from_secs(60);
    let waiting = tokio::spawn(async move { waiter.changed(Interest::Work, seen, long).await });
    tokio::task::yield_now().await;
    theirs.enqueue(vec![task(1)]).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert!(woken.expect("it is woken").unwrap() > seen);
    assert_eq!(claim(&ours, 10).await.len(), 1);
}

#[tokio::test]
async fn tasks_share_the_fate_of_the_callers_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    run(&path, "create table account(balance integer)").await;
    let mut conn = connect(&path).await;
    for (end, there) in [("rollback", 0), ("commit", 2)] {
        sqlx::raw_sql("begin immediate; insert into account values(7)")
            .execute(&mut conn)
            .await
            .unwrap();
        let answers = store.enqueue_in(&mut conn, vec![task(1), task(2), task(1)]).await.unwrap();
        assert_eq!(answers[..2], [Enqueued::Created, Enqueued::Created]);
        assert!(matches!(answers[2], Enqueued::Duplicate { .. }));
        sqlx::query(end).execute(&mut conn).await.unwrap();
        let counts = store.count(&Filter::default()).await.unwrap();
        assert_eq!(counts.get(&State::Ready).copied().unwrap_or(0), there, "{end}");
    }
    assert_eq!(claim(&store, 10).await.len(), 2);
    let mut other = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let error = store.enqueue_in(&mut other, vec![task(3)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no tables of omniq"), "{error}");
}

#[tokio::test]
async fn stores_of_one_url_share_a_file_until_the_last_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("omniq.db").display());
    let options = Options::default();
    let tasks = open_tasks(&url, &options).await.unwrap();
    let results = open_results(&url, &options).await.unwrap();
    let modules = open_modules(&url, &options).await.unwrap();
    tasks.close().await.unwrap();
    assert_eq!(tasks.enqueue(vec![task(1)]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(results.get(&[]).await.unwrap().is_empty());
    assert!(modules.list().await.unwrap().is_empty());
    results.close().await.unwrap();
    drop(modules);
    let again = open_tasks(&url, &options).await.unwrap();
    assert_eq!(again.enqueue(vec![task(1)]).await.unwrap(), [Enqueued::Created]);
    for url in ["sqlite:", "sqlite::memory:", "sqlite://"] {
        let error = open_tasks(url, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_is_closed_is_let_go_of_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    for number in 0..20 {
        let store = open(&path).await;
        store.enqueue(vec![task(number)]).await.unwrap();
        store.count(&Filter::default()).await.unwrap();
        store.close().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "after {number}");
    }
}

#[tokio::test]
async fn a_claim_that_was_given_up_while_somebody_else_wrote_leases_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    store.enqueue((0..3).map(task).collect()).await.unwrap();
    let lease = Duration::from_secs(3600);
    let session =
        store.open_session(SessionId::new(1), &WorkerInfo::default(), lease).await.unwrap();
    let mut other = connect(&path).await;
    sqlx::raw_sql("begin immediate").execute(&mut other).await.unwrap();
    // The first waits for the other, the second for the first.
    for nonce in [7, 8] {
        let wants = [Want::new(Lane::default(), 1, nonce)];
        let claimed =
            tokio::time::timeout(Duration::from_millis(50), store.claim(&session, &wants));
        claimed.await.unwrap_err();
    }
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    store.purge(1).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(State::Ready, 3)]);
}

#[tokio::test]
async fn one_file_is_not_opened_with_two_durabilities_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("omniq.db").display());
    let with = |durability| Options { durability, ..Options::default() };
    let tasks = open_tasks(&url, &with(Durability::Os)).await.unwrap();
    let results = open_results(&url, &with(Durability::Os)).await.unwrap();
    for error in [
        open_tasks(&url, &Options::default()).await.map(drop).unwrap_err(),
        open_results(&url, &Options::default()).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(
            text.contains("`os`") && text.contains("`disk`") && text.contains("omniq.db"),
            "{text}"
        );
    }
    assert_eq!(tasks.enqueue(vec![task(1)]).await.unwrap(), [Enqueued::Created]);
    tasks.close().await.unwrap();
    results.close().await.unwrap();
    open_tasks(&url, &Options::default()).await.expect("nobody has it open any more");
}

#[tokio::test]
async fn a_file_that_was_deleted_or_replaced_takes_no_more_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.db");
    let away = dir.path().join("away.db");
    let store = open(&path).await;
    store.enqueue(vec![task(1)]).await.unwrap();
    for (replacement, reason) in
        [(None, "deleted or moved away"), (Some(b""), "replaced by another")]
    {
        std::fs::rename(&path, &away).unwrap();
        if let Some(bytes) = replacement {
            std::fs::write(&path, bytes).unwrap();
        }
        let error = store.enqueue(vec![task(2)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(reason), "{error}");
        let error = store.count(&Filter::default()).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        // Once it is back everything goes on.
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(store.get(&[task(1).id]).await.unwrap().len(), 1);
    }
    assert_eq!(store.enqueue(vec![task(2)]).await.unwrap(), [Enqueued::Created]);
}

#[tokio::test]
async fn a_store_opened_again_works_on_the_file_that_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("q.db").display());
    let first = open_tasks(&url, &Options::default()).await.unwrap();
    first.enqueue(vec![task(1)]).await.unwrap();
    for name in ["q.db", "q.db-wal", "q.db-shm"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    let second = open_tasks(&url, &Options::default()).await.unwrap();
    assert_eq!(second.enqueue(vec![task(1)]).await.unwrap(), [Enqueued::Created]);
    assert_eq!(first.enqueue(vec![task(2)]).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn who_had_a_file_open_that_was_replaced_does_no_harm_to_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.db");
    let old = open(&path).await;
    old.enqueue(vec![task(1)]).await.unwrap();
    for name in ["q.db", "q.db-wal", "q.db-shm"] {
        std::fs::rename(dir.path().join(name), dir.path().join(format!("old-{name}"))).unwrap();
    }
    let new = open(&path).await;
    new.enqueue(vec![task(1), task(2)]).await.unwrap();
    old.close().await.unwrap();
    assert_eq!(new.enqueue(vec![task(3)]).await.unwrap(), [Enqueued::Created]);
    let another = open(&path).await;
    let counts = another.count(&Filter::default()).await.unwrap();
    assert_eq!(counts.get(&State::Ready), Some(&3));
}

#[tokio::test]
async fn large_tasks_and_results_are_forgotten_a_few_at_a_time() {
    const SIZE: usize = 7 << 20;
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
    let config = Config {
        clock: Arc::new(clock.clone()),
        durability: omniq_store::Durability::None,
        ..Config::new(folder.path().join("omniq.db"))
    };
    let store = SqliteTasks::open(config).await.unwrap();
    let results = SqliteResults::beside(&store);
    store.enqueue((0..5).map(|number| with_body(number, SIZE)).collect()).await.unwrap();
    let leases = claim(&store, 5).await;
    let staged = leases.iter().map(|lease| StagedResult {
        key: ResultKey { task: lease.id, token: lease.token },
        value: Payload::raw(vec![7; SIZE]),
        ttl: Span::from_secs(1),
    });
    results.put(staged.collect()).await.unwrap();
    finish(&store, leases, &TaskResult::default()).await;
    clock.advance(Duration::from_secs(100 * 24 * 60 * 60));
    for expected in [2, 2, 1, 0] {
        assert_eq!(store.purge(100).await.unwrap(), expected);
        assert_eq!(results.purge(100).await.unwrap(), expected);
    }
    assert!(store.count(&Filter::default()).await.unwrap().is_empty());
}

/// How many commits are in the log of a file: pages that name its size after them (sqlite.org/fileformat2.html, 4.1).
fn commits(path: &Path) -> usize {
    let log = std::fs::read(path.with_extension("db-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let frame = 24 + number(8) as usize;
    (32..log.len()).step_by(frame).filter(|at| number(at + 4) != 0).count()
}

#[tokio::test]
async fn large_calls_that_wait_are_committed_a_few_at_a_time() {
    const CALLS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    let before = commits(&path);
    // Nobody gets a turn until all have asked.
    let mut other = connect(&path).await;
    sqlx::raw_sql("begin immediate").execute(&mut other).await.unwrap();
    let calls =
        asked((0..CALLS).map(|number| store.enqueue(vec![with_body(number, 1 << 20)]))).await;
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap(), [Enqueued::Created]);
    }
    let commits = commits(&path) - before;
    assert!((3..=CALLS as usize).contains(&commits), "at most 4 MiB and a call each: {commits}");
    // Small ones go together, however many.
    let before = self::commits(&path);
    sqlx::raw_sql("begin immediate").execute(&mut other).await.unwrap();
    let calls = asked((100..400).map(|number| store.enqueue(vec![task(number)]))).await;
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap(), [Enqueued::Created]);
    }
    let commits = self::commits(&path) - before;
    assert!(commits <= 2, "{commits}");
}

/// Calls that have asked the writer, and have no answer yet.
async fn asked<C: Future>(calls: impl Iterator<Item = C>) -> Vec<Pin<Box<C>>> {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    for call in &mut calls {
        let is_pending = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending()));
        assert!(tokio::task::unconstrained(is_pending).await);
    }
    calls
}

/// Takes from everybody, the owner of all files included, the right to write to a folder, where this process may do that.
struct Sealed<'a>(&'a Path);

impl<'a> Sealed<'a> {
    fn new(folder: &'a Path) -> Option<Self> {
        let sealed = run_mount(&["--bind", "-o", "ro"], &[folder, folder]);
        // Older versions of `mount` bind first, and seal what is bound.
        let sealed = sealed && run_mount(&["-o", "remount,bind,ro"], &[folder]);
        sealed.then_some(Self(folder))
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn run_mount(options: &[&str], paths: &[&Path]) -> bool {
    let done = std::process::Command::new("mount").args(options).args(paths).output();
    done.is_ok_and(|done| done.status.success())
}

#[tokio::test]
async fn a_file_that_may_not_be_written_says_so_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    store.enqueue(vec![task(1)]).await.unwrap();
    store.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    {
        // Whoever is root may write in spite of a file's permissions, and nobody to what is mounted to be read.
        let Some(_sealed) = Sealed::new(folder.path()) else {
            println!("skipped: this user may not mount a folder to be read only");
            return;
        };
        let error = SqliteTasks::open(Config::new(&path)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let message = error.to_string();
        for part in [path.to_str().unwrap(), "must be writable by this user"] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert!(std::fs::read(&path).unwrap() == before, "nothing was written");
    assert_eq!(claim(&open(&path).await, 10).await.len(), 1);
}

/// The count of changes, once all that have happened are noticed.
async fn settled(store: &SqliteTasks) -> Changes {
    loop {
        let seen = store.changes(Interest::Work);
        if store.changed(Interest::Work, seen, Duration::from_millis(20)).await == seen {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_commit_of_somebody_else_is_noticed_within_milliseconds_by_one_who_waits() {
    const ROUNDS: u64 = 11;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let (ours, other) = (open(&path).await, open(&path).await);
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let seen = settled(&ours).await;
        let waiting = {
            let ours = ours.clone();
            let patience = Duration::from_secs(20);
            tokio::spawn(async move { ours.changed(Interest::Work, seen, patience).await })
        };
        // Long enough for the distance between two looks to have grown to a second.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let begun = std::time::Instant::now();
        other.enqueue(vec![task(round)]).await.unwrap();
        assert!(waiting.await.unwrap() > seen);
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn a_file_can_be_opened_and_read_while_somebody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = open(&path).await;
    store.enqueue(vec![task(1)]).await.unwrap();
    store.close().await.unwrap();
    let mut other = connect(&path).await;
    sqlx::raw_sql("begin immediate").execute(&mut other).await.unwrap();
    let asked = std::time::Instant::now();
    let reader = open(&path).await;
    assert_eq!(reader.count(&Filter::default()).await.unwrap()[&State::Ready], 1);
    assert!(asked.elapsed() < Config::new(&path).patience, "it waited for the writer");
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    reader.close().await.unwrap();
}
