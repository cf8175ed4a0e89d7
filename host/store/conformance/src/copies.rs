//! Copying a whole queue from one backend to another: nothing is lost, nothing is there twice, and work goes on there.

use std::sync::Arc;

use omniq_model::{
    Digest, EventKind, Missed, Module, Payload, Schedule, Span, State, Stored, TaskEvent, TaskId,
    TaskResult, Timing, Value,
};
use omniq_store::copy::{Copied, Copy, Left, Side};
use omniq_store::{EventFilter, Filter, Finished, How, ResultKey, StagedResult};

use crate::cases::copy::fill;
use crate::factory::Factory;
use crate::faulty::Faulty;
use crate::kit::{Kit, WHILE, lane, name};

/// Copies a queue with all there can be in one from a place of `from` to a place of `to`, with calls and answers lost on
/// the way, and checks what comes of it.
///
/// # Panics
/// When something is missing, there twice, or not as it was.
pub async fn check_copy(from: &dyn Factory, to: &dyn Factory) {
    let (from, to) = (Kit::new(from).await, Kit::new(to).await);
    let mut filled = fill_all(&from).await;
    let (_, there) = to.parts();
    // What has no place there stays behind.
    filled.events = if there.events.is_some() { filled.events } else { 0 };
    filled.modules = if there.modules.is_some() { filled.modules } else { 0 };
    from.meet(&to);
    let (left, right) = (side(&from), side(&to));
    let lossy =
        Side { tasks: Arc::new(Faulty::random(right.tasks.clone(), 3, 300, 300)), ..right.clone() };
    let interrupted = Copy { from: left.clone(), to: lossy };
    let mut runs = 0;
    while interrupted.run(&mut |_| {}).await.is_err() {
        runs += 1;
        assert!(runs < 1000, "each run comes further");
    }
    let copy = Copy { from: left, to: right };
    let mut told = 0;
    let copied = copy.run(&mut |_| told += 1).await.unwrap();
    assert!(told > 0, "it says how far it has come");
    assert_eq!(copied.left, [], "everything was copied");
    assert_eq!(copied, Copied { tasks_there: copied.tasks, ..filled });
    let comparison = copy.compare(&mut |_| {}).await.unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    assert_eq!((comparison.same, comparison.settled), (filled.tasks - 3, 3));
    check_rest(&from, &to).await;
    check_differences(&copy, &to).await;
    go_on(&to).await;
}

fn side(kit: &Kit) -> Side {
    let (_, stores) = kit.parts();
    Side {
        tasks: stores.tasks.clone(),
        results: stores.results.clone(),
        events: stores.events.clone(),
        modules: stores.modules.clone(),
    }
}

/// Fills a place with all there can be; what a copy of it must say.
async fn fill_all(kit: &Kit) -> Copied {
    fill(kit).await;
    let counts = kit.counts().await;
    let released = counts.get(&State::Running).copied().unwrap_or(0);
    kit.store.pause(&lane("acme", "mail"), true).await.unwrap();
    let schedule = Schedule {
        tenant: name("acme"),
        name: name("nightly"),
        timing: Timing::Every(Span::from(WHILE)),
        zone: "Europe/Vienna".into(),
        missed: Missed::All,
        task: kit.task(),
        paused: None,
        next: Some(kit.now() + WHILE),
        version: 0,
        unknown: Default::default(),
    };
    kit.store.put_schedules(vec![schedule]).await.unwrap();
    let (values, modules, events) =
        (fill_results(kit).await, fill_modules(kit).await, fill_events(kit).await);
    let tasks = kit.counts().await.values().sum();
    let mut expected = Copied { tasks, released, values, modules, events, ..Copied::default() };
    (expected.schedules, expected.paused) = (1, 1);
    expected
}

/// A task whose value is kept apart, if the backend can.
async fn fill_results(kit: &Kit) -> u64 {
    let (_, stores) = kit.parts();
    let Some(results) = &stores.results else { return 0 };
    let session = kit.session().await;
    kit.enqueue_with(|task| {
        task.priority = omniq_model::Priority::MAX;
        task.result_ttl = Span::from(WHILE * 1000);
    })
    .await;
    let lease = kit.claim_one(&session).await;
    let key = ResultKey { task: lease.id, token: lease.token };
    let value = Payload::raw(vec![7; 20_000]);
    let ttl = Span::from(WHILE * 1000);
    results.put(vec![StagedResult { key, value, ttl }]).await.unwrap();
    let stored = Stored { token: lease.token, size: 20_000, unknown: Default::default() };
    let result = TaskResult { value: Some(Value::Stored(stored)), ..TaskResult::default() };
    let finished = kit.finish(&session, &lease, How::Succeeded(result.into())).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
    1
}

