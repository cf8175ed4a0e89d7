//! Looking at tasks and acting on many of them.

use std::time::Duration;

use omniq::{Error, Filter, Kind, NewTask, State, TaskId, Timestamp, parse_filter};

use crate::kit::{queue, state};

fn filter(text: &str) -> Filter {
    parse_filter(text, Timestamp::default()).expect("is a filter")
}

#[tokio::test]
async fn a_filter_finds_counts_and_acts() {
    let queue = queue().await;
    let task = |number: i32| {
        let name = if number % 2 == 0 { "even" } else { "odd" };
        NewTask::new("math", "add").args((number, 1)).queue(name).label("parity", name)
    };
    // More than one step of a bulk call.
    let outcomes = queue.enqueue_many((0..3000).map(task)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(queue.count(&filter("queue:even")).await.unwrap()[&State::Ready], 1500);
    let page = queue.list(&filter("label.parity:odd"), None, 1000).await.unwrap();
    assert_eq!(page.items.len(), 1000);
    let rest = queue.list(&filter("label.parity:odd"), page.next, 1000).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (500, None));

    let done = queue.cancel(&filter("queue:even")).await.unwrap();
    assert_eq!(done.changed.len(), 1500);
    assert!(queue.cancel(&filter("queue:even")).await.unwrap().is_empty());
    assert_eq!(queue.count(&filter("")).await.unwrap()[&State::Cancelled], 1500);
    assert_eq!(queue.retry(&filter("state:cancelled")).await.unwrap().changed.len(), 1500);
    assert_eq!(queue.cancel(&filter("")).await.unwrap().changed.len(), 3000);
    assert_eq!(queue.remove(&filter("queue:odd")).await.unwrap().changed.len(), 1500);
    assert_eq!(queue.count(&filter("")).await.unwrap()[&State::Cancelled], 1500);
}

#[tokio::test]
async fn one_task_is_called_off_and_retried_by_its_handle() {
    let queue = queue().await;
    let handle = queue.task("math", "add").args((5, 10)).await.unwrap();
    assert!(handle.retry().await.unwrap().changed.is_empty(), "it waits");
    assert_eq!(handle.cancel().await.unwrap().changed, [handle.id()]);
    assert_eq!(handle.cancel().await.unwrap().skipped, [(handle.id(), State::Cancelled)]);
    let error = handle.result::<i32>().await.unwrap_err();
    assert_eq!((error.kind(), error.task_id()), (Kind::Cancelled, Some(handle.id())));
    assert!(matches!(error, Error::NoResult(_)), "{error}");
    assert_eq!(handle.retry().await.unwrap().changed, [handle.id()]);
    assert_eq!(state(&handle).await, State::Ready);
}

#[tokio::test]
async fn a_task_that_does_not_exist_is_no_task() {
    let queue = queue().await;
    let handle = queue.handle(TaskId::derived(&[b"nobody"]));
    assert!(matches!(handle.status().await, Err(Error::NoTask(_))));
    assert!(matches!(handle.cancel().await, Err(Error::NoTask(_))));
    assert!(matches!(handle.retry().await, Err(Error::NoTask(_))));
    assert!(matches!(handle.result::<i32>().await, Err(Error::NoTask(_))));
    assert!(matches!(handle.wait(Duration::from_secs(9)).await, Err(Error::NoTask(_))));
    assert!(queue.get(handle.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_wait_ends_with_its_time_or_the_task() {
    let queue = queue().await;
    let handle = queue.task("math", "add").args((5, 10)).await.unwrap();
    let error = handle.wait(Duration::from_millis(5)).await.unwrap_err();
    assert!(matches!(error, Error::WaitTimeout { state: State::Ready, .. }), "{error}");
    assert_eq!(error.kind(), Kind::WaitTimeout);
    assert!(error.is_retryable());
    let other = handle.clone();
    let wait = tokio::spawn(async move { other.wait(Duration::from_secs(60)).await });
    handle.cancel().await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap(), State::Cancelled);
}

#[tokio::test]
async fn what_waits_for_a_cancelled_task_is_cancelled_with_it() {
    let queue = queue().await;
    let parent = queue.task("math", "add").args((5, 10)).await.unwrap();
    let child = queue.task("math", "add").args((5, 10)).after(&parent).await.unwrap();
    parent.cancel().await.unwrap();
    assert_eq!(child.wait(Duration::from_secs(60)).await.unwrap(), State::Cancelled);
    let error = child.result::<i32>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::ParentFailed, "{error}");
}

#[tokio::test]
async fn each_failed_task_is_retried_once_although_it_fails_again_at_once() {
    const COUNT: usize = 2500; // more than one step of a bulk call
    let queue = queue().await;
    let id = |number: usize| TaskId::derived(&[&number.to_be_bytes()]);
    // Divides by zero, which no retry mends.
    let task = |number| NewTask::new("math", "div").args((1, 0)).retries(0).id(id(number));
    let outcomes = queue.enqueue_many((0..COUNT).map(task)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes[0]);
    let worker = queue.worker().start().await.unwrap();
    let failed = async |times: u64| {
        let all = tokio::time::timeout(Duration::from_secs(60), async {
            while worker.stats().failed < times * COUNT as u64 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        all.await.expect("they fail");
    };
    failed(1).await;
    let done = queue.retry(&filter("state:error")).await.unwrap();
    assert_eq!(done.changed.len(), COUNT);
    failed(2).await;
    assert_eq!(worker.stop(Duration::ZERO).await.failed, 2 * COUNT as u64);
}
