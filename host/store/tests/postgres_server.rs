//! What is special about PostgreSQL: races that a suite cannot set up, plans, callers' own transactions, calls from SQL, what
//! a pooler of connections asks for, and a server that dies.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use omniq_model::wit::Signature;
use omniq_model::{
    Digest, Lane, Module, ModuleRef, Payload, SessionId, Span, State, Task, TaskId, TaskResult,
};
use omniq_services::{Kind, Mode, Proxy, Server};
use omniq_store::postgres::{Config, PostgresModules, PostgresTasks};
use omniq_store::{
    End, Enqueued, ErrorKind, Finished, How, Interest, Lease, ModuleStore, Session, TaskStore,
    Want, WorkerInfo,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

fn url() -> &'static str {
    omniq_services::postgres().url()
}

fn module() -> ModuleRef {
    ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "calc".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    }
}

fn task(name: &str, number: u32) -> Task {
    Task::new(
        TaskId::derived(&[name.as_bytes(), &number.to_be_bytes()]),
        module(),
        "add",
        Payload::cbor([0xa0]),
    )
}

async fn open(schema: &str) -> PostgresTasks {
    PostgresTasks::open(Config::new(&with(url(), &format!("schema={schema}"))).unwrap())
        .await
        .unwrap()
}

fn with(url: &str, setting: &str) -> String {
    format!("{url}{}{setting}", if url.contains('?') { '&' } else { '?' })
}

async fn connect() -> PgConnection {
    PgConnection::connect(url()).await.unwrap()
}

