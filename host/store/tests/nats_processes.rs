//! Processes that die in the midst of it, and several on one store. Each test starts this program again as the child.

#![cfg(feature = "nats")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::nats::{Config, NatsTasks};
use omniq_store::{
    End, Enqueued, Filter, Finished, Held, How, Lease, ManualClock, Select, Session, TaskStore,
    Want, WorkerInfo,
};

const SERVER: &str = "OMNIQ_TEST_SERVER";
const NAME: &str = "OMNIQ_TEST_NAME";
const IMAGE: &str = "OMNIQ_TEST_IMAGE";
const ROLE: &str = "OMNIQ_TEST_ROLE";
const NUMBER: &str = "OMNIQ_TEST_NUMBER";

/// Runs this program again in that role; `number` tells children apart.
fn start(role: &str, config: &Config, number: u64, failpoint: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(SERVER, &config.servers[0])
        .env(NAME, &config.name)
        .env(IMAGE, config.image_every.to_string())
        .env(NUMBER, number.to_string())
        .env("OMNIQ_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what children do.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let number = std::env::var(NUMBER).unwrap().parse().unwrap();
    let image_every = std::env::var(IMAGE).unwrap().parse().unwrap();
    let name = std::env::var(NAME).unwrap();
    let config = Config { image_every, ..Config::new(vec![std::env::var(SERVER).unwrap()], name) };
    let store = NatsTasks::open(config).await.unwrap();
    match role.as_str() {
        "steps" => steps(&store).await,
        "share" => share(&store, number).await,
        other => panic!("`{other}` is no role"),
    }
}

fn config(name: &str) -> Config {
    Config::new(vec![omniq_services::nats().address().to_string()], name)
}

fn task(number: u64) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    Task::new(TaskId::derived(&[&number.to_be_bytes()]), module, "f", Payload::cbor([0xa0]))
}

async fn session(store: &NatsTasks, id: u64) -> Session {
    let lease = Duration::from_secs(3600);
    store.open_session(SessionId::new(id), &WorkerInfo::default(), lease).await.unwrap()
}

async fn claim(store: &NatsTasks, session: &Session, max: usize) -> Vec<Lease> {
    store.claim(session, &[Want::new(Lane::default(), max, 7)]).await.unwrap()
}

fn ends(leases: &[Lease]) -> Vec<End> {
    let how = || How::Succeeded(TaskResult::success(Payload::cbor([7])));
    leases.iter().map(|lease| End { id: lease.id, token: lease.token, how: how() }).collect()
}

/// One call of each kind after the other; a failpoint ends it somewhere.
async fn steps(store: &NatsTasks) {
    let session = session(store, 1).await;
    store.enqueue((0..10).map(task).collect()).await.unwrap();
    let leases = claim(store, &session, 6).await;
    store.heartbeat(&session, Held::default()).await.unwrap();
    store.finish(&session, ends(&leases[..4])).await.unwrap();
    let ids = vec![task(9).id];
    let select = Select { filter: Filter { ids, ..Filter::default() }, max: 1 };
    store.cancel(&select).await.unwrap();
    store.retry(&select).await.unwrap();
    store.close_session(&session).await.unwrap();
}

/// How many tasks stand where after the steps up to a kind of call.
fn after(steps: usize) -> BTreeMap<State, u64> {
    use State::{Cancelled, Ready, Running, Succeeded};
    let counts: &[(State, u64)] = match steps {
        0 => &[],
        1 => &[(Ready, 10)],
        2 => &[(Ready, 4), (Running, 6)],
        3 => &[(Ready, 4), (Running, 2), (Succeeded, 4)],
        4 => &[(Ready, 3), (Running, 2), (Succeeded, 4), (Cancelled, 1)],
        5 => &[(Ready, 4), (Running, 2), (Succeeded, 4)],
        _ => &[(Ready, 6), (Succeeded, 4)],
    };
    counts.iter().copied().collect()
}

