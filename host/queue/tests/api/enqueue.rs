//! Tasks on their way into the store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use omniq::{Error, Kind, NewTask, Scope, State, TaskId};
use serde::Serialize;

use crate::kit::{queue, state};

#[derive(Serialize)]
struct Numbers {
    b: i32,
    a: i32,
}

#[tokio::test]
async fn one_call_in_many_forms_is_stored_the_same() {
    let queue = queue().await;
    let task = || queue.task("math", "add");
    let mut stored = Vec::new();
    for task in [
        task().args((5, 10)),
        task().args([5, 10]),
        task().args(Numbers { a: 5, b: 10 }),
        task().args(BTreeMap::from([("a", 5), ("b", 10)])),
        task().arg("b", 10).arg("a", 5),
        task().args_json("[5, 10]"),
        task().args_json(r#"{"b": 10, "a": 5}"#),
        task().args_cbor([0x82, 5, 10]),
        task().args_words(["5", "10"]),
        task().args_words(["b=10", "a=5"]),
        queue.task("math@1", "add").args((5, 10)),
    ] {
        let info = task.await.unwrap().info().await.unwrap();
        stored.push(info.task.unwrap().args.clone());
    }
    assert!(stored.windows(2).all(|pair| pair[0] == pair[1]), "{stored:?}");
}

#[tokio::test]
async fn what_was_said_is_what_is_stored() {
    let queue = queue().await;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let parent = queue.task("math", "add").args((1, 2)).await.unwrap();
    let handle = queue
        .task("math", "add")
        .args((5, 10))
        .queue("media")
        .tenant("acme")
        .priority(-3)
        .delay(Duration::from_secs(5))
        .at(at)
        .timeout(Duration::from_secs(7))
        .ttl(Duration::from_secs(60))
        .retries(4)
        .backoff(Duration::from_secs(2), Duration::from_secs(8))
        .fuel(1000)
        .memory(1 << 20)
        .label("customer", "acme")
        .unique("k", Scope::UntilStarted)
        .after(&parent)
        .result_ttl(Duration::from_secs(9))
        .await
        .unwrap();
    assert!(handle.is_new());
    assert_eq!(state(&handle).await, State::Blocked);
    let task = handle.info().await.unwrap().task.unwrap();
    assert_eq!(task.lane.queue.as_str(), "media");
    assert_eq!(task.lane.tenant.as_str(), "acme");
    assert_eq!(task.priority.get(), -3);
    assert_eq!(task.delay.get(), Duration::from_secs(5));
    assert_eq!(task.run_at.unwrap().as_millis(), 4_000_000_000_000);
    assert_eq!(task.limits.timeout.unwrap().get(), Duration::from_secs(7));
    assert_eq!((task.limits.fuel, task.limits.memory), (Some(1000), Some(1 << 20)));
    assert_eq!(task.ttl.unwrap().get(), Duration::from_secs(60));
    assert_eq!((task.retry.attempts, task.retry.crashes), (5, 3));
    assert_eq!(task.retry.backoff.max.get(), Duration::from_secs(8));
    assert_eq!(task.labels["customer"], "acme");
    assert_eq!(task.after, [parent.id()]);
    assert_eq!(task.result_ttl.get(), Duration::from_secs(9));
    assert_eq!(task.function, "add");
}

#[tokio::test]
async fn nothing_is_stored_of_what_cannot_be() {
    let queue = queue().await;
    let task = || queue.task("math", "add").args((5, 10));
    let id = TaskId::derived(&[b"nobody"]);
    for (task, kind, part) in [
        (queue.task("math", "add").args((5, "ten")), Kind::ArgsMismatch, "`b` must be s32"),
        (queue.task("math", "add").args_json("[5"), Kind::ArgsMismatch, "JSON"),
        (queue.task("math", "add"), Kind::ArgsMismatch, "`a` of type s32 is missing"),
        (queue.task("math", "ad"), Kind::NotFound, "the module `math@1` has no function `ad`"),
        (queue.task("math@2", "add"), Kind::NotFound, "there is `math@1`"),
        (queue.task("maths", "add"), Kind::NotFound, "there is `math@1`"),
        (queue.task("no name", "add"), Kind::Usage, "`no name` is not a name"),
        (queue.command("math", ["x"], ""), Kind::Usage, "is no command"),
        (task().priority(10), Kind::Usage, "from -9 to 9"),
        (task().queue("/"), Kind::Usage, "`/` is not a name"),
        (task().label("a:b", "c"), Kind::Usage, "`a:b` is not the key of a label"),
        (task().label("a", "c".repeat(257)), Kind::Usage, "more than 256 bytes"),
        (task().unique("", Scope::UntilFinished), Kind::Usage, "1 to 512 bytes"),
        (task().unique("k", Scope::Window), Kind::Usage, "`unique_for`"),
        (task().ttl(Duration::ZERO), Kind::Usage, "at least 1ms"),
        (task().arg("a", 1), Kind::Usage, "use one of the two ways"),
        (task().after(id), Kind::NotFound, "does not exist"),
    ] {
        let error = task.enqueue().await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.is_retryable());
    }
    assert!(queue.count(&Default::default()).await.unwrap().values().all(|count| *count == 0));
}

