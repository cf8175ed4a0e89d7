//! What is measured: a queue with a component that does nothing, in a folder of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use omniq::config::{Config, Sources};
use omniq::worker::{WorkerHandle, WorkerOptions};
use omniq::{NewTask, Queue, QueueBuilder};
use omniq_model::{Lane, Module};
use omniq_store::Interest;

/// The component: a function that returns at once, with a memory as a compiler would give it.
pub const NOTHING: &[u8] = br#"(component
  (core module $code
    (memory (export "memory") 17)
    (func (export "nothing")))
  (core instance $code (instantiate $code))
  (func (export "nothing") (canon lift (core func $code "nothing"))))"#;

/// Tasks that are given to the queue at once.
const CHUNK: usize = 1000;
/// How long the queue may go without ending a task that it has.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of a queue at `url`: what the process is told about workers and durability, and the defaults otherwise,
/// so that nothing is ever written to a storage of somebody's.
fn settings(url: &str, folder: Option<&Path>) -> Result<QueueBuilder> {
    let told = Config::load(&Sources::of_process())?;
    let mut queue = Queue::builder()
        .tasks(url)
        .set("workers.batch", told.workers.batch.to_string())
        .set("storage.durability", told.storage.durability.to_string());
    if let Some(folder) = folder {
        // Where events go that have no place beside the tasks.
        queue = queue.set("data.folder", folder.display().to_string());
    }
    for (key, value) in
        [("workers.max", told.workers.max), ("workers.threads", told.workers.threads)]
    {
        if let Some(value) = value {
            queue = queue.set(key, value.to_string());
        }
    }
    Ok(queue)
}

/// A queue and where it lives.
#[derive(Debug)]
pub struct Rig {
    /// The queue.
    pub queue: Queue,
    /// The URL of its tasks.
    pub url: String,
}

impl Rig {
    /// A queue in memory.
    pub async fn memory() -> Result<Self> {
        Self::open("memory:".to_owned(), None).await
    }

    /// A queue at that URL, as durable as it is by default; what has no place there is in `folder`.
    pub async fn at(url: String, folder: &Path) -> Result<Self> {
        Self::open(url, Some(folder)).await
    }

    async fn open(url: String, folder: Option<&Path>) -> Result<Self> {
        let queue = settings(&url, folder)?.open().await?;
        queue.push("bench", NOTHING).await?;
        Ok(Self { queue, url })
    }

    /// A worker in this process, as the settings have it.
    pub async fn worker(&self) -> Result<WorkerHandle> {
        Ok(self.queue.worker().start().await?)
    }

    /// The same, with the component compiled and loaded.
    pub async fn warm_worker(&self) -> Result<WorkerHandle> {
        let worker = self.worker().await?;
        self.queue.task("bench", "nothing").await?.result::<()>().await?;
        Ok(worker)
    }

    /// The same for a queue whose history was made without a log: one that does not look after the log, since putting
    /// millions of missing events into it would be measured too.
    pub async fn warm_worker_without_keeper(&self) -> Result<WorkerHandle> {
        let batch = self.claim_batch();
        let options = WorkerOptions { keeper: false, batch, ..WorkerOptions::default() };
        let worker = self.queue.worker().options(options).start().await?;
        self.queue.task("bench", "nothing").await?.result::<()>().await?;
        Ok(worker)
    }

    /// The most tasks a worker claims in one go.
    pub fn claim_batch(&self) -> usize {
        self.queue.config().workers.batch.get() as usize
    }

    /// What the queue knows of the component.
    pub async fn module(&self) -> Result<Module> {
        let name = "bench".parse()?;
        let found = self.queue.stores().modules.find(&name, None).await?;
        found.context("the module of the benchmark is gone")
    }

    /// Lets go of the files.
    pub async fn close(self) -> Result<()> {
        Ok(self.queue.close().await?)
    }

    /// That many tasks that do nothing.
    pub fn tasks(count: usize) -> impl Iterator<Item = NewTask> {
        std::iter::repeat_with(|| NewTask::new("bench", "nothing")).take(count)
    }

    /// Puts that many tasks into the queue; returns how long it took.
    pub async fn fill(&self, count: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut left = count;
        while left > 0 {
            let now = left.min(CHUNK * 10);
            left -= now;
            for outcome in self.queue.enqueue_many(Self::tasks(now)).await {
                outcome.context("a task of the benchmark was not accepted")?;
            }
        }
        Ok(started.elapsed())
    }

    /// Holds the tasks back, or lets them go.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        Ok(self.queue.stores().tasks.pause(&Lane::default(), paused).await?)
    }

    /// Fills the queue with `count` tasks while it is paused, then lets `worker` end `measured` of them; returns how many
    /// it ended in a second.
    pub async fn drain(&self, worker: &WorkerHandle, count: usize, measured: usize) -> Result<f64> {
        self.pause(true).await?;
        self.fill(count).await?;
        let before = worker.stats().succeeded;
        let started = Instant::now();
        self.pause(false).await?;
        let ended = self.ended(worker, before + measured as u64).await? - before;
        Ok(ended as f64 / started.elapsed().as_secs_f64())
    }

    /// Waits until `worker` has ended that many tasks in all; returns how many it has.
    pub async fn ended(&self, worker: &WorkerHandle, target: u64) -> Result<u64> {
        let tasks = &self.queue.stores().tasks;
        let (mut last, mut moved) = (worker.stats().succeeded, Instant::now());
        loop {
            let seen = tasks.changes(Interest::Ends);
            let now = worker.stats().succeeded;
            if now >= target {
                return Ok(now);
            }
            if now > last {
                (last, moved) = (now, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                bail!("the worker has ended {now} of {target} tasks, and none for {PATIENCE:?}");
            }
            tasks.changed(Interest::Ends, seen, Duration::from_millis(5)).await;
        }
    }
}
