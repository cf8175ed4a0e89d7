//! From what was said about tasks to tasks in the store.

use std::sync::Arc;
use std::time::Instant;

use omniq_model::{Backoff, EventKind, Lane, Retry, Span, Task, TaskEvent, TaskId, Unique};
use omniq_store::{Enqueued, Interest, TaskStore, failpoint};
use tokio::task::JoinHandle;

use super::catalog::Target;
use super::{NewTask, Queue, Spec, TaskHandle};
use crate::again::again;
use crate::error::{Error, Result};
use crate::event::{event, what};

/// Tasks that are given to the store at once.
const CHUNK: usize = 1000;
/// Bytes of arguments after which no more are: others of the store must not wait long for their turn.
const CHUNK_BYTES: usize = 8 << 20;

impl Queue {
    /// Puts many tasks into the store, in their order; far cheaper than one by one. Each has an outcome of its own, in the
    /// same order: one that is refused stands in nobody's way.
    ///
    /// Dropping the future leaves open which of them were enqueued.
    ///
    /// # Errors
    /// Of each task: as [`NewTask::enqueue`].
    pub async fn enqueue_many<Q>(
        &self,
        tasks: impl IntoIterator<Item = NewTask<Q>>,
    ) -> Vec<Result<TaskHandle>> {
        let mut tasks = tasks.into_iter();
        let mut outcomes = Vec::with_capacity(tasks.size_hint().0);
        let mut memo = Memo::default();
        let mut under_way: Option<Chunk> = None;
        loop {
            // While the store takes one chunk the next one is made ready. It is not sent before: the order would be the
            // store's, and so would what a task knows of its parents.
            let next = self.next_chunk(&mut tasks, &mut memo).await;
            if let Some(sent) = under_way.take() {
                self.settle(sent, &mut outcomes).await;
            }
            let Some(prepared) = next else { return outcomes };
            under_way = Some(self.send(prepared));
        }
    }

    pub(super) async fn enqueue_one(&self, spec: Spec) -> Result<TaskHandle> {
        let task = self.prepare(spec, &mut Memo::default()).await?;
        let id = task.id;
        let events = self.events_of(std::slice::from_ref(&task));
        let store = &*self.shared().stores.tasks;
        let before = (store.changes(Interest::Ends), Instant::now());
        let answers = hand_over(store, vec![task]).await;
        let answer = answers.map_err(|error| Error::from(error).about(id))?.pop();
        let handle = self.outcome(id, answer.ok_or(Error::Closed)?);
        let handle = handle.map(|handle| handle.added_after(before));
        if handle.as_ref().is_ok_and(TaskHandle::is_new) {
            self.shared().events.emit_all(events);
        }
        handle
    }

