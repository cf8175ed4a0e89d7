//! What is to be enqueued: a module, a function, its arguments and how it is to be treated.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omniq_model::{
    Backoff, Name, OnParentFailure, Pool, Priority, Scope, Span, TaskId, TaskLimits, Timestamp,
    Unique,
};
use serde::Serialize;

use super::arguments::Arguments;
use super::{Queue, TaskHandle};
use crate::error::{Error, Result};

/// A task that is to be enqueued.
///
/// Made by [`Queue::task`], where `.await` enqueues it, or by [`NewTask::new`] for [`Queue::enqueue_many`]. Nothing is
/// checked before it is enqueued; then the first thing that is wrong is reported, and nothing is stored.
///
/// What is not said is what the queue's settings say: three attempts, no time to live, and so on.
#[derive(Debug, Clone)]
#[must_use = "nothing is enqueued until it is awaited, or given to `enqueue_many`"]
pub struct NewTask<Q = ()> {
    pub(crate) queue: Q,
    pub(crate) spec: Spec,
}

/// A [`NewTask`] that knows its queue.
pub type TaskBuilder = NewTask<Queue>;

/// Everything that was said about a task.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub module: String,
    pub function: String,
    pub args: Arguments,
    pub id: Option<TaskId>,
    pub tenant: Name,
    pub queue: Name,
    pub priority: Priority,
    pub run_at: Option<Timestamp>,
    pub delay: Span,
    pub ttl: Option<Span>,
    pub attempts: Option<u32>,
    pub backoff: Option<Backoff>,
    pub limits: TaskLimits,
    pub result_ttl: Option<Span>,
    pub unique: Option<Unique>,
    pub after: Vec<TaskId>,
    pub on_parent_failure: OnParentFailure,
    pub labels: BTreeMap<String, String>,
    pub pool: Option<Pool>,
    /// The first thing that was wrong.
    pub problem: Option<Box<Error>>,
}

/// The most labels a task has.
const MAX_LABELS: usize = 64;
/// The most bytes of a label's value.
const MAX_LABEL: usize = 256;

impl NewTask {
    /// A call of `function` of `module`: its name, or `name@version`; without a version the one pushed last.
    pub fn new(module: impl Into<String>, function: impl Into<String>) -> Self {
        Self { queue: (), spec: Spec::new(module.into(), function.into(), Arguments::default()) }
    }

    /// A run of the program `module` with these arguments (without the program's name) and this standard input.
    pub fn command<I>(module: impl Into<String>, args: I, stdin: impl Into<Vec<u8>>) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let args = args.into_iter().map(Into::into).collect();
        let args = Arguments::Command { args, stdin: stdin.into() };
        Self { queue: (), spec: Spec::new(module.into(), String::new(), args) }
    }
}

impl Spec {
    fn new(module: String, function: String, args: Arguments) -> Self {
        Self {
            module,
            function,
            args,
            id: None,
            tenant: Name::default(),
            queue: Name::default(),
            priority: Priority::default(),
            run_at: None,
            delay: Span::ZERO,
            ttl: None,
            attempts: None,
            backoff: None,
            limits: TaskLimits::default(),
            result_ttl: None,
            unique: None,
            after: Vec::new(),
            on_parent_failure: OnParentFailure::default(),
            labels: BTreeMap::new(),
            pool: None,
            problem: None,
        }
    }

    /// Takes a value, or notes why there is none.
    fn taken<T>(&mut self, value: Result<T>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem.get_or_insert_with(|| Box::new(error));
                None
            }
        }
    }

    fn refuse(&mut self, text: String) {
        self.problem.get_or_insert_with(|| Box::new(Error::Invalid(text)));
    }
}

impl<Q> NewTask<Q> {
    pub(crate) fn with_queue<P>(self, queue: P) -> NewTask<P> {
        NewTask { queue, spec: self.spec }
    }

    /// One argument by its name, from any value that can be serialized.
    pub fn arg(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let added = self.spec.args.add(name.into(), &value);
        self.spec.taken(added);
        self
    }

    /// All arguments: a tuple or array in order, or a struct or map by name.
    pub fn args(mut self, values: impl Serialize) -> Self {
        let args = Arguments::of(&values);
        if let Some(args) = self.spec.taken(args) {
            self.spec.args = args;
        }
        self
    }

