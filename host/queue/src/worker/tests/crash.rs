//! Answers that are lost, sessions that die, tasks that cannot be read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use omniq_model::{Lane, Pool, SessionId, State};
use omniq_store::{End, Finished, How, TaskStore, Want, WorkerInfo};

use super::kit::*;
use crate::worker::WorkerOptions;

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_put_back_and_made_again() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    kit.tasks.lost_claims.store(1, Ordering::Release);
    let worker = kit.start(thread()).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(inline(&kit.result(id).await), [15]);
    let head = kit.info(id).await.head;
    assert_eq!(
        (head.attempt, head.fence),
        (1, 2),
        "the lost claim counts as a claim, not as an attempt"
    );
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_lease_the_worker_does_not_know_of_shows_in_its_heartbeats() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let lease = Duration::from_secs(1);
    let worker = kit.start(WorkerOptions { lease, ..thread() }).await;
    // Claimed for the worker behind its back, which is what an answer is that got lost on the way.
    kit.tasks.pause(&Lane::default(), true).await.unwrap();
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    kit.tasks.pause(&Lane::default(), false).await.unwrap();
    let session = omniq_store::Session { id: worker.session(), lease };
    let want = Want::new(Lane::default(), 1, 7);
    let stolen = kit.tasks.claim(&session, &[want]).await.unwrap();
    assert_eq!(inline(&kit.result(id).await), [15]);
    let fence = kit.info(id).await.head.fence;
    assert_eq!(fence, if stolen.is_empty() { 1 } else { 2 });
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_committed_once() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    kit.tasks.refused_finishes.store(2, Ordering::Release);
    kit.tasks.lost_finishes.store(2, Ordering::Release);
    let worker = kit.start(thread()).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(inline(&kit.result(id).await), [15]);
    let stats = worker.stop(Duration::from_secs(10)).await;
    assert_eq!((stats.claimed, stats.succeeded, stats.stale), (1, 1, 0));
}

#[tokio::test]
async fn a_worker_cut_off_for_the_time_of_its_lease_stops_and_its_late_end_changes_nothing() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let options = WorkerOptions { lease: Duration::from_secs(1), keeper: false, ..thread() };
    let worker = kit.start(options).await;
    let first = worker.session();
    let id = kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until(id, |info| info.head.state == State::Running).await;
    // From here on the worker is alone; what it ends is committed only after another has the task.
    kit.tasks.is_deaf.store(true, Ordering::Release);
    kit.tasks.refused_finishes.store(u32::MAX, Ordering::Release);

    let other = SessionId::new(99);
    let other = kit
        .tasks
        .open_session(other, &WorkerInfo::default(), Duration::from_secs(600))
        .await
        .unwrap();
    let reclaimed = async {
        loop {
            if !kit.tasks.reclaim(10).await.unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reclaimed).await.expect("the lease runs out");
    let want = Want::new(Lane::default(), 1, 5);
    let lease = kit.tasks.claim(&other, &[want]).await.unwrap().remove(0);
    assert_eq!(lease.id, id);

    kit.tasks.refused_finishes.store(0, Ordering::Release);
    kit.tasks.is_deaf.store(false, Ordering::Release);
    // The worker notices, and works on under a new session.
    let next = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(inline(&kit.result(next).await), [15]);
    assert_ne!(worker.session(), first);
    let stats = worker.stop(Duration::from_secs(10)).await;
    assert_eq!((stats.stale, stats.succeeded), (1, 1));

    let head = kit.info(id).await.head;
    assert_eq!((head.state, head.lease.unwrap().0), (State::Running, other.id));
    let end = End { id, token: lease.token, how: How::Succeeded(Default::default()) };
    let finished = kit.tasks.finish(&other, vec![end]).await.unwrap();
    assert_eq!(finished, [Finished::Applied(State::Succeeded)]);
}

#[tokio::test]
async fn a_late_word_of_a_session_that_died_does_not_bury_the_one_in_its_place() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let worker = kit.start(thread()).await;
    let run = async || {
        let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
        assert_eq!(inline(&kit.result(id).await), [15]);
        worker.session()
    };
    let first = run().await;
    worker.shared.died(first);
    let second = run().await;
    assert_ne!(first, second, "another takes its place before anything is claimed");
    worker.shared.died(first);
    assert_eq!(run().await, second);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_task_that_cannot_be_read_fails_at_once_and_nothing_waits_behind_it() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    kit.tasks.is_garbled.store(true, Ordering::Release);
    let worker = kit.start(thread()).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(kind(&kit.result(id).await), "undecodable");
    kit.tasks.is_garbled.store(false, Ordering::Release);
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(inline(&kit.result(id).await), [15]);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_worker_that_lost_a_part_of_itself_ends() {
    for broken in ["claim", "finish", "heartbeat", "promote", "reclaim", "cancels"] {
        let kit = Kit::new();
        let (spin, add) = (
            kit.push(component(SPIN, NUMBER_TYPE)).await,
            kit.push(component(ADD, ADD_TYPE)).await,
        );
        kit.enqueue(kit.task(&spin, &[0x80])).await;
        let options = options(if broken == "heartbeat" { Pool::Async } else { Pool::Thread });
        let worker = kit.start(WorkerOptions { lease: Duration::from_secs(1), ..options }).await;
        kit.until_running(&worker, 1).await;
        *kit.tasks.broken.lock().unwrap() = broken;
        kit.enqueue(kit.task(&add, &[0x82, 1, 2])).await;
        let ended = tokio::time::timeout(Duration::from_secs(60), worker.wait()).await;
        ended.unwrap_or_else(|_| panic!("it goes on without `{broken}`"));
        let failure = worker.failure().unwrap_or_default();
        assert!(failure.contains(broken), "{broken}: {failure}");
    }
}

#[tokio::test]
async fn what_a_dead_session_is_given_late_does_not_run() {
    let (kit, clock) = Kit::manual();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let lease = Duration::from_millis(300);
    let worker = kit.start(WorkerOptions { lease, ..thread() }).await;
    kit.tasks.late_claims.store(1, Ordering::Release);
    let id = kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until(id, |info| info.head.state == State::Running).await;
    clock.advance(lease * 10);
    kit.until(id, |info| info.head.state == State::Ready).await;
    let noticed = tokio::time::timeout(PATIENCE, async {
        while kit.tasks.deaths.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    noticed.await.expect("a heartbeat is told");
    kit.tasks.answers.notify_one();
    // The guest never ends by itself: an end of this attempt says that it was stopped.
    let dropped = tokio::time::timeout(PATIENCE, async {
        while worker.stats().stale == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    dropped.await.expect("the attempt is stopped");
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_claim_that_a_stopping_worker_never_hears_of_is_another_s_before_its_grace_is_over() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let worker = kit.start(thread()).await;
    let long = kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until_running(&worker, 1).await;
    kit.tasks.late_claims.store(1, Ordering::Release);
    let lost = kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until(lost, |info| info.head.state == State::Running).await;
    // Nothing else claims it, so that it is seen to go back.
    kit.tasks.pause(&Lane::default(), true).await.unwrap();
    let stopping = worker.stop(PATIENCE * 10);
    tokio::pin!(stopping);
    tokio::select! {
        _ = &mut stopping => panic!("a guest still runs"),
        _ = kit.until(lost, |info| info.head.state == State::Ready) => {}
    }
    kit.cancel(long).await;
    assert_eq!(stopping.await.cancelled, 1);
}
