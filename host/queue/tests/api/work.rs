//! Tasks all the way: through a worker of this process and back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use omniq::{Error, Kind, NewTask, Queue, State};

use crate::kit::queue;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_back_typed() {
    let queue = queue().await;
    let worker = queue.worker().start().await.unwrap();
    let handle = queue.task("math", "add").args((5, 10)).await.unwrap();
    assert_eq!(handle.result::<i32>().await.unwrap(), 15);
    assert_eq!(handle.result::<u8>().await.unwrap(), 15, "again, and as another type");
    assert_eq!(handle.result_payload().await.unwrap().bytes, [15]);
    let error = handle.result::<String>().await.unwrap_err();
    assert!(matches!(error, Error::Value(_)), "{error}");
    assert_eq!(worker.stop(GRACE).await.succeeded, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_says_what_happened() {
    let queue = queue().await;
    let _worker = queue.worker().start().await.unwrap();
    let handle = queue.task("math", "div").args((1, 0)).retries(0).await.unwrap();
    let error = handle.result::<i32>().await.unwrap_err();
    let Error::NoResult(failed) = &error else { panic!("{error}") };
    assert_eq!((failed.state, error.kind()), (State::Failed, Kind::Trap));
    assert!(error.to_string().contains("divide by zero"), "{error}");
    assert!(failed.usage.wall_micros > 0);
    let dlq = queue.dlq(&Default::default(), None, 10).await.unwrap();
    assert_eq!(dlq.items.len(), 1);
    assert_eq!(dlq.items[0].id, handle.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_is_called_off_within_a_second_or_so() {
    let queue = queue().await;
    let _worker = queue.worker().start().await.unwrap();
    let handle = queue.task("math", "spin").fuel(u64::MAX).await.unwrap();
    while handle.status().await.unwrap() != State::Running {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    handle.cancel().await.unwrap();
    assert_eq!(handle.wait(Duration::from_secs(30)).await.unwrap(), State::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_end_once_each() {
    let queue = queue().await;
    let _worker = queue.worker().start().await.unwrap();
    let tasks = (0..3000).map(|number| NewTask::new("math", "add").args((number, 1)));
    let handles: Vec<_> = queue.enqueue_many(tasks).await.into_iter().map(Result::unwrap).collect();
    let mut results = BTreeSet::new();
    for handle in &handles {
        assert!(results.insert(handle.result::<i32>().await.unwrap()));
    }
    assert_eq!(results, (1..=3000).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_keeps_tasks_between_queues() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("omniq.db").display());
    let queue = Queue::connect(&url).await.unwrap();
    queue.push("math", crate::kit::MATH).await.unwrap();
    let id = queue.task("math", "add").args((5, 10)).await.unwrap().id();
    queue.close().await.unwrap();

    let queue = Queue::connect(&url).await.unwrap();
    let worker = queue.worker().start().await.unwrap();
    assert_eq!(queue.handle(id).result::<i32>().await.unwrap(), 15);
    worker.stop(GRACE).await;
    queue.close().await.unwrap();
}