#[tokio::test]
async fn an_enqueue_may_be_repeated_under_its_id() {
    let queue = queue().await;
    let id = TaskId::derived(&[b"once"]);
    let task = |b: i32| queue.task("math", "add").args((5, b)).id(id);
    assert!(task(1).await.unwrap().is_new());
    let again = task(1).await.unwrap();
    assert_eq!((again.is_new(), again.id()), (false, id));
    let other = task(2).await.unwrap_err();
    assert!(matches!(other, Error::TaskConflict(of) if of == id), "{other}");
    assert_eq!((other.kind(), other.task_id()), (Kind::Conflict, Some(id)));
}

#[tokio::test]
async fn a_unique_key_leads_to_who_holds_it() {
    let queue = queue().await;
    let task = |b: i32| queue.task("math", "add").args((5, b)).unique("k", Scope::UntilFinished);
    let first = task(1).await.unwrap();
    let second = task(2).await.unwrap();
    assert_eq!((second.is_new(), second.id()), (false, first.id()));
    first.cancel().await.unwrap();
    assert!(task(3).await.unwrap().is_new());
    let other =
        queue.task("math", "add").args((5, 5)).tenant("b").unique("k", Scope::UntilFinished);
    assert!(other.await.unwrap().is_new());
}

#[tokio::test]
async fn a_key_is_held_for_its_window_however_soon_the_result_is_forgotten() {
    let queue = queue().await;
    let task = |a| {
        let task = queue.task("math", "add").args((a, 2)).result_ttl(Duration::ZERO);
        task.unique_for("k", Duration::from_secs(3600))
    };
    let first = task(1).await.unwrap();
    first.cancel().await.unwrap();
    queue.stores().tasks.purge(10).await.unwrap();
    let second = task(2).await.unwrap();
    assert_eq!((second.id(), second.is_new()), (first.id(), false));
}

#[tokio::test]
async fn many_at_once_have_an_outcome_each_in_their_order() {
    let queue = queue().await;
    // More than one chunk, with refused ones on both sides of its end.
    let tasks = (0..2500).map(|number| {
        let task = NewTask::new("math", "add");
        if number % 1000 == 999 { task.args((number, "x")) } else { task.args((number, 1)) }
    });
    let outcomes = queue.enqueue_many(tasks).await;
    assert_eq!(outcomes.len(), 2500);
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), number % 1000 == 999, "{number}: {outcome:?}");
    }
    let counts = queue.count(&Default::default()).await.unwrap();
    assert_eq!(counts[&State::Ready], 2498);
    // Lists are newest first, so the last task stands first.
    let page = queue.list(&Default::default(), None, 1).await.unwrap();
    assert_eq!(page.items[0].id, outcomes[2499].as_ref().unwrap().id());
    assert!(queue.enqueue_many(Vec::<NewTask>::new()).await.is_empty());
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let queue = queue().await;
    let handle = queue.task("math", "add").args((5, 10)).await.unwrap();
    let waiting = handle.clone();
    let waiting = tokio::spawn(async move { waiting.result::<i32>().await });
    queue.close().await.unwrap();
    queue.close().await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)), "who waits is told");
    assert!(matches!(queue.task("math", "add").await, Err(Error::Closed)));
    assert!(matches!(handle.result::<i32>().await, Err(Error::Closed)));
}
