//! A worker's life: how it shares, starts, stops, and what it leaves behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use omniq_model::{EventKind, Lane, State, TaskId, Timestamp};
use omniq_store::{Beat, EventFilter, EventStore, Held, Interest, Session, TaskStore};

use super::kit::*;
use crate::event::Repair;
use crate::worker::WorkerOptions;

#[tokio::test]
async fn what_is_interrupted_by_the_end_of_its_worker_is_put_back_uncounted() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let worker = kit.start(thread()).await;
    // Two run, and one waits for a thread.
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(kit.enqueue(kit.task(&spin, &[0x80])).await);
    }
    kit.until_running(&worker, 2).await;
    worker.stop(Duration::from_millis(100)).await;
    for id in ids {
        let head = kit.info(id).await.head;
        assert_eq!((head.state, head.attempt, head.lease), (State::Ready, 0, None));
    }
}

#[tokio::test]
async fn a_worker_that_stops_closes_its_session() {
    // Nobody takes anything over before the end of such a lease.
    let lease = Duration::from_secs(3600);
    for holds in [false, true] {
        let kit = Kit::new();
        let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
        let worker = kit.start(WorkerOptions { lease, keeper: false, ..thread() }).await;
        let session = Session { id: worker.session(), lease };
        let id = kit.enqueue(kit.task(&spin, &[0x80])).await;
        kit.until_running(&worker, 1).await;
        if holds {
            // No end comes through, so that only the end of the session can put the task back.
            kit.tasks.refused_finishes.store(u32::MAX, Ordering::Release);
        }
        worker.stop(Duration::ZERO).await;
        let beat = kit.tasks.heartbeat(&session, Held::default()).await.unwrap();
        assert_eq!(beat, Beat::Dead);
        let head = kit.info(id).await.head;
        assert_eq!((head.state, head.attempt, head.lease), (State::Ready, 0, None));
    }
}

#[tokio::test]
async fn a_worker_starts_though_the_store_is_away_for_a_moment() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    kit.tasks.refused_sessions.store(2, Ordering::Release);
    let worker = kit.start(thread()).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(inline(&kit.result(id).await), [15]);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_runs_when_its_worker_is_asked_to_stop_is_finished() {
    let kit = Kit::new();
    // About a quarter of a second.
    let body = "(func (export \"run\") (result i32) (local i32)
        (loop $again
          (local.set 0 (i32.add (local.get 0) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get 0) (i32.const 200000000))))
        (local.get 0))";
    let slow = kit.push(component(body, NUMBER_TYPE)).await;
    let worker = kit.start(thread()).await;
    let id = kit.enqueue(kit.task(&slow, &[0x80])).await;
    kit.until_running(&worker, 1).await;
    let stats = worker.stop(Duration::from_secs(30)).await;
    assert_eq!((stats.succeeded, stats.released), (1, 0));
    assert_eq!(kit.info(id).await.head.state, State::Succeeded);
}

#[tokio::test]
async fn asked_twice_the_shorter_grace_counts() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let worker = kit.start(thread()).await;
    kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until_running(&worker, 1).await;
    let patient = worker.stop(Duration::from_secs(600));
    let impatient = async {
        tokio::task::yield_now().await;
        worker.abort();
    };
    let stopped =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(patient, impatient) });
    assert_eq!(stopped.await.expect("the second request counts").0.released, 1);
}

#[tokio::test]
async fn two_workers_share_and_no_task_runs_twice() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let options = || WorkerOptions { batch: 8, ..thread() };
    let workers = [kit.start(options()).await, kit.start(options()).await];
    let mut ids = Vec::new();
    for number in 0..50_u8 {
        let queue = format!("q{}", number % 5).parse().unwrap();
        let tasks = (0..20).map(|_| {
            let mut task = kit.task(&add, &[0x82, number % 24, 1]);
            task.lane = Lane { queue: std::clone::Clone::clone(&queue), ..Lane::default() };
            task
        });
        let tasks: Vec<_> = tasks.collect();
        ids.extend(tasks.iter().map(|task| task.id));
        kit.tasks.enqueue(tasks).await.unwrap();
    }
    let infos =
        kit.until_all(&ids, |infos| infos.iter().all(|info| info.head.state.is_terminal())).await;
    assert!(infos.iter().all(|info| info.head.state == State::Succeeded && info.head.attempt == 1));
    let mut all = 0;
    for worker in workers {
        let stats = worker.stop(Duration::from_secs(5)).await;
        assert!(stats.succeeded > 0, "both had their share: {stats:?}");
        all += stats.succeeded;
    }
    assert_eq!(all, 1000);
}

#[tokio::test]
async fn what_is_claimed_runs_while_the_next_claim_takes_its_time() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let worker = kit.start(WorkerOptions { batch: 8, slots: 8, ..thread() }).await;
    let first = kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await;
    kit.end(first).await;
    kit.tasks.answered_claims.store(1, Ordering::Release);
    let tasks: Vec<_> = (0..1000).map(|_| kit.task(&add, &[0x82, 1, 1])).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    kit.tasks.enqueue(tasks).await.unwrap();
    let ended = |infos: &[omniq_store::Info]| {
        infos.iter().filter(|info| info.head.state == State::Succeeded).count()
    };
    kit.until_all(&ids, |infos| ended(infos) == 8).await;
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn only_its_own_queues_are_worked_on() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let media: omniq_model::Name = "media".parse().unwrap();
    let worker = kit.start(WorkerOptions { queues: vec![media.clone()], ..thread() }).await;
    let other = kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await;
    let mut task = kit.task(&add, &[0x82, 1, 1]);
    task.lane.queue = media;
    let own = kit.enqueue(task).await;
    assert_eq!(kit.end(own).await.state, State::Succeeded);
    worker.stop(Duration::from_secs(5)).await;
    assert_eq!(kit.info(other).await.head.fence, 0);
}

