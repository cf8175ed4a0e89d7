//! What a case works with: a store, a clock it moves, and the few steps every story is made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omniq_model::{
    Digest, Head, Kind, Lane, ModuleRef, Name, Payload, SessionId, State, Task, TaskError, TaskId,
    TaskResult, Timestamp, Token, Value,
};
use omniq_store::{
    Admin, Clock as _, Counts, End, Enqueued, EventStore, Filter, Finished, How, Info, Lease,
    ManualClock, ModuleStore, Outcome, ResultStore, Select, Session, TaskStore, Want, WorkerInfo,
};

use crate::factory::{Factory, Place, Stores};
use crate::roll::Rolls;

/// How long sessions of the suite live after a heartbeat.
pub const LEASE: Duration = Duration::from_secs(15);

/// The shortest step of a clock.
pub const TICK: Duration = Duration::from_millis(1);

/// A short while: shorter than [`LEASE`].
pub const WHILE: Duration = Duration::from_secs(5);

/// When the clock of every case starts: 2023-11-14.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What a case works with.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The store of tasks under test.
    pub store: Arc<dyn TaskStore>,
    /// Its clock.
    pub clock: ManualClock,
    stores: Stores,
    place: Arc<dyn Place>,
    /// What ids and nonces are made from; shared by all kits of a place, so that none is given twice.
    counter: Arc<AtomicU64>,
}

impl Kit {
    /// A kit over a fresh place of that backend.
    pub async fn new(factory: &dyn Factory) -> Self {
        let clock = ManualClock::new(START);
        let place = factory.place(clock.clone()).await;
        let stores = place.open().await;
        Self { store: stores.tasks.clone(), clock, stores, place, counter: Arc::default() }
    }

    /// The place and its stores.
    pub(crate) fn parts(&self) -> (&dyn Place, &Stores) {
        (&*self.place, &self.stores)
    }

    /// Both its clock and that of `other` show the later of their times.
    pub(crate) fn meet(&self, other: &Self) {
        let later = self.now().max(other.now());
        self.advance(later.since(self.now()));
        other.advance(later.since(other.now()));
    }

    /// Opens the same place a second time, as another process does.
    pub async fn beside(&self) -> Self {
        let stores = self.place.open().await;
        Self { store: stores.tasks.clone(), stores, ..self.clone() }
    }

    /// Closes the stores and opens the place anew.
    pub async fn reopen(&self) -> Self {
        self.stores.tasks.close().await.unwrap();
        if let Some(results) = &self.stores.results {
            results.close().await.unwrap();
        }
        if let Some(events) = &self.stores.events {
            events.close().await.unwrap();
        }
        if let Some(modules) = &self.stores.modules {
            modules.close().await.unwrap();
        }
        self.beside().await
    }

    /// The kit with another store of tasks over the same place, such as one with a layer around it.
    pub fn with_store(&self, store: Arc<dyn TaskStore>) -> Self {
        Self { store, ..self.clone() }
    }

    /// The store of results; only in cases that need one.
    pub fn results(&self) -> &dyn ResultStore {
        &**self.stores.results.as_ref().expect("the case needs results")
    }

    /// The store of events; only in cases that need one.
    pub fn events(&self) -> &dyn EventStore {
        &**self.stores.events.as_ref().expect("the case needs events")
    }

    /// The store of modules; only in cases that need one.
    pub fn modules(&self) -> &dyn ModuleStore {
        &**self.stores.modules.as_ref().expect("the case needs modules")
    }

    /// What an operator does to the store; only in cases that need it.
    pub fn admin(&self) -> &dyn Admin {
        self.store.admin().expect("the case needs it")
    }

    /// Makes a task's stored form unreadable; only in cases that need it.
    pub async fn damage(&self, task: TaskId) {
        self.place.damage(task).await;
    }

    // Time and chance

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// A number that no other call gives, below 2^63.
    pub fn fresh(&self) -> u64 {
        Rolls::new(self.counter.fetch_add(1, Ordering::Relaxed)).roll() >> 1
    }

    // Producers

