//! What a worker does for everybody as time goes by.

use std::time::Duration;

use omniq_model::{EventKind, Lane, SessionId, Span, State};
use omniq_store::{EventFilter, EventStore, TaskStore, Want, WorkerInfo};

use super::kit::*;
use crate::worker::WorkerOptions;

fn patient() -> WorkerOptions {
    WorkerOptions { lease: Duration::from_secs(24 * 3600), ..thread() }
}

#[tokio::test]
async fn a_delayed_task_runs_when_it_is_due_and_not_before() {
    let (kit, clock) = Kit::manual();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let worker = kit.start(patient()).await;
    let mut task = kit.task(&add, &[0x82, 5, 10]);
    task.delay = Span::from_secs(60);
    let delayed = kit.enqueue(task).await;
    clock.advance(Duration::from_secs(59));
    // One that is due at once goes the whole way meanwhile.
    kit.end(kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await).await;
    assert_eq!(kit.info(delayed).await.head.state, State::Scheduled);
    clock.advance(Duration::from_secs(1));
    assert_eq!(kit.end(delayed).await.state, State::Succeeded);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn who_waits_hears_that_a_task_was_not_started_in_time() {
    let (mut kit, clock) = Kit::manual();
    let events = kit.with_events();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    kit.tasks.pause(&Lane::default(), true).await.unwrap();
    let worker = kit.start(patient()).await;
    let mut task = kit.task(&add, &[0x82, 5, 10]);
    task.ttl = Some(Span::from_secs(10));
    let id = kit.enqueue(task).await;
    clock.advance(Duration::from_secs(11));
    assert_eq!(kit.end(id).await.state, State::Expired);
    worker.stop(Duration::ZERO).await;
    kit.sink.close().await;
    let filter = EventFilter { task: Some(id), ..EventFilter::default() };
    let kinds: Vec<_> = events.query(&filter, None, 10).await.unwrap();
    assert_eq!(kinds.iter().map(|(_, event)| event.kind).collect::<Vec<_>>(), [EventKind::Expired]);
}

#[tokio::test]
async fn tasks_of_a_worker_that_died_run_again() {
    let (mut kit, clock) = Kit::manual();
    let events = kit.with_events();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    let lease = Duration::from_secs(15);
    let dead = SessionId::new(7);
    let dead = kit.tasks.open_session(dead, &WorkerInfo::default(), lease).await.unwrap();
    let want = Want::new(Lane::default(), 1, 1);
    assert_eq!(kit.tasks.claim(&dead, &[want]).await.unwrap().len(), 1);
    let worker = kit.start(patient()).await;
    clock.advance(lease + Duration::from_secs(1));
    assert_eq!(inline(&kit.result(id).await), [15]);
    let head = kit.info(id).await.head;
    assert_eq!((head.attempt, head.crashes, head.fence), (1, 1, 2));
    worker.stop(Duration::ZERO).await;
    kit.sink.close().await;
    let filter = EventFilter { task: Some(id), ..EventFilter::default() };
    let found = events.query(&filter, None, 10).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|(_, event)| (event.kind, event.fence)).collect();
    let whole = [(EventKind::LeaseLost, 1), (EventKind::Started, 2), (EventKind::Succeeded, 2)];
    assert_eq!(kinds, whole);
}
