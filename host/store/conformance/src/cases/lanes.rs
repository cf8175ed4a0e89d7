//! Lanes: what is paused waits, what is not goes on, and no lane sees another's tasks.

use omniq_model::{Lane, State};
use omniq_store::{Finished, Want};

use crate::kit::{Kit, WHILE, lane, success};

async fn ready(kit: &Kit) -> Vec<Lane> {
    kit.store.ready_lanes(None, 100).await.unwrap()
}

pub(crate) async fn a_paused_lane_gives_nothing_until_it_goes_on(kit: &Kit) {
    let session = kit.session().await;
    let before = kit.enqueue_plain().await;
    kit.store.pause(&Lane::default(), true).await.unwrap();
    let during = kit.enqueue_plain().await;
    assert_eq!(kit.state(during).await, State::Ready, "it is accepted all the same");
    assert!(kit.claim(&session, 9).await.is_empty());
    kit.store.pause(&Lane::default(), false).await.unwrap();
    assert_eq!(kit.claim_ids(&session, 9).await, [before, during]);
}

pub(crate) async fn pausing_leaves_what_runs_alone(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    kit.store.pause(&Lane::default(), true).await.unwrap();
    let finished = kit.finish(&session, &lease, success(b"done")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
}

pub(crate) async fn pausing_holds_one_lane_only(kit: &Kit) {
    let (held, free) = (lane("acme", "media"), lane("other", "media"));
    kit.enqueue_with(|task| task.lane = held.clone()).await;
    let id = kit.enqueue_with(|task| task.lane = free.clone()).await;
    kit.store.pause(&held, true).await.unwrap();
    let wants = [held, free].map(|lane| Want::new(lane, 9, kit.fresh()));
    let leases = kit.store.claim(&kit.session().await, &wants).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [id]);
}

pub(crate) async fn pausing_twice_is_pausing_once(kit: &Kit) {
    kit.enqueue_plain().await;
    for paused in [true, true, false, false] {
        kit.store.pause(&Lane::default(), paused).await.unwrap();
        assert_eq!(ready(kit).await.is_empty(), paused);
    }
    kit.store.pause(&lane("nobody", "nothing"), true).await.unwrap(); // a lane that has no task
    assert_eq!(kit.claim(&kit.session().await, 9).await.len(), 1);
}

pub(crate) async fn what_becomes_ready_in_a_paused_lane_waits(kit: &Kit) {
    let session = kit.session().await;
    let late = kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    kit.store.pause(&Lane::default(), true).await.unwrap();
    kit.advance(WHILE);
    kit.store.promote(9).await.unwrap();
    assert_eq!(kit.state(late).await, State::Ready);
    assert!(kit.claim(&session, 9).await.is_empty());
    kit.store.pause(&Lane::default(), false).await.unwrap();
    assert_eq!(kit.claim_ids(&session, 9).await, [late]);
}

pub(crate) async fn lanes_with_work_are_told_by_name(kit: &Kit) {
    assert_eq!(ready(kit).await, []);
    let lanes = [lane("a", "x"), lane("a", "y"), lane("b", "a"), lane("b", "z")];
    for lane in lanes.iter().rev() {
        for _ in 0..2 {
            kit.enqueue_with(|task| task.lane = lane.clone()).await;
        }
    }
    kit.enqueue_with(|task| {
        task.lane = lane("c", "later");
        task.delay = WHILE.into();
    })
    .await;
    assert_eq!(ready(kit).await, lanes);
    assert_eq!(kit.store.ready_lanes(None, 3).await.unwrap(), lanes[..3]);
    assert_eq!(kit.store.ready_lanes(Some(&lanes[1]), 9).await.unwrap(), lanes[2..]);
    let between = lane("a", "xx");
    assert_eq!(kit.store.ready_lanes(Some(&between), 9).await.unwrap(), lanes[1..]);
    kit.store.pause(&lanes[1], true).await.unwrap();
    assert_eq!(ready(kit).await, [lane("a", "x"), lane("b", "a"), lane("b", "z")]);
    assert_eq!(kit.store.ready_lanes(None, 2).await.unwrap(), [lane("a", "x"), lane("b", "a")]);
}

pub(crate) async fn a_lane_without_work_is_not_told(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    assert_eq!(ready(kit).await, [], "what runs is no work");
    kit.finish(&session, &lease, crate::kit::release(std::time::Duration::ZERO)).await;
    assert_eq!(ready(kit).await, [Lane::default()]);
    kit.cancel(&[id]).await;
    assert_eq!(ready(kit).await, []);
}

pub(crate) async fn a_thousand_lanes_are_served_in_the_order_asked_for(kit: &Kit) {
    let lanes: Vec<_> = (0..1000).map(|index| lane("many", &format!("q{index}"))).collect();
    let tasks: Vec<_> =
        lanes.iter().map(|lane| kit.task_with(|task| task.lane = lane.clone())).collect();
    kit.store.enqueue(tasks.clone()).await.unwrap();
    let wants: Vec<_> =
        lanes.iter().rev().map(|lane| Want::new(lane.clone(), 1, kit.fresh())).collect();
    let leases = kit.store.claim(&kit.session().await, &wants).await.unwrap();
    let expected: Vec<_> = tasks.iter().rev().map(|task| task.id).collect();
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), expected);
}

pub(crate) async fn a_pause_survives_reopening(kit: &Kit) {
    kit.enqueue_plain().await;
    kit.store.pause(&Lane::default(), true).await.unwrap();
    let kit = kit.reopen().await;
    assert!(kit.claim(&kit.session().await, 9).await.is_empty());
    kit.store.pause(&Lane::default(), false).await.unwrap();
    assert_eq!(kit.claim(&kit.session().await, 9).await.len(), 1);
}
