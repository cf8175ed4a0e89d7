//! The queue as programs see it: modules and tasks go in, handles and answers come out.
//!
//! Everything here checks, asks and tells; what happens to a task is up to its store, what runs it to the workers.

mod arguments;
mod builder;
mod catalog;
mod control;
mod enqueue;
mod filter;
mod handle;
mod modules;
mod open;
mod restored;
mod task;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod transaction;
mod worker;

use std::fmt;
use std::sync::{Arc, OnceLock};

use omniq_model::TaskId;
use omniq_store::{Clock, SystemClock};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use builder::QueueBuilder;
pub use control::Bulk;
pub use filter::{FilterError, parse_filter};
pub use handle::TaskHandle;
pub use modules::{Published, Push};
pub use task::{NewTask, TaskBuilder};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use transaction::Transaction;
pub use worker::WorkerBuilder;

pub(crate) use task::Spec;

use crate::config::{Config, Sources};
use crate::ends::Ends;
use crate::error::{Error, Result};
use crate::event::Sink;
use crate::stores::Stores;
use catalog::Catalog;

/// A durable task queue. Cheap to clone; clones are the same queue.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> omniq::Result<()> {
/// use std::time::Duration;
///
/// use omniq::Queue;
///
/// let queue = Queue::connect("memory:").await?;
/// let worker = queue.worker().start().await?;
/// # let add = br#"(component
/// #     (core module $m (func (export "add") (param i32 i32) (result i32)
/// #         (i32.add (local.get 0) (local.get 1))))
/// #     (core instance $i (instantiate $m))
/// #     (func (export "add") (param "a" s32) (param "b" s32) (result s32)
/// #         (canon lift (core func $i "add"))))"#.as_slice();
/// queue.push("add", add).await?;
///
/// let task = queue.task("add", "add").args((5, 10)).await?;
/// assert_eq!(task.result::<i32>().await?, 15);
/// worker.stop(Duration::from_secs(5)).await;
/// queue.close().await
/// # }
/// ```
///
/// It needs a tokio runtime: some of its work goes on between calls, until the last clone is dropped or it is
/// [closed](Self::close). Where there is none, [`blocking::Queue`](crate::blocking::Queue) brings its own.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

/// What all clones share.
pub(crate) struct Shared {
    pub stores: Stores,
    pub config: Config,
    pub catalog: Catalog,
    pub ends: Ends,
    pub events: Sink,
    pub clock: Arc<dyn Clock>,
    closed: watch::Sender<bool>,
    /// What came of closing, once it was begun.
    closing: OnceLock<watch::Receiver<Option<Result<()>>>>,
    watcher: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("tasks", &self.0.stores.tasks.caps().name)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// The settings of a queue: those of the defaults, until something is said. Nothing is read from the environment.
    pub fn builder() -> QueueBuilder {
        QueueBuilder::new(Sources::new())
    }

    /// The queue whose tasks live at `url`, such as `sqlite:omniq.db` or `memory:`; results and modules live with them,
    /// events beside them.
    ///
    /// # Errors
    /// The URL is none, or the stores cannot be opened.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().tasks(url).open().await
    }

    /// The queue that the environment describes: `OMNIQ_*` variables and `omniq.toml` in the working directory.
    ///
    /// # Errors
    /// A setting is wrong, all of them at once; or the stores cannot be opened.
    pub async fn from_env() -> Result<Self> {
        QueueBuilder::<Self>::new(Sources::of_process()).open().await
    }

    /// The queue that these settings describe.
    ///
    /// # Errors
    /// The stores cannot be opened, or are of a kind this version does not have.
    pub async fn open(config: Config) -> Result<Self> {
        let stores = Stores::open(&config).await?;
        Ok(Self::on(stores, config))
    }

    /// The queue on stores that are open already; what the settings say about stores is passed over.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn on(stores: Stores, config: Config) -> Self {
        Self::on_clock(stores, config, Arc::new(SystemClock::default()))
    }

    /// As [`Self::on`], with the clock that ids are made by.
    pub(crate) fn on_clock(stores: Stores, config: Config, clock: Arc<dyn Clock>) -> Self {
        let ends = Ends::new();
        let watcher = {
            let (ends, tasks) = (ends.clone(), Arc::clone(&stores.tasks));
            tokio::spawn(async move { ends.watch(tasks).await }).abort_handle()
        };
        Self(Arc::new(Shared {
            catalog: Catalog::new(Arc::clone(&stores.modules)),
            events: Sink::start(stores.events.clone()),
            ends,
            stores,
            config,
            clock,
            closed: watch::Sender::new(false),
            closing: OnceLock::new(),
            watcher,
        }))
    }

    /// The handle of a task; that there is such a task is not asked.
    pub fn handle(&self, id: TaskId) -> TaskHandle {
        TaskHandle::new(self.clone(), id, false)
    }

    /// A call of `function` of `module`, to be completed and awaited. `module` is a name or `name@version`; without a
    /// version the one pushed last is meant, at most a second ago.
    pub fn task(&self, module: impl Into<String>, function: impl Into<String>) -> NewTask<Self> {
        NewTask::new(module, function).with_queue(self.clone())
    }

    /// A run of the program `module` with these arguments (without the program's name) and this standard input.
    pub fn command<I>(
        &self,
        module: impl Into<String>,
        args: I,
        stdin: impl Into<Vec<u8>>,
    ) -> NewTask<Self>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        NewTask::command(module, args, stdin).with_queue(self.clone())
    }

    /// The settings it works with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The stores it works on.
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// Writes down what is to be written, and lets go of files and connections. All clones are closed with it; their
    /// calls fail from then on. Workers are to be stopped before.
    ///
    /// It is done once: who calls again, or at the same time, waits for the same and hears the same. Dropping the future does
    /// not call it off.
    ///
    /// # Errors
    /// A store could not write down what it had to.
    pub async fn close(&self) -> Result<()> {
        let mut outcome = self.0.closing.get_or_init(|| self.begin_closing()).clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            // A mistake in a store, or the runtime it was begun in has ended.
            Err(_) => Err(Error::Closed),
        }
    }

    /// Closes in a task of its own, so that no caller who goes away leaves it half done.
    fn begin_closing(&self) -> watch::Receiver<Option<Result<()>>> {
        self.0.closed.send_replace(true);
        self.0.watcher.abort();
        let (sender, outcome) = watch::channel(None);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let closed = shared.close_stores().await;
            sender.send_replace(Some(closed));
        });
        outcome
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Fails once it is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if *self.0.closed.borrow() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Gives what `wait` gives, unless the queue is closed before: nobody would end the wait.
    pub(crate) async fn unless_closed<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        let mut closed = self.0.closed.subscribe();
        tokio::select! {
            value = wait => Ok(value),
            _ = closed.wait_for(|closed| *closed) => Err(Error::Closed),
        }
    }
}