    /// The tasks as they would be stored; the first that cannot be is an error.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) async fn prepare_all<Q>(
        &self,
        tasks: impl IntoIterator<Item = NewTask<Q>>,
    ) -> Result<Vec<Task>> {
        let mut memo = Memo::default();
        let mut prepared = Vec::new();
        for task in tasks {
            prepared.push(self.prepare(task.spec, &mut memo).await?);
        }
        Ok(prepared)
    }

    async fn next_chunk<Q>(
        &self,
        tasks: &mut impl Iterator<Item = NewTask<Q>>,
        memo: &mut Memo,
    ) -> Option<Vec<Result<Task>>> {
        let mut prepared = Vec::with_capacity(tasks.size_hint().0.min(CHUNK));
        let mut bytes = 0;
        while prepared.len() < CHUNK && bytes < CHUNK_BYTES {
            let Some(task) = tasks.next() else { break };
            let task = self.prepare(task.spec, memo).await;
            bytes += task.as_ref().map_or(0, |task| task.args.bytes.len());
            prepared.push(task);
        }
        (!prepared.is_empty()).then_some(prepared)
    }

    /// Gives those that are good to the store, by a task of its own so that it works while others are made ready.
    fn send(&self, prepared: Vec<Result<Task>>) -> Chunk {
        let mut good = Vec::with_capacity(prepared.len());
        let mut places = Vec::with_capacity(prepared.len());
        for task in prepared {
            places.push(task.map(|task| {
                let id = task.id;
                good.push(task);
                id
            }));
        }
        let events = self.events_of(&good);
        let store = Arc::clone(&self.shared().stores.tasks);
        let answers = tokio::spawn(async move {
            if good.is_empty() { Ok(Vec::new()) } else { hand_over(&*store, good).await }
        });
        Chunk { places, events, answers }
    }

    async fn settle(&self, chunk: Chunk, outcomes: &mut Vec<Result<TaskHandle>>) {
        let answers = match chunk.answers.await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => Err(Error::from(error)),
            // The runtime is going down, or the store's code has a bug: either way it is not known.
            Err(_) => Err(Error::Closed),
        };
        let mut answers = answers.map(Vec::into_iter);
        let mut events = chunk.events.into_iter();
        for place in chunk.places {
            let outcome = place.and_then(|id| {
                let event = events.next();
                let answers = answers.as_mut().map_err(|error| error.clone().about(id))?;
                let handle = self.outcome(id, answers.next().ok_or(Error::Closed)?)?;
                if let Some(event) = event.filter(|_| handle.is_new()) {
                    self.shared().events.emit(event);
                }
                Ok(handle)
            });
            outcomes.push(outcome);
        }
    }

    pub(super) fn outcome(&self, id: TaskId, answer: Enqueued) -> Result<TaskHandle> {
        match answer {
            Enqueued::Created => Ok(TaskHandle::new(self.clone(), id, true)),
            Enqueued::Duplicate { id, .. } => Ok(TaskHandle::new(self.clone(), id, false)),
            Enqueued::Conflict => Err(Error::TaskConflict(id)),
            Enqueued::Refused(reason) => Err(Error::Refused { id, reason }),
        }
    }

    fn events_of(&self, tasks: &[Task]) -> Vec<TaskEvent> {
        let events = &self.shared().events;
        if !events.is_on() {
            return Vec::new();
        }
        let now = events.now();
        let of = |task: &Task| TaskEvent {
            lane: task.lane.clone(),
            what: what(task),
            ..event(task.id, 0, EventKind::Enqueued, now)
        };
        tasks.iter().map(of).collect()
    }

    /// The task as it would be enqueued.
    pub(crate) async fn described<Q>(&self, task: NewTask<Q>) -> Result<Task> {
        self.prepare(task.spec, &mut Memo::default()).await
    }

    /// Checks what was said, and completes it by the settings.
    async fn prepare(&self, spec: Spec, memo: &mut Memo) -> Result<Task> {
        self.check_open()?;
        if let Some(problem) = spec.problem {
            return Err(*problem);
        }
        let target = match memo.target(&spec.module, &spec.function) {
            Some(target) => target,
            None => {
                let entry = self.shared().catalog.find(&spec.module).await?;
                let is_command = spec.function.is_empty();
                let target =
                    if is_command { entry.command() } else { entry.function(&spec.function) };
                memo.keep(&spec.module, &spec.function, target?)
            }
        };
        let args = spec.args.check(&target)?;
        let config = &self.shared().config;
        let backoff = spec.backoff.unwrap_or_else(|| Backoff {
            base: config.retry.delay.into(),
            max: config.retry.max_delay.into(),
            unknown: Default::default(),
        });
        let id = match spec.id {
            Some(id) => id,
            None => TaskId::new(self.shared().clock.now(), memo.random()?),
        };
        Ok(Task {
            id,
            lane: Lane { tenant: spec.tenant, queue: spec.queue },
            module: target.module.clone(),
            function: target.function.clone(),
            args,
            priority: spec.priority,
            run_at: spec.run_at,
            delay: spec.delay,
            ttl: spec.ttl.or(config.defaults.ttl.map(Into::into)),
            retry: Retry {
                attempts: spec.attempts.unwrap_or(config.retry.attempts.get()),
                crashes: config.retry.crashes.get(),
                backoff,
                unknown: Default::default(),
            },
            limits: spec.limits,
            result_ttl: spec
                .result_ttl
                .unwrap_or(config.retention.results.into())
                .max(window(spec.unique.as_ref())),
            unique: spec.unique,
            after: spec.after,
            on_parent_failure: spec.on_parent_failure,
            labels: spec.labels,
            pool: spec.pool,
            unknown: Default::default(),
        })
    }
}

/// How long a task is to be kept at least: with it goes its unique key, which is held for its window however soon the
/// result is of no more use.
fn window(unique: Option<&Unique>) -> Span {
    unique.map_or(Span::ZERO, |unique| unique.window)
}

/// Tasks that were given to the store.
struct Chunk {
    /// For each task in turn: its id, or why it was not given to the store.
    places: Vec<Result<TaskId>>,
    /// Of those that were given to the store, in turn; none where no events are kept.
    events: Vec<TaskEvent>,
    answers: JoinHandle<omniq_store::Result<Vec<Enqueued>>>,
}

/// What need not be found out again for each task of a bulk.
#[derive(Default)]
struct Memo {
    target: Option<(String, String, Arc<Target>)>,
    /// Random bytes that are not used up: one question to the system serves many ids.
    random: Vec<[u8; 10]>,
    asked: usize,
}

impl Memo {
    fn target(&self, module: &str, function: &str) -> Option<Arc<Target>> {
        let (of, called, target) = self.target.as_ref()?;
        (of == module && called == function).then(|| Arc::clone(target))
    }

    fn keep(&mut self, module: &str, function: &str, target: Arc<Target>) -> Arc<Target> {
        self.target = Some((module.to_owned(), function.to_owned(), Arc::clone(&target)));
        target
    }

    fn random(&mut self) -> Result<[u8; 10]> {
        if let Some(random) = self.random.pop() {
            return Ok(random);
        }
        // The first task may be the only one.
        self.asked = (self.asked * 16).clamp(1, 256);
        self.random.resize(self.asked, [0; 10]);
        getrandom::fill(self.random.as_flattened_mut()).map_err(|error| Error::Host {
            what: "the system gives no random numbers for ids of tasks",
            source: Arc::new(error.into()),
        })?;
        Ok(self.random.pop().unwrap_or_default())
    }
}

/// Gives tasks to the store, again and again while it does not answer: the same tasks under the same ids.
async fn hand_over(store: &dyn TaskStore, tasks: Vec<Task>) -> omniq_store::Result<Vec<Enqueued>> {
    failpoint::hit("enqueue.before");
    let answers = again(|| store.enqueue(tasks.clone())).await;
    failpoint::hit("enqueue.after_answer");
    answers
}
