//! Processes that die in the midst of it, and several on one store. Each test starts this program again as the child.

#![cfg(feature = "nats")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/processes.rs"]
mod processes;

use std::process::Child;
use std::sync::Arc;

use omniq_model::TaskId;
use omniq_store::nats::{Config, NatsTasks};
use omniq_store::{Filter, ManualClock, TaskStore};

use processes::{
    EACH, KINDS, LATER, NUMBER, ROLE, check_after_death, check_shared, share, steps, task,
};

const SERVER: &str = "OMNIQ_TEST_SERVER";
const NAME: &str = "OMNIQ_TEST_NAME";
const IMAGE: &str = "OMNIQ_TEST_IMAGE";

fn start(role: &str, config: &Config, number: u64, failpoint: &str) -> Child {
    let image = config.image_every.to_string();
    let place = [(SERVER, &config.servers[0]), (NAME, &config.name), (IMAGE, &image)];
    processes::start(role, place, number, failpoint)
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

async fn check(kind: &str, place: &str, done: usize) {
    let failpoint = format!("nats.{kind}.{place}");
    let config = config(&format!("{kind}-{place}"));
    let status = start("steps", &config, 0, &failpoint).wait().unwrap();
    assert!(!status.success(), "{failpoint} was not hit");
    let config = Config { clock: Some(Arc::new(ManualClock::new(LATER))), ..config };
    let store = NatsTasks::open(config).await.unwrap();
    check_after_death(&store, &failpoint, &[done]).await;
}

#[tokio::test]
async fn a_death_around_a_message_loses_nothing_and_doubles_nothing() {
    for (done, kind) in KINDS.into_iter().enumerate() {
        check(kind, "before_publish", done).await;
        check(kind, "after_publish", done + 1).await;
        check(kind, "after_apply", done + 1).await;
    }
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
    let store = NatsTasks::open(config).await.unwrap();
    check_shared(&store, PROCESSES).await;
    store.close().await.unwrap();
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