#[tokio::test]
async fn the_log_tells_that_an_attempt_began_while_it_runs_or_with_its_end() {
    let mut kit = Kit::new();
    let (add, spin) =
        (kit.push(component(ADD, ADD_TYPE)).await, kit.push(component(SPIN, NUMBER_TYPE)).await);
    let events = kit.with_events();
    let kinds = async |task: TaskId| {
        let filter = EventFilter { task: Some(task), ..EventFilter::default() };
        let found = events.query(&filter, None, 100).await.unwrap();
        found.into_iter().map(|(_, event)| (event.kind, event.attempt)).collect::<Vec<_>>()
    };
    let worker = kit.start(thread()).await;
    let long = kit.enqueue(kit.task(&spin, &[0x80])).await;
    let told = tokio::time::timeout(PATIENCE, async {
        while kinds(long).await != [(EventKind::Started, 1)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    told.await.expect("it is told while the attempt runs");
    let quick = kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await;
    kit.end(quick).await;
    kit.cancel(long).await;
    kit.end(long).await;
    // Neither ended nor told of yet.
    let last = kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until_running(&worker, 1).await;
    worker.stop(Duration::ZERO).await;
    kit.sink.close().await;
    let whole = |end| vec![(EventKind::Started, 1), (end, 1)];
    assert_eq!(kinds(quick).await, whole(EventKind::Succeeded));
    assert_eq!(kinds(long).await, whole(EventKind::Cancelled));
    assert_eq!(kinds(last).await, whole(EventKind::Released));
}

#[tokio::test]
async fn the_log_has_every_end_also_of_those_who_died_before_they_wrote_it() {
    let mut kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    // This one writes no events, as one that dies in time does not.
    let silent = kit.start(WorkerOptions { keeper: false, ..thread() }).await;
    let lost = kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await;
    kit.end(lost).await;
    silent.stop(Duration::from_secs(5)).await;

    let events = kit.with_events();
    let worker = kit.start(WorkerOptions { keeper: false, ..thread() }).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await;
    kit.end(id).await;
    worker.stop(Duration::from_secs(5)).await;
    kit.sink.close().await;
    let kinds = async |task: TaskId| {
        let filter = EventFilter { task: Some(task), ..EventFilter::default() };
        let found = events.query(&filter, None, 100).await.unwrap();
        found.into_iter().map(|(_, event)| (event.kind, event.fence)).collect::<Vec<_>>()
    };
    let whole = [(EventKind::Started, 1), (EventKind::Succeeded, 1)];
    assert_eq!((kinds(id).await, kinds(lost).await), (whole.to_vec(), Vec::new()));

    let repair = Repair::new(kit.stores.tasks.clone(), std::sync::Arc::new(events.clone()));
    assert_eq!(repair.run().await.unwrap(), 2);
    assert_eq!(kinds(lost).await, [(EventKind::Succeeded, 1)]);
    assert_eq!(kinds(id).await, whole, "what is there stays once");
    assert_ne!(events.watermark().await.unwrap().0, Timestamp::default());

    // A log that does not drop what it has would grow for ever.
    let later = Timestamp::from_millis(i64::MAX);
    events.purge(later, 1000).await.unwrap();
    assert_eq!(repair.run().await.unwrap(), 2);
    assert_eq!((kinds(id).await, kinds(lost).await), (Vec::new(), Vec::new()));
    assert_eq!(repair.run_if_due().await.unwrap(), 0, "it was done just now");
}

#[tokio::test]
async fn an_idle_worker_starts_a_task_at_once() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let worker = kit.start(thread()).await;
    kit.end(kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await).await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let asked = std::time::Instant::now();
        kit.end(kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await).await;
        times.push(asked.elapsed());
    }
    times.sort();
    // In the dev profile and beside other tests; the bench has the real figures.
    assert!(times[25] < Duration::from_millis(20), "{:?}", times[25]);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn who_waits_for_a_task_of_its_own_asks_only_if_something_has_ended_since() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let before = kit.tasks.changes(Interest::Ends);
    let id = kit.enqueue(kit.task(&add, &[0x82, 1, 2])).await;
    let wait = kit.ends.wait_new(id, before);
    for _ in 0..100 {
        tokio::task::yield_now().await; // to whoever looks, who is on this thread
    }
    assert_eq!(kit.tasks.gets.load(Ordering::Acquire), 0, "nothing has ended");
    kit.cancel(id).await;
    assert_eq!(wait.await.unwrap().state, State::Cancelled);

    let before = kit.tasks.changes(Interest::Ends);
    let id = kit.enqueue(kit.task(&add, &[0x82, 1, 2])).await;
    kit.cancel(id).await;
    let ended = tokio::time::timeout(Duration::from_secs(4), kit.ends.wait_new(id, before)).await;
    assert_eq!(ended.expect("it is looked up at once").unwrap().state, State::Cancelled);
}

#[tokio::test]
async fn who_waits_hears_of_an_end_that_the_store_did_not_tell_of() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    kit.tasks.is_mute.store(true, Ordering::Release);
    let id = kit.enqueue(kit.task(&add, &[0x82, 1, 2])).await;
    let wait = kit.ends.wait(id);
    // The one who waits is looked up at once: only after that is there an end to be missed.
    while kit.tasks.gets.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    kit.cancel(id).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert_eq!(ended.unwrap().unwrap().state, State::Cancelled);
}