    /// A task with a fresh id and nothing special.
    pub fn task(&self) -> Task {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.fresh().to_be_bytes());
        let id = TaskId::new(self.now(), random);
        Task::new(id, module("job"), "run", Payload::cbor([0xa0]))
    }

    /// A task with a fresh id and what `change` makes special about it.
    pub fn task_with(&self, change: impl FnOnce(&mut Task)) -> Task {
        let mut task = self.task();
        change(&mut task);
        task
    }

    /// Enqueues one task, which must be accepted.
    pub async fn enqueue(&self, task: Task) -> TaskId {
        let id = task.id;
        assert_eq!(self.store.enqueue(vec![task]).await.unwrap(), [Enqueued::Created]);
        id
    }

    /// Enqueues a task with nothing special.
    pub async fn enqueue_plain(&self) -> TaskId {
        self.enqueue(self.task()).await
    }

    /// Enqueues a task with what `change` makes special about it.
    pub async fn enqueue_with(&self, change: impl FnOnce(&mut Task)) -> TaskId {
        self.enqueue(self.task_with(change)).await
    }

    /// Enqueues one task, whatever becomes of it.
    pub async fn offer(&self, task: Task) -> Enqueued {
        self.store.enqueue(vec![task]).await.unwrap().pop().unwrap()
    }

    // Workers

    /// Opens a session.
    pub async fn session(&self) -> Session {
        let id = SessionId::new(self.fresh());
        let worker = WorkerInfo { name: "worker".into() };
        let session = self.store.open_session(id, &worker, LEASE).await.unwrap();
        assert_eq!(session, Session { id, lease: LEASE });
        session
    }

    /// A wish for up to `max` tasks of the default lane.
    pub fn want(&self, max: usize) -> Want {
        Want::new(Lane::default(), max, self.fresh())
    }

    /// Claims up to `max` tasks of the default lane.
    pub async fn claim(&self, session: &Session, max: usize) -> Vec<Lease> {
        self.store.claim(session, &[self.want(max)]).await.unwrap()
    }

    /// The ids of up to `max` claimed tasks, in the order they were leased in.
    pub async fn claim_ids(&self, session: &Session, max: usize) -> Vec<TaskId> {
        self.claim(session, max).await.iter().map(|lease| lease.id).collect()
    }

    /// Claims one task, which must be there.
    pub async fn claim_one(&self, session: &Session) -> Lease {
        self.claim(session, 1).await.pop().expect("a task is ready")
    }

    /// Ends one attempt.
    pub async fn finish(&self, session: &Session, lease: &Lease, how: How) -> Finished {
        self.finish_token(session, lease.id, lease.token, how).await
    }

    /// Ends one attempt by that token.
    pub async fn finish_token(
        &self,
        session: &Session,
        id: TaskId,
        token: Token,
        how: How,
    ) -> Finished {
        let ends = vec![End { id, token, how }];
        self.store.finish(session, ends).await.unwrap().pop().unwrap()
    }

    /// Claims the next task and ends it by success.
    pub async fn run_one(&self, session: &Session) -> TaskId {
        let lease = self.claim_one(session).await;
        let finished = self.finish(session, &lease, success(b"done")).await;
        assert_eq!(finished, Finished::Applied(State::Succeeded));
        lease.id
    }

    /// Claims the next task and ends it by failure.
    pub async fn fail_one(&self, session: &Session) -> TaskId {
        let lease = self.claim_one(session).await;
        let finished = self.finish(session, &lease, failure()).await;
        assert_eq!(finished, Finished::Applied(State::Failed));
        lease.id
    }

    /// Reclaims everything there is to reclaim; the ids.
    pub async fn reclaim(&self) -> Vec<TaskId> {
        self.store.reclaim(1000).await.unwrap().iter().map(|moved| moved.id).collect()
    }

    // Control

    /// Cancels these tasks.
    pub async fn cancel(&self, ids: &[TaskId]) -> Outcome {
        self.store.cancel(&select(ids)).await.unwrap()
    }

    /// Retries these tasks by hand.
    pub async fn retry(&self, ids: &[TaskId]) -> Outcome {
        self.store.retry(&select(ids)).await.unwrap()
    }

    /// Removes these tasks.
    pub async fn remove(&self, ids: &[TaskId]) -> Outcome {
        self.store.remove(&select(ids)).await.unwrap()
    }

    // Reads

    /// A task that must be there.
    pub async fn info(&self, id: TaskId) -> Info {
        self.find(id).await.unwrap_or_else(|| panic!("task {id} is not in the store"))
    }

    /// A task, if it is there.
    pub async fn find(&self, id: TaskId) -> Option<Info> {
        self.store.get(&[id]).await.unwrap().pop().unwrap()
    }

    /// What happened to a task.
    pub async fn head(&self, id: TaskId) -> Head {
        self.info(id).await.head
    }

    /// Where a task stands.
    pub async fn state(&self, id: TaskId) -> State {
        self.head(id).await.state
    }

    /// Where several tasks stand.
    pub async fn states(&self, ids: &[TaskId]) -> Vec<State> {
        let infos = self.store.get(ids).await.unwrap();
        infos.iter().map(|info| info.as_ref().expect("the task is there").head.state).collect()
    }

    /// The kind of error a task ended with.
    pub async fn end_kind(&self, id: TaskId) -> Option<Kind> {
        self.head(id).await.result.expect("it has ended").error.and_then(|error| error.kind())
    }

    /// How many tasks stand in each state.
    pub async fn counts(&self) -> Counts {
        self.store.count(&Filter::default()).await.unwrap()
    }

    /// All tasks, the newest first.
    pub async fn dump(&self) -> Vec<Info> {
        dump(&*self.store).await
    }
}