async fn run(conn: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

async fn session(store: &PostgresTasks, id: u64) -> Session {
    let lease = Duration::from_secs(60);
    store.open_session(SessionId::new(id), &WorkerInfo::default(), lease).await.unwrap()
}

async fn claim(store: &PostgresTasks, session: &Session, max: usize, nonce: u64) -> Vec<Lease> {
    store.claim(session, &[Want::new(Lane::default(), max, nonce)]).await.unwrap()
}

fn success(lease: &Lease) -> End {
    let result = TaskResult::success(Payload::cbor([1]));
    End { id: lease.id, token: lease.token, how: How::Succeeded(result.into()) }
}

async fn state(store: &PostgresTasks, id: TaskId) -> Option<State> {
    store.get(&[id]).await.unwrap().pop().unwrap().map(|info| info.head.state)
}

/// Waits until somebody waits for a lock.
async fn somebody_waits(conn: &mut PgConnection) {
    let waits = async {
        loop {
            let row =
                sqlx::query("select count(*) from pg_stat_activity where wait_event_type = 'Lock'");
            if row.fetch_one(&mut *conn).await.unwrap().get::<i64, _>(0) > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(9), waits)
        .await
        .expect("the end waits for the child's transaction");
}

/// The end's statement began before the child's edge was committed, waits for the lock on its own lease, and goes on with what
/// it saw before. A child that is not looked for anew would stay blocked for ever.
#[tokio::test]
async fn a_child_that_comes_while_its_parent_ends_is_let_go() {
    let store = open("trap_child").await;
    let (parent, mut child) = (task("trap", 1), task("trap", 2));
    child.after = vec![parent.id];
    store.enqueue(vec![parent.clone()]).await.unwrap();
    let session = session(&store, 1).await;
    let leases = claim(&store, &session, 1, 7).await;
    let mut conn = connect().await;
    let mut transaction = conn.begin().await.unwrap();
    let answers = store.enqueue_in(&mut transaction, vec![child.clone()]).await.unwrap();
    assert_eq!(answers, [Enqueued::Created]);
    let ending = {
        let (store, end) = (store.clone(), success(&leases[0]));
        tokio::spawn(async move { store.finish(&session, vec![end]).await })
    };
    somebody_waits(&mut connect().await).await;
    transaction.commit().await.unwrap();
    assert_eq!(ending.await.unwrap().unwrap(), [Finished::Applied(State::Succeeded)]);
    assert_eq!(state(&store, child.id).await, Some(State::Ready));
    store.close().await.unwrap();
}

/// A row that never expires stays out of the index of those that do, and a due one that somebody holds makes nobody spin.
#[tokio::test]
async fn a_task_that_is_held_is_waited_for_and_without_a_time_to_live_none_expires() {
    let store = open("held_due").await;
    let mut soon = task("held", 1);
    soon.delay = Span::from_secs(1);
    store.enqueue(vec![soon.clone(), task("held", 2)]).await.unwrap();
    let mut conn = connect().await;
    for table in ["scheduled", "ready"] {
        let sql = format!("select count(*), count(expires) from held_due.{table}");
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut conn).await.unwrap();
        assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (1, 0), "{table}");
    }
    let mut transaction = conn.begin().await.unwrap();
    run(&mut transaction, "update held_due.scheduled set due = 0".into()).await;
    transaction.commit().await.unwrap();
    let mut transaction = conn.begin().await.unwrap();
    run(&mut transaction, "select 1 from held_due.scheduled for key share".into()).await;
    let due = store.promote(10).await.unwrap();
    assert_eq!((due.promoted, due.next), (0, Some(Duration::from_millis(100))));
    transaction.commit().await.unwrap();
    assert_eq!(store.promote(10).await.unwrap().promoted, 1);
    assert_eq!(state(&store, soon.id).await, Some(State::Ready));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_callers_transaction_decides_whether_tasks_are_there() {
    let store = open("own_transaction").await;
    let mut conn = connect().await;
    for (number, commits) in [(1, false), (2, true)] {
        let mut transaction = conn.begin().await.unwrap();
        store.enqueue_in(&mut transaction, vec![task("own", number)]).await.unwrap();
        assert_eq!(state(&store, task("own", number).id).await, None, "nobody else sees it yet");
        if commits {
            let seen = store.changes(Interest::Work);
            transaction.commit().await.unwrap();
            assert!(
                store.changed(Interest::Work, seen, Duration::from_secs(5)).await > seen,
                "it is looked for"
            );
        } else {
            transaction.rollback().await.unwrap();
        }
        let expected = commits.then_some(State::Ready);
        assert_eq!(state(&store, task("own", number).id).await, expected);
    }
    store.close().await.unwrap();
}

/// After a burst that no statistics know of, and after they were taken while the tables were empty, no statement of the calls
/// that come in crowds reads a growing table without its key.
#[tokio::test]
async fn claims_and_ends_stay_on_their_indices_whatever_the_statistics_say() {
    let store = open("plans").await;
    let mut conn = connect().await;
    run(&mut conn, "vacuum analyze plans.ready, plans.lease, plans.task, plans.edge".into()).await;
    let burst: Vec<Task> = (0..30_000).map(|number| task("plans", number)).collect();
    for part in burst.chunks(5000) {
        store.enqueue(part.to_vec()).await.unwrap();
    }
    let worker = session(&store, 1).await;
    let began = std::time::Instant::now();
    let mut done = 0;
    while done < 10_000 {
        let leases = claim(&store, &worker, 500, 1 + done as u64).await;
        assert_eq!(leases.len(), 500);
        done += leases.len();
        store.finish(&worker, leases.iter().map(success).collect()).await.unwrap();
    }
    println!("10 000 of 30 000 after a burst: {:.1} k/s", 10.0 / began.elapsed().as_secs_f64());
    // What the functions do shows in the server's own explanation of each statement in them.
    let told = explained(&mut conn).await;
    assert!(told.len() > 8, "{told:?}");
    for plan in &told {
        for line in plan.lines() {
            let of_ours = ["ready", "lease", "task", "edge", "ukey", "done"].iter().any(|table| {
                line.contains(&format!(" on {table} ")) || line.contains(&format!(" on {table}_"))
            });
            let walks = line.contains("Seq Scan on") && of_ours;
            assert!(!walks, "{line}\n{plan}");
        }
        if plan.contains("order by s.due, s.seq limit 1") {
            continue; // the first of an index
        }
        let scans = plan.matches("Index Scan using ").count()
            + plan.matches("Index Only Scan using ").count();
        assert_eq!(
            scans,
            plan.matches("Index Cond: ").count(),
            "an index is walked without its key: {plan}"
        );
    }
    store.close().await.unwrap();
}

/// Runs a claim and its ends with `auto_explain`, and gives the plans of all statements in them, from the server's log.
async fn explained(conn: &mut PgConnection) -> Vec<String> {
    const CALLS: &str = "
        load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
        set auto_explain.log_level = 'log'; set application_name = 'plans';
        begin;
        select count(*) from plans.claim(null, 1, (select array_agg(id) from plans.lane), array[20],
                                         array[9223372036854775807], array[77], null);
        select plans.finish(null, array_agg(id), array_agg(fence), array_agg(nonce), array_agg(4::smallint), array_agg('\\xa0'::bytea))
          from (select * from plans.lease where nonce = 77) l;
        select count(*) from plans.hold((select array_agg(id) from (select id from plans.task limit 5) t));
        select * from plans.promote(null, 10);
        rollback;";
    let server = omniq_services::postgres();
    let before = server.log().len();
    run(conn, CALLS.into()).await;
    let log = server.log();
    let mut plans: Vec<String> = Vec::new();
    for line in log[before..].lines() {
        if line.contains("Query Text:") {
            plans.push(String::new());
        }
        if let Some(plan) = plans.last_mut() {
            plan.push_str(line);
            plan.push('\n');
        }
    }
    // The statements that call the functions are those of this test.
    plans.retain(|plan| !plan.split("(cost").next().unwrap().contains("load 'auto_explain'"));
    plans
}

#[tokio::test]
async fn a_call_from_sql_makes_a_task_as_any_other() {
    let store = open("from_sql").await;
    let modules = PostgresModules::beside(&store);
    let function = omniq_model::ModuleFunction {
        name: "acme:jobs/calc@1.0.0#add".into(),
        short: "calc.add".into(),
        signature: Signature { params: Vec::new(), result: None, is_async: false },
        docs: String::new(),
        unknown: Default::default(),
    };
    let pushed = Module {
        name: "calc".parse().unwrap(),
        version: "1".parse().unwrap(),
        digest: Digest::from_sha256([7; 32]),
        size: 1,
        functions: vec![function],
        command: false,
        capabilities: Vec::new(),
        pushed: Default::default(),
        unknown: Default::default(),
    };
    modules.push(pushed, vec![1]).await.unwrap();
    let call = "select from_sql.enqueue('calc', 'calc.add', '{\"b\": 2, \"a\": 1, \"rate\": 1.5}', queue => 'media',
                  priority => 5, labels => '{\"customer\": \"acme\"}')::text";
    let psql = std::process::Command::new("psql").args([url(), "-Atc", call]).output().unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    let id: TaskId = String::from_utf8(psql.stdout).unwrap().trim().parse().unwrap();
    let lane = Lane { queue: "media".parse().unwrap(), ..Lane::default() };
    let worker = session(&store, 1).await;
    let leases = store.claim(&worker, &[Want::new(lane.clone(), 9, 7)]).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [id]);
    let made = leases[0].task.as_ref().unwrap();
    let mut expected = Task::new(id, module(), "acme:jobs/calc@1.0.0#add", made.args.clone());
    expected.lane = lane;
    expected.priority = omniq_model::Priority::new(5).unwrap();
    expected.labels.insert("customer".into(), "acme".into());
    assert_eq!(made.encode(), expected.encode(), "as the library writes it");
    // {"a": 1, "b": 2, "rate": 1.5}
    assert_eq!(made.args, Payload::cbor(*b"\xa3\x61a\x01\x61b\x02\x64rate\xf9\x3e\x00"));
    assert_eq!(
        store.finish(&worker, vec![success(&leases[0])]).await.unwrap(),
        [Finished::Applied(State::Succeeded)]
    );
    for (call, says) in [
        ("select from_sql.enqueue('none')", "there is no module `none`"),
        ("select from_sql.enqueue('calc', 'sub')", "it has `calc.add`"),
        ("select from_sql.enqueue('calc', 'calc.add', priority => 10)", "`10` is not a priority"),
        ("select from_sql.enqueue('calc', 'calc.add', queue => 'a b')", "is not a name"),
    ] {
        let psql = std::process::Command::new("psql").args([url(), "-Atc", call]).output().unwrap();
        let said = String::from_utf8_lossy(&psql.stderr).into_owned();
        assert!(said.contains(says), "{call}: {said}");
    }
    store.close().await.unwrap();
}