    /// All arguments in JSON: an array of them, or an object by name.
    pub fn args_json(mut self, json: impl Into<Vec<u8>>) -> Self {
        self.spec.args = Arguments::Json(json.into());
        self
    }

    /// All arguments in CBOR: an array of them, or a map by name.
    pub fn args_cbor(mut self, cbor: impl Into<Vec<u8>>) -> Self {
        self.spec.args = Arguments::Cbor(cbor.into());
        self
    }

    /// All arguments as the words of a command line: WAVE text in order, or `name=` and WAVE text. No files are read:
    /// a word that begins with `@` is refused.
    pub fn args_words(mut self, words: impl IntoIterator<Item: Into<String>>) -> Self {
        self.spec.args = Arguments::Words(words.into_iter().map(Into::into).collect());
        self
    }

    /// The task's id, for an enqueue that can be repeated: the same task under the same id is kept once, another one is a
    /// [`TaskConflict`](Error::TaskConflict). Without it a fresh one is made.
    pub fn id(mut self, id: TaskId) -> Self {
        self.spec.id = Some(id);
        self
    }

    /// The queue it waits in. Default: `default`.
    pub fn queue(mut self, name: impl AsRef<str>) -> Self {
        if let Some(name) = self.spec.taken(name.as_ref().parse().map_err(Error::from)) {
            self.spec.queue = name;
        }
        self
    }

    /// Whose task it is. Default: `default`.
    pub fn tenant(mut self, name: impl AsRef<str>) -> Self {
        if let Some(name) = self.spec.taken(name.as_ref().parse().map_err(Error::from)) {
            self.spec.tenant = name;
        }
        self
    }

    /// How urgent it is within its queue, −9 to 9, higher first. Default 0.
    pub fn priority(mut self, priority: i16) -> Self {
        if let Some(priority) = self.spec.taken(Priority::new(priority).map_err(Error::invalid)) {
            self.spec.priority = priority;
        }
        self
    }