impl Shared {
    async fn close_stores(&self) -> Result<()> {
        self.events.close().await;
        let stores = &self.stores;
        // One that fails keeps none of the others from writing down what it has to.
        let tasks = stores.tasks.close().await;
        let results = match &stores.results {
            Some(results) => results.close().await,
            None => Ok(()),
        };
        let events = match &stores.events {
            Some(events) => events.close().await,
            None => Ok(()),
        };
        let modules = stores.modules.close().await;
        Ok(tasks.and(results).and(events).and(modules)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use omniq_model::Payload;
    use omniq_store::memory::{MemoryModules, MemoryTasks};
    use omniq_store::{ResultKey, ResultStore, StagedResult};
    use tokio::sync::Semaphore;

    use super::*;

    /// Closes when it is let, and then says that something went wrong.
    #[derive(Debug)]
    struct Slow {
        gate: Semaphore,
        begun: AtomicU32,
        ended: AtomicU32,
    }

    #[async_trait]
    impl ResultStore for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        async fn put(&self, _: Vec<StagedResult>) -> omniq_store::Result<()> {
            Ok(())
        }

        async fn get(&self, keys: &[ResultKey]) -> omniq_store::Result<Vec<Option<Payload>>> {
            Ok(vec![None; keys.len()])
        }

        async fn remove(&self, _: &[TaskId]) -> omniq_store::Result<()> {
            Ok(())
        }

        async fn purge(&self, _: usize) -> omniq_store::Result<usize> {
            Ok(0)
        }

        async fn close(&self) -> omniq_store::Result<()> {
            self.begun.fetch_add(1, Ordering::AcqRel);
            let _open = self.gate.acquire().await.expect("nobody closes it");
            self.ended.fetch_add(1, Ordering::AcqRel);
            Err(omniq_store::Error::unavailable("slow", "close", "it is full"))
        }
    }

    #[tokio::test]
    async fn closing_is_done_once_whoever_waits_for_it() {
        let (gate, begun, ended) = (Semaphore::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let slow = Arc::new(Slow { gate, begun, ended });
        let stores = Stores {
            tasks: Arc::new(MemoryTasks::new(Arc::new(SystemClock::default()))),
            results: Some(Arc::clone(&slow) as _),
            events: None,
            modules: Arc::new(MemoryModules::new()),
            inline_max: 8 << 10,
        };
        let queue = Queue::on(stores, Queue::builder().config().unwrap());
        let begun = async {
            while slow.begun.load(Ordering::Acquire) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = queue.close() => panic!("a store is not closed yet"),
            () = begun => {} // the first call is dropped
        }
        let closing = tokio::spawn({
            let queue = queue.clone();
            async move { queue.close().await }
        });
        slow.gate.add_permits(1);
        let (second, third) = (closing.await.unwrap(), queue.close().await);
        assert_eq!(
            (slow.begun.load(Ordering::Acquire), slow.ended.load(Ordering::Acquire)),
            (1, 1)
        );
        for heard in [second, third] {
            assert!(heard.unwrap_err().to_string().contains("slow"), "everybody hears of it");
        }
    }
}
