//! What Redis promises while its server is killed, stopped, cut off, full, or has forgotten the scripts.
#![cfg(feature = "redis")]

#[path = "support/redis.rs"]
mod support;

use std::time::{Duration, Instant};

use omniq_model::{Missed, Payload, Schedule, Span, State, Task, Timing, Token};
use omniq_services::{Kind, Mode, Proxy, Server};
use omniq_store::redis::{Config, RedisResults, RedisTasks};
use omniq_store::{
    End, ErrorKind, Filter, Finished, Interest, ResultKey, ResultStore, StagedResult, TaskStore,
};

use support::{PATIENCE, Run, fresh, open, repeat, session, success, task, want};

fn name() -> String {
    format!("fault-{}", fresh())
}

async fn redis(server: &Server, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(server.url()).expect("the URL is right");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it connects");
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query_async(&mut connection).await.expect("the server does it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_forgets_its_scripts_is_taught_them_again() {
    let server = omniq_services::redis();
    let run = Run::begin(server.url(), &name(), 2).await;
    for _ in 0..20 {
        redis(server, &["SCRIPT", "FLUSH"]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let server = Server::start(Kind::Redis, &[]);
    let run = Run::begin(server.url(), &name(), 3).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        server.restart();
    }
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cut_connections_lose_and_double_nothing() {
    let server = omniq_services::redis();
    let proxy = Proxy::to(server.address());
    let run = Run::begin(&server.url_through(&proxy), &name(), 3).await;
    for round in 0..20_u64 {
        // In the midst of a call, of an answer, or of nothing.
        let bytes = 2_000 + round * 7_919 % 30_000;
        match round % 3 {
            0 => proxy.set(Mode::CutAfter { up: Some(bytes), down: None }),
            1 => proxy.set(Mode::CutAfter { up: None, down: Some(bytes) }),
            _ => proxy.cut_all(),
        }
        tokio::time::sleep(Duration::from_millis(80)).await;
        proxy.set(Mode::Pass);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    run.end().await;
}

#[tokio::test]
async fn a_server_that_stands_still_does_not_hold_a_call_for_ever() {
    let server = Server::start(Kind::Redis, &[]);
    let mut config = Config::new(server.url()).expect("the URL is right");
    config.timeout = Duration::from_millis(500);
    let store = RedisTasks::open(config).await.expect("it opens");
    let task = task(10);
    server.pause();
    let begun = Instant::now();
    let error = store.enqueue(vec![task.clone()]).await.expect_err("nothing is answered");
    assert!(error.kind().is_passing(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.resume();
    // Whether the first one arrived or not, the task is there once.
    repeat!(store.enqueue(vec![task.clone()]));
    let counts = store.count(&Filter::default()).await.expect("it answers");
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(State::Ready, 1)]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_not_reached() {
    let server = Server::start(Kind::Redis, &[]);
    let mut config = Config::new(server.url()).expect("the URL is right");
    config.timeout = Duration::from_millis(300);
    let store = RedisTasks::open(config).await.expect("it opens");
    server.kill();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(store.enqueue(vec![task(10)]).await.expect_err("it is gone").kind());
    }
    // The first call may have found a connection that seemed to be alive.
    assert_eq!(kinds[2], ErrorKind::NotApplied, "{kinds:?}");
    server.restart();
    repeat!(store.enqueue(vec![task(10)]));
}

/// The reason why scripts that end things begin with a write that needs no memory.
#[tokio::test]
async fn a_full_server_takes_nothing_in_and_lets_tasks_end() {
    let server = Server::start(Kind::Redis, &[("maxmemory", "8mb")]);
    let store = open(server.url(), &name()).await;
    let session = session(&store).await;
    let mut accepted = 0;
    let error = loop {
        match store.enqueue(vec![task(10_000)]).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 10_000, "8 MB are full at some time");
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    // Nothing of the refused one is there.
    let counts = store.count(&Filter::default()).await.expect("it reads");
    assert_eq!(counts.values().sum::<u64>(), accepted);
    let leases = store.claim(&session, &[want(20)]).await.expect("claims go on");
    assert_eq!(leases.len(), 20);
    let ends: Vec<End> = leases.iter().map(|lease| success(lease.id, lease.token)).collect();
    let answers = store.finish(&session, ends).await.expect("ends go on");
    assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    assert_eq!(store.enqueue(vec![task(10_000)]).await.expect_err("full").kind(), ErrorKind::Full);
    // Room comes back with what is forgotten.
    let ended = Filter { states: vec![State::Succeeded], ..Filter::default() };
    let removed = store.remove(&omniq_store::Select { filter: ended, max: 100 }).await;
    assert_eq!(removed.expect("it forgets").moved.len(), 20);
    repeat!(store.enqueue(vec![task(10_000)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_is_woken_at_once_and_an_idle_one_asks_little() {
    let server = Server::start(Kind::Redis, &[]);
    let name = name();
    let (here, there) = (open(server.url(), &name).await, open(server.url(), &name).await);
    let mut waits = Vec::new();
    for round in 0..40 {
        let seen = there.changes(Interest::Work);
        let begun = Instant::now();
        here.enqueue(vec![task(10)]).await.expect("it is accepted");
        assert!(there.changed(Interest::Work, seen, PATIENCE).await > seen);
        // The first ones wait for the subscription.
        if round >= 10 {
            waits.push(begun.elapsed());
        }
    }
    waits.sort_unstable();
    println!("woken after {:?} in the middle, {:?} at most", waits[15], waits[29]);
    assert!(waits[15] < Duration::from_millis(200), "{:?}", waits[15]);
    let calls = async || {
        let redis::Value::BulkString(text) = redis(&server, &["INFO", "commandstats"]).await else {
            panic!("a text was expected");
        };
        let text = String::from_utf8(text).expect("it is text");
        let calls = text.split(":calls=").skip(1).filter_map(|rest| rest.split(',').next());
        calls.map(|calls| calls.parse::<u64>().expect("a number")).sum::<u64>()
    };
    let before = calls().await;
    let seen = there.changes(Interest::Work);
    there.changed(Interest::Work, seen, Duration::from_secs(5)).await;
    let asked = calls().await - before;
    // Of these, some are the connections that asked.
    assert!(asked <= 10, "{asked} calls in 5 s");
}

/// What a failover to a copy that lags behind looks like: what was acknowledged last is gone.
#[tokio::test]
async fn a_store_that_is_emptied_behind_our_back_is_used_anew() {
    let server = Server::start(Kind::Redis, &[]);
    let store = open(server.url(), &name()).await;
    let session = session(&store).await;
    store.enqueue(vec![task(10)]).await.expect("it is accepted");
    let leases = store.claim(&session, &[want(1)]).await.expect("it is leased");
    redis(&server, &["FLUSHALL"]).await;
    let ends = vec![success(leases[0].id, leases[0].token)];
    assert_eq!(store.finish(&session, ends).await.expect("it answers"), [Finished::Stale]);
    let beat = store.heartbeat(&session, omniq_store::Held::default()).await;
    assert_eq!(beat.expect("it answers"), omniq_store::Beat::Dead);
    let session = support::session(&store).await;
    store.enqueue(vec![task(10)]).await.expect("it is accepted");
    assert_eq!(store.claim(&session, &[want(1)]).await.expect("it is leased").len(), 1);
}

/// After a failover the URL may lead to the server that was the primary: it lets itself be read, and lags behind.
#[tokio::test]
async fn a_server_that_has_become_a_copy_shows_nothing() {
    let server = Server::start(Kind::Redis, &[]);
    let mut config = Config::new(server.url()).expect("the URL is right");
    config.timeout = Duration::from_secs(1);
    let store = RedisTasks::open(config).await.expect("it opens");
    let task = task(10);
    store.enqueue(vec![task.clone()]).await.expect("it is accepted");
    // What Sentinel does to such a server; the new primary is not reached from there yet.
    redis(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    redis(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    let begun = Instant::now();
    loop {
        let error = store.get(&[task.id]).await.expect_err("it may be over what it shows");
        assert!(error.kind().is_passing() && begun.elapsed() < PATIENCE, "{error:?}");
        // A call may have found a connection that seemed to be alive, or no time to ask.
        let told = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if told.contains("has become a copy of `127.0.0.1:1`") {
            break;
        }
    }
    redis(&server, &["REPLICAOF", "NO", "ONE"]).await;
    assert!(repeat!(store.get(&[task.id]))[0].is_some());
}

/// The server's time, in milliseconds.
async fn time(server: &Server) -> i64 {
    let parts: Vec<i64> = redis::from_redis_value(redis(server, &["TIME"]).await).expect("two");
    parts[0] * 1000 + parts[1] / 1000
}

/// What is left of a time in which the server's clock was ahead.
#[tokio::test]
async fn a_clock_that_was_ahead_ends_nothing_too_soon_and_holds_nothing_up() {
    let (server, name) = (omniq_services::redis(), name());
    let store = open(server.url(), &name).await;
    let meta = format!("{{{name}}}:meta");
    let ahead = time(server).await + 3_600_000;
    redis(server, &["HSET", &meta, "now", &ahead.to_string()]).await;

    let results = RedisResults::beside(&store);
    let task = task(10);
    let key = ResultKey { task: task.id, token: Token { fence: 1, nonce: 1 } };
    let value = Payload::raw(*b"value");
    let ttl = Span::from(Duration::from_secs(600));
    results.put(vec![StagedResult { key, value: value.clone(), ttl }]).await.expect("it is kept");
    assert_eq!(results.purge(100).await.expect("it looks"), 0);
    assert_eq!(results.get(&[key]).await.expect("it reads"), [Some(value)]);

    let later = Task { delay: Span::from(Duration::from_millis(200)), ..task };
    store.enqueue(vec![later]).await.expect("it is accepted");
    let begun = Instant::now();
    while store.promote(10).await.expect("it looks").promoted == 0 {
        assert!(begun.elapsed() < PATIENCE, "it becomes due");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let now = store.now().await.expect("it tells").as_millis();
    assert!(now >= ahead + 200, "it went on from there");

    // An older version moved the time on and knew nothing of this: it goes on from there, and does not leap.
    redis(server, &["HSET", &meta, "now", &(ahead + 60_000).to_string(), "behind", "5 5"]).await;
    let now = store.now().await.expect("it tells").as_millis();
    assert_eq!(now, ahead + 60_000);
}

/// Nobody is told that nothing was done where something was.
#[tokio::test]
async fn a_call_that_a_full_server_took_in_part_is_not_told_as_refused() {
    let server = Server::start(Kind::Redis, &[("maxmemory", "16mb")]);
    let store = open(server.url(), &name()).await;
    let tasks: Vec<_> = (0..4000).map(|_| task(10_000)).collect();
    let error = store.enqueue(tasks).await.expect_err("40 MB do not fit");
    let accepted: u64 = store.count(&Filter::default()).await.expect("it reads").values().sum();
    assert!((1..4000).contains(&accepted), "{accepted}");
    assert!(error.kind().is_unknown(), "{error:?}");

    let server = Server::start(Kind::Redis, &[("maxmemory", "16mb")]);
    let store = open(server.url(), &name()).await;
    let schedule = |number: usize| Schedule {
        tenant: "acme".parse().expect("a name"),
        name: format!("s{number}").parse().expect("a name"),
        timing: Timing::Every(Span::from(Duration::from_secs(60))),
        zone: "UTC".into(),
        missed: Missed::All,
        task: task(40_000),
        paused: None,
        next: None,
        version: 0,
        unknown: Default::default(),
    };
    let error = store.put_schedules((0..1000).map(schedule).collect()).await;
    let error = error.expect_err("40 MB do not fit");
    assert!(!store.schedules(None).await.expect("it reads").is_empty());
    assert!(error.kind().is_unknown(), "{error:?}");
}

/// What waits for an ended task is owed; that it cannot be paid at once does not undo the end.
#[tokio::test]
async fn an_end_is_told_although_what_waited_for_it_is_not_let_go_yet() {
    let server = omniq_services::redis();
    let proxy = Proxy::to(server.address());
    let (name, parent) = (name(), task(10));
    let store = open(&server.url_through(&proxy), &name).await;
    let session = session(&store).await;
    store.enqueue(vec![parent.clone()]).await.expect("it is accepted");
    let children = (0..800).map(|_| Task { after: vec![parent.id], ..task(10) }).collect();
    store.enqueue(children).await.expect("they are accepted");
    let leases = store.claim(&session, &[want(1)]).await.expect("it is leased");
    // So long is the answer to the end; what comes after it is lost.
    proxy.set(Mode::CutAfter { up: None, down: Some(16) });
    let ended = store.finish(&session, vec![success(parent.id, leases[0].token)]).await;
    proxy.set(Mode::Pass);
    assert_eq!(ended.expect("it is told"), [Finished::Applied(State::Succeeded)]);
    // Whoever comes next pays.
    repeat!(store.promote(10));
    let counts = repeat!(store.count(&Filter::default()));
    assert_eq!(counts.get(&State::Blocked), None, "{counts:?}");
}
