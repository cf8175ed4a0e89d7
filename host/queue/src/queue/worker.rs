//! A worker in this process: the sandbox it runs tasks in, and what the settings say about it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use omniq_model::{Name, Pool};
use omniq_sandbox::{Allocation, Grants, Limits, Rules, Sandbox};
use omniq_store::chain;

use super::Queue;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::worker::{Worker, WorkerHandle, WorkerOptions};

/// Settings of a worker in this process: those of the queue, until something else is said.
#[derive(Debug, Clone)]
#[must_use = "nothing runs until `start` is called"]
pub struct WorkerBuilder<Q = Queue> {
    pub(crate) queue: Q,
    options: WorkerOptions,
    rules: Rules,
    stack: Option<usize>,
    cache: Option<(PathBuf, u64)>,
    sandbox: Option<Sandbox>,
    problem: Option<Error>,
}

impl<Q> WorkerBuilder<Q> {
    pub(crate) fn new(queue: Q, config: &Config) -> Self {
        let cache = config.cache.code_folder().map(|folder| (folder, config.cache.size.0));
        let options = options(config);
        Self {
            options,
            cache,
            queue,
            rules: Rules::default(),
            stack: None,
            sandbox: None,
            problem: None,
        }
    }

    /// Works on this queue, and on no others than those named so. Default: all queues.
    pub fn queue(mut self, name: impl AsRef<str>) -> Self {
        match name.as_ref().parse::<Name>() {
            Ok(name) => self.options.queues.push(name),
            Err(error) => self.problem = self.problem.or(Some(error.into())),
        }
        self
    }

    /// What it is called, for people. Default: the machine's name and the number of the process.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// The most tasks it runs at once.
    pub fn slots(mut self, slots: NonZeroU32) -> Self {
        self.options.slots = slots.get() as usize;
        self
    }

    /// Threads of each pool.
    pub fn threads(mut self, threads: NonZeroU32) -> Self {
        self.options.threads = threads.get() as usize;
        self
    }

    /// The pool of tasks that do not ask for one.
    pub fn pool(mut self, pool: Pool) -> Self {
        self.options.pool = pool;
        self
    }

    /// What an attempt may use unless its task says otherwise. Where it is more than a task could ask for, tasks may ask
    /// for that much.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.set_limits(limits);
        self
    }

    /// What guests may touch. Default: nothing.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.options.grants = Arc::new(grants);
        self
    }

    /// Which modules it runs; to be the same as those that may be pushed.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Bytes of stack a guest has.
    pub fn stack(mut self, bytes: usize) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// Runs tasks in this sandbox, whatever else was said about one.
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// What is said so far.
    pub(crate) fn settings(&self) -> &WorkerOptions {
        &self.options
    }

    /// All of its options at once.
    pub fn options(mut self, options: WorkerOptions) -> Self {
        self.options = options;
        self
    }

    pub(crate) fn with_queue<P>(self, queue: P) -> WorkerBuilder<P> {
        let Self { options, rules, stack, cache, sandbox, problem, .. } = self;
        WorkerBuilder { queue, options, rules, stack, cache, sandbox, problem }
    }
}

impl WorkerBuilder<Queue> {
    /// Starts it. It works until it is stopped, or its handle is dropped.
    ///
    /// # Errors
    /// The sandbox cannot be set up on this machine, the store does not let the worker in, or something that was said
    /// cannot be.
    pub async fn start(self) -> Result<WorkerHandle> {
        self.queue.check_open()?;
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let Self { queue, options, rules, stack, cache, sandbox, .. } = self;
        let sandbox = match sandbox {
            Some(sandbox) => sandbox,
            None => {
                let instances = u32::try_from(options.slots).unwrap_or(u32::MAX);
                let open = move || open_sandbox(rules, stack, cache, instances);
                tokio::task::spawn_blocking(open).await.map_err(|_| Error::Closed)??
            }
        };
        let shared = queue.shared();
        let worker = Worker::start(
            shared.stores.clone(),
            sandbox,
            options,
            shared.ends.clone(),
            shared.events.clone(),
        );
        Ok(worker.await?)
    }
}