async fn fill_modules(kit: &Kit) -> u64 {
    let (_, stores) = kit.parts();
    let Some(modules) = &stores.modules else { return 0 };
    for (called, version, fill) in [("b", "2", 1), ("b", "1", 2), ("a", "1", 1)] {
        let bytes = vec![fill; 1000];
        let module = Module {
            name: name(called),
            version: name(version),
            digest: Digest::from_sha256([fill; 32]),
            size: bytes.len() as u64,
            functions: Vec::new(),
            command: true,
            capabilities: Vec::new(),
            pushed: kit.now(),
            unknown: Default::default(),
        };
        modules.push(module, bytes).await.unwrap();
    }
    3
}

async fn fill_events(kit: &Kit) -> u64 {
    let (_, stores) = kit.parts();
    let Some(events) = &stores.events else { return 0 };
    let kinds = [EventKind::Enqueued, EventKind::Started, EventKind::Succeeded];
    let event = |kind| TaskEvent {
        task: kit.task().id,
        fence: 1,
        kind,
        at: kit.now(),
        lane: lane("acme", "mail"),
        attempt: 1,
        session: None,
        error: None,
        micros: 15,
        missing: 0,
        what: "job.run".into(),
        began: None,
        unknown: Default::default(),
    };
    events.append(kinds.map(event).into()).await.unwrap();
    events.set_watermark((kit.now(), kit.task().id)).await.unwrap();
    3
}

/// What is not a task came over whole and once.
async fn check_rest(from: &Kit, to: &Kit) {
    let ((_, left), (_, right)) = (from.parts(), to.parts());
    let schedules = |mut all: Vec<Schedule>| {
        all.iter_mut().for_each(|schedule| schedule.version = 0);
        all
    };
    let (one, other) =
        (left.tasks.schedules(None).await.unwrap(), right.tasks.schedules(None).await.unwrap());
    assert_eq!(schedules(one), schedules(other));
    if let (Some(left), Some(right)) = (&left.modules, &right.modules) {
        let all = left.list().await.unwrap();
        assert_eq!(all, right.list().await.unwrap(), "in the same order");
        for module in all {
            let bytes = right.bytes(&module.digest).await.unwrap();
            assert_eq!(bytes, left.bytes(&module.digest).await.unwrap());
        }
    }
    if let (Some(left), Some(right)) = (&left.events, &right.events) {
        let all = EventFilter::default();
        let (one, other) = (
            left.query(&all, None, 100).await.unwrap(),
            right.query(&all, None, 100).await.unwrap(),
        );
        let events = |page: Vec<(u64, TaskEvent)>| -> Vec<TaskEvent> {
            let mut events: Vec<TaskEvent> = page.into_iter().map(|(_, event)| event).collect();
            events.sort_by_key(|event| (event.at, event.task, event.kind)); // those of one instant in any order
            events
        };
        assert_eq!(events(one), events(other));
        assert_eq!(left.watermark().await.unwrap(), right.watermark().await.unwrap());
    }
}

/// A comparison finds what differs.
async fn check_differences(copy: &Copy, to: &Kit) {
    let gone = one_of(to, State::Cancelled).await;
    to.remove(&[gone]).await;
    let comparison = copy.compare(&mut |_| {}).await.unwrap();
    assert_eq!((comparison.unequal, comparison.missing), (1, vec![gone]));
    let failed = one_of(to, State::Failed).await;
    to.retry(&[failed]).await;
    let comparison = copy.compare(&mut |_| {}).await.unwrap();
    assert_eq!(comparison.different, [(failed, "its state")]);
    let again = copy.run(&mut |_| {}).await.unwrap();
    assert_eq!(again.left, Vec::<Left>::new());
    assert_eq!(
        again.tasks_there + 1,
        again.tasks,
        "what was gone is there again, the rest is left alone"
    );
}

async fn one_of(kit: &Kit, state: State) -> TaskId {
    let filter = Filter { states: vec![state], ..Filter::default() };
    kit.store.list(&filter, None, 1).await.unwrap().items.remove(0).id
}

/// Work goes on until nothing is left.
async fn go_on(to: &Kit) {
    let session = to.session().await;
    to.store.pause(&lane("acme", "mail"), false).await.unwrap();
    for _ in 0..20 {
        to.advance(WHILE);
        to.store.promote(100).await.unwrap();
        to.store.expire(100).await.unwrap();
        to.store.heartbeat(&session, omniq_store::Held::default()).await.unwrap();
        for lane in to.store.ready_lanes(None, 10).await.unwrap() {
            let want = omniq_store::Want::new(lane, 100, to.fresh());
            for lease in to.store.claim(&session, &[want]).await.unwrap() {
                let finished = to.finish(&session, &lease, crate::kit::success(b"done")).await;
                assert!(matches!(finished, Finished::Applied(_)));
            }
        }
        if to.store.is_idle().await.unwrap() {
            return;
        }
    }
    panic!("something never ends: {:?}", to.counts().await);
}