/// All tasks of a store, the newest first.
pub async fn dump(store: &dyn TaskStore) -> Vec<Info> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.list(&Filter::default(), before, 500).await.unwrap();
        all.extend(page.items);
        match page.next {
            Some(next) => before = Some(next),
            None => return all,
        }
    }
}

/// All ended tasks of a store, in the order of their end.
pub async fn dump_ended(store: &dyn TaskStore) -> Vec<Info> {
    let mut all: Vec<Info> = Vec::new();
    let mut after = (Timestamp::from_millis(0), TaskId::from_bytes([0; 16]));
    loop {
        let page = store.ended(after, 500).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = (last.head.finished.expect("it has ended"), last.id);
        all.extend(page);
    }
}

/// The module of that name.
pub fn module(name: &str) -> ModuleRef {
    ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: name.parse().expect("it is a name"),
        version: "1.0.0".parse().expect("it is a name"),
        unknown: Default::default(),
    }
}

/// A name.
pub fn name(text: &str) -> Name {
    text.parse().expect("it is a name")
}

/// The lane of that tenant and queue.
pub fn lane(tenant: &str, queue: &str) -> Lane {
    Lane { tenant: name(tenant), queue: name(queue) }
}

/// These tasks, as a bulk call wants them.
pub fn select(ids: &[TaskId]) -> Select {
    Select { filter: Filter { ids: ids.to_vec(), ..Filter::default() }, max: ids.len().max(1) }
}

/// An end by success with these bytes as its value.
pub fn success(bytes: &[u8]) -> How {
    How::Succeeded(TaskResult::success(Payload::raw(bytes)).into())
}

/// An end by failure.
pub fn failure() -> How {
    How::Failed(TaskResult::failure(error("it trapped")).into())
}

/// An end because it was called off.
pub fn called_off() -> How {
    How::Cancelled(TaskResult::failure(TaskError::new(Kind::Cancelled, "it was called off")).into())
}

/// Another attempt after this long.
pub fn again(after: Duration) -> How {
    How::Retry { after, error: error("it trapped") }
}

/// Back as if it had not been claimed.
pub fn release(after: Duration) -> How {
    How::Release { after, error: None }
}

/// An error of an attempt.
pub fn error(message: &str) -> TaskError {
    TaskError::new(Kind::Trap, message)
}

/// The bytes a task ended with.
pub fn bytes_of(head: &Head) -> &[u8] {
    match head.result.as_ref().and_then(|result| result.value.as_ref()) {
        Some(Value::Inline(payload)) => &payload.bytes,
        other => panic!("a value in the record was expected, not {other:?}"),
    }
}