impl Queue {
    /// The settings of a worker that runs this queue's tasks in this process: `start` starts it.
    pub fn worker(&self) -> WorkerBuilder<Self> {
        WorkerBuilder::new(self.clone(), self.config())
    }
}

/// Opens a sandbox for so many instances at once; without its cache if that cannot be used.
fn open_sandbox(
    rules: Rules,
    stack: Option<usize>,
    cache: Option<(PathBuf, u64)>,
    instances: u32,
) -> Result<Sandbox> {
    let mut builder = Sandbox::builder().rules(rules).allocation(Allocation::Pooled { instances });
    if let Some(stack) = stack {
        builder = builder.stack(stack);
    }
    let Some((folder, bytes)) = cache else { return Ok(builder.open()?) };
    match builder.clone().cache(folder, bytes).open() {
        Err(omniq_sandbox::Error::Cache(error)) => {
            tracing::warn!(error = %chain(&error), "compiled code is not kept");
            Ok(builder.open()?)
        }
        opened => Ok(opened?),
    }
}

/// What the settings say about workers.
fn options(config: &Config) -> WorkerOptions {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let processors =
        u32::try_from(processors).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let limits = Limits {
        timeout: config.defaults.timeout,
        fuel: config.limits.fuel.0,
        memory: config.limits.memory.0,
        cpu: config.limits.cpu,
        ..Limits::default()
    };
    let mut options = WorkerOptions {
        pool: config.workers.pool.into(),
        slots: config.workers.slots(processors).get() as usize,
        threads: config.workers.thread_count(processors).get() as usize,
        batch: config.workers.batch.get() as usize,
        claim_bytes: usize::try_from(config.workers.claim_bytes.0).unwrap_or(usize::MAX),
        lease: config.workers.lease,
        event_ttl: config.retention.history,
        ..WorkerOptions::default()
    };
    options.set_limits(limits);
    options
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use omniq_model::TaskLimits;

    use super::*;

    #[test]
    fn the_settings_reach_the_worker() {
        let config = Queue::builder()
            .set("workers.max", "7")
            .set("defaults.timeout", "9s")
            .set("limits.memory", "1MiB")
            .set("workers.lease", "3s")
            .config()
            .unwrap();
        let options = options(&config);
        assert_eq!((options.slots, options.limits.memory), (7, 1 << 20));
        assert_eq!(options.limits.timeout, Duration::from_secs(9));
        assert_eq!(options.lease, Duration::from_secs(3));
    }

    #[test]
    fn no_ceiling_cuts_what_the_settings_say() {
        const DAYS: Duration = Duration::from_secs(3 * 24 * 60 * 60);
        let config = Queue::builder()
            .set("defaults.timeout", "3d")
            .set("limits.cpu", "3d")
            .set("limits.fuel", "1000T")
            .config()
            .unwrap();
        let set = options(&config).limits_of(&TaskLimits::default());
        assert_eq!((set.timeout, set.cpu, set.fuel), (DAYS, DAYS, 1_000_000_000_000_000));
        let limits =
            Limits { timeout: DAYS, memory: 8 << 30, result: 1 << 30, ..Limits::default() };
        let builder = WorkerBuilder::new((), &Queue::builder().config().unwrap()).limits(limits);
        let said = builder.settings().limits_of(&TaskLimits::default());
        assert_eq!((said.timeout, said.memory, said.result), (DAYS, 8 << 30, 1 << 30));
        let asked = TaskLimits { fuel: Some(u64::MAX), ..TaskLimits::default() };
        let fuel = builder.settings().limits_of(&asked).fuel;
        assert_eq!(fuel, WorkerOptions::default().ceiling.fuel, "a task gets no more than before");
    }
}
