use std::time::Duration;

use omniq_model::{Lane, State};

use super::TestQueue;
use crate::{NewTask, Queue};

const HOUR: Duration = Duration::from_secs(3600);

/// Adds, and traps.
const JOBS: &str = r#"(component
    (core module $m
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "trap") unreachable))
    (core instance $i (instantiate $m))
    (func (export "add") (param "a" s32) (param "b" s32) (result s32)
        (canon lift (core func $i "add")))
    (func (export "trap") (canon lift (core func $i "trap"))))"#;

async fn queue() -> TestQueue {
    let queue = TestQueue::new().await.unwrap();
    queue.push("jobs", JOBS).await.unwrap();
    queue
}

/// What a program under test would do.
async fn order(queue: &Queue) {
    queue.task("jobs", "add").args((1, 2)).queue("mail").await.unwrap();
}

#[tokio::test]
async fn what_is_ready_runs_in_the_call_and_nothing_else_does() {
    let queue = queue().await;
    assert_eq!(queue.run_ready().await.unwrap(), 0);
    let tasks = [
        queue.task("jobs", "add").args((1, 2)).await.unwrap(),
        queue.task("jobs", "add").args((3, 4)).await.unwrap(),
    ];
    let child = queue.task("jobs", "add").args((5, 6)).after(&tasks[1]).await.unwrap();
    let later = queue.task("jobs", "add").args((7, 8)).delay(HOUR).await.unwrap();
    assert_eq!(queue.run_ready().await.unwrap(), 3);
    for (task, expected) in [(&tasks[0], 3), (&tasks[1], 7), (&child, 11)] {
        assert_eq!(task.result::<i32>().await.unwrap(), expected);
    }
    queue.advance(HOUR - Duration::from_millis(1)).await.unwrap();
    assert_eq!(queue.run_ready().await.unwrap(), 0);
    assert_eq!(later.status().await.unwrap(), State::Scheduled);
    queue.advance(Duration::from_millis(1)).await.unwrap();
    assert_eq!(queue.run_ready().await.unwrap(), 1);
    assert_eq!(later.result::<i32>().await.unwrap(), 15);
    queue.close().await.unwrap();
}

#[tokio::test]
async fn a_day_of_retries_passes_in_a_moment() {
    let queue = queue().await;
    let task = queue.task("jobs", "trap").retries(5).backoff(HOUR, HOUR).await.unwrap();
    let begin = queue.now();
    assert_eq!(queue.run_ready().await.unwrap(), 1);
    assert_eq!(task.status().await.unwrap(), State::Scheduled);
    assert_eq!(queue.run_for(24 * HOUR).await.unwrap(), 5);
    assert_eq!(task.status().await.unwrap(), State::Failed);
    assert_eq!(queue.now().since(begin), 24 * HOUR);
    queue.advance(25 * HOUR).await.unwrap();
    assert!(task.status().await.is_err(), "it is forgotten a day after its end");
}

#[tokio::test]
async fn a_paused_lane_keeps_nobody_waiting() {
    let queue = queue().await;
    let lane = Lane { queue: "mail".parse().unwrap(), ..Lane::default() };
    queue.stores().tasks.pause(&lane, true).await.unwrap();
    order(&queue).await;
    assert_eq!(queue.run_ready().await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_enqueued_can_be_asked_for() {
    let queue = queue().await;
    let wanted = || NewTask::new("jobs", "add").args((1, 2)).queue("mail");
    queue.assert_not_enqueued(wanted()).await;
    order(&queue).await;
    let info = queue.assert_enqueued(wanted()).await;
    assert_eq!(info.head.state, State::Ready);
    queue.assert_enqueued(NewTask::new("jobs", "add").arg("b", 2).arg("a", 1).queue("mail")).await;
    for other in [
        NewTask::new("jobs", "add").args((1, 3)).queue("mail"),
        NewTask::new("jobs", "add").args((1, 2)),
        NewTask::new("jobs", "trap").queue("mail"),
    ] {
        queue.assert_not_enqueued(other).await;
    }
    assert!(queue.enqueued(NewTask::new("jobs", "subtract")).await.is_err());
    queue.run_ready().await.unwrap();
    assert_eq!(queue.assert_enqueued(wanted()).await.head.state, State::Succeeded);
}

#[tokio::test]
#[should_panic(
    expected = "0 tasks like `add` of `jobs` were enqueued\nthere are 1 tasks\n  jobs add"
)]
async fn what_is_missing_is_told_with_what_there_is() {
    let queue = queue().await;
    order(&queue).await;
    queue.assert_enqueued(NewTask::new("jobs", "add").args((9, 9))).await;
}