/// All that is there is what was committed, and the rest of the work can be done, each task once.
async fn check_after_death(kind: &str, place: &str, done: usize) {
    let failpoint = format!("nats.{kind}.{place}");
    let config = config(&format!("{kind}-{place}"));
    let status = start("steps", &config, 0, &failpoint).wait().unwrap();
    assert!(!status.success(), "{failpoint} was not hit");
    let now = Timestamp::from_millis(i64::MAX / 2); // every lease is over by then
    let config = Config { clock: Some(Arc::new(ManualClock::new(now))), ..config };
    let store = NatsTasks::open(config).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, after(done), "{failpoint}");
    let mut listed = BTreeMap::new();
    for info in store.list(&Filter::default(), None, 100).await.unwrap().items {
        *listed.entry(info.head.state).or_insert(0) += 1;
    }
    assert_eq!(listed, counts, "{failpoint}: counts and tasks agree");
    // Whoever repeats the enqueue gets the same tasks, and whoever comes next finishes them.
    for (number, answer) in (0..10).zip(store.enqueue((0..10).map(task).collect()).await.unwrap()) {
        let fits = match answer {
            Enqueued::Created => done == 0,
            Enqueued::Duplicate { id, .. } => done > 0 && id == task(number).id,
            _ => false,
        };
        assert!(fits, "{failpoint}: {answer:?}");
    }
    store.reclaim(100).await.unwrap();
    let session = session(&store, 2).await;
    let leases = claim(&store, &session, 100).await;
    let answers = store.finish(&session, ends(&leases)).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    assert!(store.is_idle().await.unwrap(), "{failpoint}");
}

#[tokio::test]
async fn a_death_around_a_message_loses_nothing_and_doubles_nothing() {
    let kinds = ["enqueue", "claim", "finish", "cancel", "retry", "close_session"];
    for (done, kind) in kinds.into_iter().enumerate() {
        check_after_death(kind, "before_publish", done).await;
        check_after_death(kind, "after_publish", done + 1).await;
        check_after_death(kind, "after_apply", done + 1).await;
    }
}

const EACH: u64 = 300;

/// Enqueues its own tasks one by one and lives whatever it gets, beside others that do the same.
async fn share(store: &NatsTasks, number: u64) {
    let session = session(store, number + 1).await;
    for own in 0..EACH {
        let answers = store.enqueue(vec![task(number * EACH + own)]).await.unwrap();
        assert_eq!(answers, [Enqueued::Created]);
        let leases = claim(store, &session, 3).await;
        let answers = store.finish(&session, ends(&leases)).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    }
    store.close_session(&session).await.unwrap();
    store.close().await.unwrap();
}

/// All tasks of so many processes have ended, each after one claim.
async fn check_shared(config: Config, processes: u64) {
    let store = NatsTasks::open(config).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(State::Succeeded, processes * EACH)]));
    let page = store.list(&Filter::default(), None, usize::MAX).await.unwrap();
    assert_eq!(page.items.len() as u64, processes * EACH);
    assert!(page.items.iter().all(|info| info.head.fence == 1), "each was claimed once");
    store.close().await.unwrap();
}

#[tokio::test]
async fn several_processes_share_a_store_without_losing_or_doubling_a_task() {
    const PROCESSES: u64 = 3;
    let config = Config { image_every: 30 << 10, ..config("shared") };
    let children: Vec<_> =
        (0..PROCESSES).map(|number| start("share", &config, number, "")).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    check_shared(config, PROCESSES).await;
}

/// Whoever takes images dies over each: others go on, and take them in their turn.
#[tokio::test]
async fn a_death_over_an_image_costs_an_image_and_nothing_else() {
    for place in ["after_put", "after_name"] {
        let config = Config { image_every: 20 << 10, ..config(&format!("image-{place}")) };
        let mut dying = start("share", &config, 7, &format!("nats.image.{place}"));
        assert!(!dying.wait().unwrap().success(), "it takes an image, and dies over it");
        assert!(start("share", &config, 0, "").wait().unwrap().success());
        let store = NatsTasks::open(config.clone()).await.unwrap();
        store.reclaim(0).await.unwrap();
        let page = store.list(&Filter::default(), None, usize::MAX).await.unwrap();
        let own: Vec<TaskId> = (0..EACH).map(|number| task(number).id).collect();
        let known = page.items.iter().filter(|info| own.contains(&info.id)).count() as u64;
        assert_eq!(known, EACH, "the other's are all there");
        let log = async_nats::jetstream::new(
            async_nats::connect(config.servers[0].as_str()).await.unwrap(),
        );
        let log = log.get_stream(format!("OMNIQ_{}", config.name)).await.unwrap();
        assert!(log.cached_info().state.first_sequence > 1, "the log is cut all the same");
        store.close().await.unwrap();
    }
}