/// Nothing that was said to a session or prepared in it is there the next time, and nothing is asked that a pooler refuses.
#[tokio::test]
async fn nothing_is_left_in_a_session_behind_a_pooler() {
    let pooler = omniq_services::pgbouncer().url();
    let url = with(pooler, "schema=pooled&pgbouncer=true&pool=4");
    let store = PostgresTasks::open(Config::new(&url).unwrap()).await.unwrap();
    let worker = session(&store, 1).await;
    let options = pooler.parse::<PgConnectOptions>().unwrap().extra_float_digits(None);
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    for round in 0..5 {
        store.enqueue(vec![task("pooled", round)]).await.unwrap();
        let leases = claim(&store, &worker, 9, u64::from(round) + 1).await;
        assert_eq!(leases.len(), 1);
        let done = store.finish(&worker, vec![success(&leases[0])]).await.unwrap();
        assert_eq!(done, [Finished::Applied(State::Succeeded)]);
        let left = sqlx::raw_sql(
            "select count(*) from pg_stat_activity where query ilike '%listen%' and pid <> pg_backend_pid()",
        );
        assert_eq!(
            left.fetch_one(&mut conn).await.unwrap().get::<i64, _>(0),
            0,
            "nobody listens through a pooler"
        );
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn another_process_hears_of_work_at_once() {
    let (store, other) = (open("heard").await, open("heard").await);
    let mut took = Vec::new();
    for number in 0..20 {
        let seen = other.changes(Interest::Work);
        let begun = std::time::Instant::now();
        store.enqueue(vec![task("heard", number)]).await.unwrap();
        assert!(other.changed(Interest::Work, seen, Duration::from_secs(5)).await > seen);
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!("enqueue to wake-up elsewhere: p50 {:?}, the slowest {:?}", took[10], took[19]);
    assert!(
        took[10] < Duration::from_millis(500),
        "{took:?}: that is the poll, not a notification"
    );
    store.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_server_was_killed() {
    let server = Server::start(Kind::Postgres, &[]);
    let store =
        PostgresTasks::open(Config::new(&with(server.url(), "timeout=30")).unwrap()).await.unwrap();
    let worker = session(&store, 1).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for number in 0..40 {
            let task = task("killed", round * 100 + number);
            if number == 20 {
                server.kill();
                server.restart();
            }
            // Whether it was done is unknown, or surely not: the same call again.
            loop {
                match store.enqueue(vec![task.clone()]).await {
                    Ok(answers) => {
                        assert!(
                            !matches!(answers[0], Enqueued::Conflict | Enqueued::Refused(_)),
                            "{answers:?}"
                        );
                        acknowledged.push(task.id);
                        break;
                    }
                    Err(error) => assert!(error.kind().is_passing(), "{error:?}"),
                }
            }
        }
    }
    let there = store.get(&acknowledged).await.unwrap();
    assert!(there.iter().all(Option::is_some), "nothing that was acknowledged is lost");
    let leases = claim(&store, &worker, 1000, 7).await;
    assert_eq!(leases.len(), 120, "each is there once");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_is_an_unknown_outcome_and_the_next_call_has_another() {
    let server = omniq_services::postgres();
    let proxy = Proxy::to(server.address());
    let url = with(&server.url_through(&proxy), "schema=cut&listen=off&timeout=5");
    let store = PostgresTasks::open(Config::new(&url).unwrap()).await.unwrap();
    store.enqueue(vec![task("cut", 0)]).await.unwrap();
    let mut unknown = 0;
    for number in 1..20 {
        proxy.cut_all();
        let mut answer = store.enqueue(vec![task("cut", number)]).await;
        while let Err(error) = answer {
            assert!(error.kind().is_passing(), "{error:?}");
            assert!(!error.to_string().contains("password"), "{error}");
            unknown += 1;
            answer = store.enqueue(vec![task("cut", number)]).await;
        }
    }
    println!("{unknown} calls had to be repeated");
    assert!(unknown > 0, "the cuts were noticed");
    // The connection that reads may have been cut as well, and nobody has used it since.
    let counts = loop {
        match store.count(&Default::default()).await {
            Ok(counts) => break counts,
            Err(error) => assert!(error.kind().is_passing(), "{error:?}"),
        }
    };
    assert_eq!(counts, [(State::Ready, 20)].into());
    proxy.set(Mode::Refuse);
    proxy.cut_all();
    let error = store.enqueue(vec![task("cut", 99)]).await.unwrap_err();
    assert!(error.kind().is_passing(), "{error:?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let server = Server::start(Kind::Postgres, &[("fsync", "off")]);
    let error = PostgresTasks::open(Config::new(server.url()).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("?durability=os"), "{error}");
    let store = PostgresTasks::open(Config::new(&with(server.url(), "durability=os")).unwrap())
        .await
        .unwrap();
    store.enqueue(vec![task("os", 1)]).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    open("newer").await.close().await.unwrap();
    let mut conn = connect().await;
    run(
        &mut conn,
        "update newer.meta set value = '99' where key in ('schema', 'min_writer')".into(),
    )
    .await;
    let config = Config::new(&with(url(), "schema=newer")).unwrap();
    let error = PostgresTasks::open(config.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    // One that only added to it leaves this version at work.
    run(&mut conn, "update newer.meta set value = '3' where key = 'min_writer'".into()).await;
    PostgresTasks::open(config).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn who_holds_a_snapshot_is_found() {
    let store = open("held").await;
    let mut conn = connect().await;
    run(&mut conn, "begin isolation level repeatable read; select 1".into()).await;
    let pid: i32 =
        sqlx::query("select pg_backend_pid()").fetch_one(&mut conn).await.unwrap().get(0);
    let found = async {
        loop {
            match store.held_snapshot().await.unwrap() {
                Some(held) if held.pid == pid => return held,
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(15), found)
        .await
        .expect("it is told of after some seconds");
    assert!(held.age >= Duration::from_secs(4), "{held:?}");
    // Nothing is lost meanwhile, and claims go on.
    let worker = session(&store, 1).await;
    store.enqueue((0..50).map(|number| task("held", number)).collect()).await.unwrap();
    assert_eq!(claim(&store, &worker, 100, 7).await.len(), 50);
    run(&mut conn, "rollback".into()).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_task_of_next_week_is_scheduled_and_days_have_partitions() {
    let store = open("days").await;
    let mut late = task("days", 1);
    late.delay = Span::from_secs(7 * 86_400);
    store.enqueue(vec![late.clone(), task("days", 2)]).await.unwrap();
    assert_eq!(state(&store, late.id).await, Some(State::Scheduled));
    let worker = session(&store, 1).await;
    let leases = claim(&store, &worker, 2, 7).await;
    store.finish(&worker, vec![success(&leases[0])]).await.unwrap();
    let days =
        sqlx::query("select count(*) from pg_inherits where inhparent = 'days.done'::regclass");
    assert!(
        days.fetch_one(&mut connect().await).await.unwrap().get::<i64, _>(0) >= 2,
        "today and tomorrow"
    );
    store.close().await.unwrap();
}