    /// It starts this long after it was enqueued at the earliest.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.spec.delay = delay.into();
        self
    }

    /// It starts at this instant, by the store's clock, at the earliest. With a delay the later of the two counts.
    pub fn at(mut self, at: SystemTime) -> Self {
        self.spec.run_at = Some(timestamp(at));
        self
    }

    /// It expires when it has not started this long after it was enqueued. Default: `OMNIQ_TASK_TTL`, or never.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.spec.ttl = Some(self.positive("the time to live", ttl));
        self
    }

    /// How long one attempt may take. Default: the worker's, `OMNIQ_TASK_TIMEOUT`. Never longer than a worker allows.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.limits.timeout = Some(self.positive("the timeout", timeout));
        self
    }

    /// How often it runs again at most after an attempt that failed. Default 2, so three attempts in all.
    pub fn retries(mut self, retries: u32) -> Self {
        self.spec.attempts = Some(retries.saturating_add(1));
        self
    }

    /// The longest pause before the second attempt, and where its doubling ends. Default 1 s and 5 min.
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        let unknown = Default::default();
        self.spec.backoff = Some(Backoff { base: base.into(), max: max.max(base).into(), unknown });
        self
    }

    /// All limits of an attempt at once. Default: the worker's.
    pub fn limits(mut self, limits: TaskLimits) -> Self {
        self.spec.limits = limits;
        self
    }

    /// Units of fuel an attempt may use, about one for each instruction. Default: the worker's, `OMNIQ_LIMIT_FUEL`.
    pub fn fuel(mut self, units: u64) -> Self {
        self.spec.limits.fuel = Some(units);
        self
    }

    /// Bytes of memory an attempt may hold. Default: the worker's, `OMNIQ_LIMIT_MEMORY`.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.spec.limits.memory = Some(bytes);
        self
    }

    /// A word for people and filters, `label.key:value`. At most 64 of them; a key is a name without `:` and `@`, a value
    /// has at most 256 bytes.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        let is_key = key.parse::<Name>().is_ok() && !key.contains([':', '@']);
        if !is_key {
            let text = "is not the key of a label; write letters, digits, `.`, `_`, `-` or `/`";
            self.spec.refuse(format!("`{key}` {text}"));
        } else if value.len() > MAX_LABEL {
            let text = format!("the label `{key}` has more than {MAX_LABEL} bytes");
            self.spec.refuse(text);
        } else if self.spec.labels.len() >= MAX_LABELS && !self.spec.labels.contains_key(&key) {
            self.spec.refuse(format!("a task has at most {MAX_LABELS} labels"));
        } else {
            self.spec.labels.insert(key, value);
        }
        self
    }

    /// Several labels.
    pub fn labels<K, V>(self, labels: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        labels.into_iter().fold(self, |task, (key, value)| task.label(key, value))
    }

    /// At most one task of the tenant holds `key` within `scope`; while one does, enqueueing this one gives the handle of
    /// that one. For a fixed time see [`unique_for`](Self::unique_for).
    pub fn unique(mut self, key: impl Into<String>, scope: Scope) -> Self {
        if scope == Scope::Window {
            self.spec.refuse(String::from(
                "a unique key for a window of time needs its length; use `unique_for`",
            ));
        }
        self.set_unique(key.into(), scope, Span::ZERO)
    }

    /// At most one task of the tenant holds `key` for this long after it was enqueued, however it fares.
    pub fn unique_for(mut self, key: impl Into<String>, window: Duration) -> Self {
        let window = self.positive("the window of a unique key", window);
        self.set_unique(key.into(), Scope::Window, window)
    }

    fn set_unique(mut self, key: String, scope: Scope, window: Span) -> Self {
        if key.is_empty() || key.len() > Unique::MAX_KEY {
            let max = Unique::MAX_KEY;
            self.spec.refuse(format!("a unique key has 1 to {max} bytes, got {}", key.len()));
        }
        self.spec.unique = Some(Unique { key, scope, window, unknown: Default::default() });
        self
    }

    /// It starts after that task has ended; may be said several times. If that one does not succeed this one is cancelled,
    /// unless [`on_parent_failure`](Self::on_parent_failure) says otherwise.
    pub fn after(mut self, task: impl Into<TaskId>) -> Self {
        self.spec.after.push(task.into());
        self
    }

    /// What becomes of it when a task it waits for does not succeed. Default: it is cancelled.
    pub fn on_parent_failure(mut self, what: OnParentFailure) -> Self {
        self.spec.on_parent_failure = what;
        self
    }

    /// How long its result is kept after its end. Default: `OMNIQ_RESULT_TTL`, a day. With a unique key for a window of time
    /// it is at least as long as that.
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.spec.result_ttl = Some(ttl.into());
        self
    }

    /// Which of a worker's pools runs it. Default: the worker's choice.
    pub fn pool(mut self, pool: Pool) -> Self {
        self.spec.pool = Some(pool);
        self
    }

    fn positive(&mut self, what: &str, span: Duration) -> Span {
        if span < Duration::from_millis(1) {
            self.spec.refuse(format!("{what} must be at least 1ms, got {span:?}"));
        }
        span.into()
    }
}

impl<Q> NewTask<Q> {
    /// What it calls, for people.
    pub(crate) fn described(&self) -> String {
        match self.spec.function.as_str() {
            "" => format!("the program `{}`", self.spec.module),
            function => format!("`{function}` of `{}`", self.spec.module),
        }
    }
}

impl NewTask<Queue> {
    /// Checks it and puts it into the store. `Ok` means durable, as far as the store is.
    ///
    /// Dropping the future leaves open whether it was enqueued. With an [`id`](NewTask::id) it may be repeated.
    ///
    /// # Errors
    /// The module or function does not exist, the arguments do not fit, something that was said cannot be, another task
    /// has the id, or the store failed.
    pub async fn enqueue(self) -> Result<TaskHandle> {
        let Self { queue, spec } = self;
        queue.enqueue_one(spec).await
    }
}

impl IntoFuture for NewTask<Queue> {
    type Output = Result<TaskHandle>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// As [`enqueue`](NewTask::enqueue).
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.enqueue())
    }
}

/// An instant as records hold it; what is outside of their range is the nearest inside.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::from_millis(0) + since,
        Err(before) => Timestamp::from_millis(0) - before.duration(),
    }
}
