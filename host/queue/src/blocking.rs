//! The same queue for programs without an async runtime: [`Queue`] brings its own, and its calls wait.
//!
//! ```
//! # fn main() -> omniq::Result<()> {
//! use std::time::Duration;
//!
//! use omniq::blocking::Queue;
//!
//! let queue = Queue::connect("memory:")?;
//! let worker = queue.worker().start()?;
//! # let add = br#"(component
//! #     (core module $m (func (export "add") (param i32 i32) (result i32)
//! #         (i32.add (local.get 0) (local.get 1))))
//! #     (core instance $i (instantiate $m))
//! #     (func (export "add") (param "a" s32) (param "b" s32) (result s32)
//! #         (canon lift (core func $i "add"))))"#.as_slice();
//! queue.push("add", add).publish()?;
//!
//! let task = queue.task("add", "add").args((5, 10)).enqueue()?;
//! assert_eq!(task.result::<i32>()?, 15);
//! worker.stop(Duration::from_secs(5))?;
//! queue.close()
//! # }
//! ```
//!
//! Every method of [`crate::Queue`] and [`crate::TaskHandle`] is here under the same name. Inside an async runtime, where
//! waiting would hold up others, they fail with [`InsideRuntime`](crate::Error::InsideRuntime); on a thread made by
//! `spawn_blocking` they work. Everything may be dropped anywhere.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use omniq_model::{Digest, Module, ModuleFunction, Payload, State, TaskId, TaskResult};
use omniq_store::{Counts, Filter, Info, Page, Restored};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::{Config, Sources};
use crate::error::{Error, Result};
use crate::queue::{self, Bulk, NewTask, Published, Push, QueueBuilder, WorkerBuilder};
use crate::stores::Stores;
use crate::worker::Stats;

/// A durable task queue whose calls wait. Cheap to clone; clones are the same queue. See [`crate::Queue`].
#[derive(Debug, Clone)]
pub struct Queue {
    inner: queue::Queue,
    runtime: Arc<Owned>,
}

/// One task of a queue. See [`crate::TaskHandle`].
#[derive(Debug, Clone)]
pub struct TaskHandle {
    inner: queue::TaskHandle,
    runtime: Arc<Owned>,
}

/// A running worker. Dropping it stops it without waiting for it.
#[derive(Debug)]
pub struct Worker {
    inner: crate::worker::WorkerHandle,
    runtime: Arc<Owned>,
}

/// The runtime that everything of one queue shares.
#[derive(Debug)]
struct Owned(Option<Runtime>);

impl Owned {
    fn start() -> Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("omniq")
            .enable_all()
            .build()
            .map_err(|source| Error::Host {
                what: "the thread of the queue cannot be started",
                source: Arc::new(source),
            })?;
        Ok(Arc::new(Self(Some(runtime))))
    }

    /// Waits for `future`, unless that would hold up a runtime.
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        if is_polled() {
            return Err(Error::InsideRuntime);
        }
        let runtime = self.0.as_ref().ok_or(Error::Closed)?;
        Ok(runtime.block_on(future))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Its usual end waits for its threads, which is not possible everywhere a value may be dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether this code runs inside a future of a tokio runtime.
///
/// A thread that has a runtime may also be one made for blocking. What tells them apart: a future is polled on a budget
/// of steps, so that it lets others run; blocking code has no such budget.
fn is_polled() -> bool {
    /// More than the budget of one poll.
    const STEPS: usize = 1024;
    if Handle::try_current().is_err() {
        return false;
    }
    let mut context = Context::from_waker(Waker::noop());
    let spends = || pin!(tokio::task::coop::consume_budget()).poll(&mut context);
    std::iter::repeat_with(spends).take(STEPS).any(|poll| poll == Poll::Pending)
}

impl Queue {
    /// See [`crate::Queue::builder`].
    pub fn builder() -> QueueBuilder<Self> {
        QueueBuilder::new(Sources::new())
    }

    /// See [`crate::Queue::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().tasks(url).open()
    }

    /// See [`crate::Queue::from_env`].
    ///
    /// # Errors
    /// As there.
    pub fn from_env() -> Result<Self> {
        QueueBuilder::<Self>::new(Sources::of_process()).open()
    }

    /// See [`crate::Queue::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(config: Config) -> Result<Self> {
        let runtime = Owned::start()?;
        let inner = runtime.wait(queue::Queue::open(config))??;
        Ok(Self { inner, runtime })
    }

    /// See [`crate::Queue::on`].
    ///
    /// # Errors
    /// The queue's own thread cannot be started, or this is inside an async runtime.
    pub fn on(stores: Stores, config: Config) -> Result<Self> {
        let runtime = Owned::start()?;
        let inner = runtime.wait(async { queue::Queue::on(stores, config) })?;
        Ok(Self { inner, runtime })
    }

    /// See [`crate::Queue::handle`].
    pub fn handle(&self, id: TaskId) -> TaskHandle {
        self.wrap(self.inner.handle(id))
    }

    /// See [`crate::Queue::task`].
    pub fn task(&self, module: impl Into<String>, function: impl Into<String>) -> NewTask<Self> {
        NewTask::new(module, function).with_queue(self.clone())
    }

    /// See [`crate::Queue::command`].
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

    /// See [`crate::Queue::enqueue_many`].
    ///
    /// # Errors
    /// Of each task: as there. Of the call: this is inside an async runtime.
    pub fn enqueue_many<Q>(
        &self,
        tasks: impl IntoIterator<Item = NewTask<Q>>,
    ) -> Result<Vec<Result<TaskHandle>>> {
        let outcomes = self.runtime.wait(self.inner.enqueue_many(tasks))?;
        Ok(outcomes.into_iter().map(|outcome| outcome.map(|handle| self.wrap(handle))).collect())
    }

    /// See [`crate::Queue::enqueue_in`].
    ///
    /// # Errors
    /// As there.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub fn enqueue_in<Q>(
        &self,
        transaction: &mut impl crate::Transaction,
        tasks: impl IntoIterator<Item = NewTask<Q>>,
    ) -> Result<Vec<TaskHandle>> {
        let handles = self.runtime.wait(self.inner.enqueue_in(transaction, tasks))??;
        Ok(handles.into_iter().map(|handle| self.wrap(handle)).collect())
    }

    /// See [`crate::Queue::push`]. [`publish`](Push::publish) pushes it.
    pub fn push(&self, name: impl Into<String>, component: impl Into<Vec<u8>>) -> Push<Self> {
        self.inner.push(name, component).with_queue(self.clone())
    }

    /// See [`crate::Queue::push_file`]. [`publish`](Push::publish) pushes it.
    pub fn push_file(&self, path: impl AsRef<Path>) -> Push<Self> {
        self.inner.push_file(path).with_queue(self.clone())
    }

    /// See [`crate::Queue::modules`].
    ///
    /// # Errors
    /// As there.
    pub fn modules(&self) -> Result<Vec<Module>> {
        self.runtime.wait(self.inner.modules())?
    }

    /// See [`crate::Queue::module`].
    ///
    /// # Errors
    /// As there.
    pub fn module(&self, name: impl AsRef<str>) -> Result<Module> {
        self.runtime.wait(self.inner.module(name))?
    }

    /// See [`crate::Queue::function`].
    ///
    /// # Errors
    /// As there.
    pub fn function(
        &self,
        module: impl AsRef<str>,
        function: impl AsRef<str>,
    ) -> Result<ModuleFunction> {
        self.runtime.wait(self.inner.function(module, function))?
    }

    /// See [`crate::Queue::is_module_sound`].
    ///
    /// # Errors
    /// As there, or this is inside an async runtime.
    pub fn is_module_sound(&self, digest: &Digest) -> Result<bool> {
        self.runtime.wait(self.inner.is_module_sound(digest))?
    }

    /// See [`crate::Queue::remove_module`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_module(&self, name: impl AsRef<str>) -> Result<bool> {
        self.runtime.wait(self.inner.remove_module(name))?
    }

    /// See [`crate::Queue::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, id: TaskId) -> Result<Option<Info>> {
        self.runtime.wait(self.inner.get(id))?
    }

    /// See [`crate::Queue::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, id: TaskId, state: State, result: TaskResult) -> Result<Payload> {
        self.runtime.wait(self.inner.load(id, state, result))?
    }

    /// See [`crate::Queue::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        self.runtime.wait(self.inner.list(filter, before, max))?
    }

    /// See [`crate::Queue::dlq`].
    ///
    /// # Errors
    /// As there.
    pub fn dlq(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        self.runtime.wait(self.inner.dlq(filter, before, max))?
    }

    /// See [`crate::Queue::count`].
    ///
    /// # Errors
    /// As there.
    pub fn count(&self, filter: &Filter) -> Result<Counts> {
        self.runtime.wait(self.inner.count(filter))?
    }

    /// See [`crate::Queue::cancel`].
    ///
    /// # Errors
    /// As there.
    pub fn cancel(&self, filter: &Filter) -> Result<Bulk> {
        self.runtime.wait(self.inner.cancel(filter))?
    }

    /// See [`crate::Queue::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self, filter: &Filter) -> Result<Bulk> {
        self.runtime.wait(self.inner.retry(filter))?
    }

    /// See [`crate::Queue::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, filter: &Filter) -> Result<Bulk> {
        self.runtime.wait(self.inner.remove(filter))?
    }

    /// See [`crate::Queue::restored`].
    ///
    /// # Errors
    /// As there.
    pub fn restored(&self) -> Result<Restored> {
        self.runtime.wait(self.inner.restored())?
    }

    /// See [`crate::Queue::worker`].
    pub fn worker(&self) -> WorkerBuilder<Self> {
        self.inner.worker().with_queue(self.clone())
    }

    /// See [`crate::Queue::config`].
    pub fn config(&self) -> &Config {
        self.inner.config()
    }

    /// See [`crate::Queue::stores`].
    pub fn stores(&self) -> &Stores {
        self.inner.stores()
    }

    /// See [`crate::Queue::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<()> {
        self.runtime.wait(self.inner.close())?
    }

    fn wrap(&self, inner: queue::TaskHandle) -> TaskHandle {
        TaskHandle { inner, runtime: Arc::clone(&self.runtime) }
    }
}

impl TaskHandle {
    /// See [`crate::TaskHandle::id`].
    pub fn id(&self) -> TaskId {
        self.inner.id()
    }

    /// See [`crate::TaskHandle::is_new`].
    pub fn is_new(&self) -> bool {
        self.inner.is_new()
    }

    /// See [`crate::TaskHandle::result`].
    ///
    /// # Errors
    /// As there.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        self.runtime.wait(self.inner.result())?
    }

    /// See [`crate::TaskHandle::result_payload`].
    ///
    /// # Errors
    /// As there.
    pub fn result_payload(&self) -> Result<Payload> {
        self.runtime.wait(self.inner.result_payload())?
    }

    /// See [`crate::TaskHandle::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, timeout: Duration) -> Result<State> {
        self.runtime.wait(self.inner.wait(timeout))?
    }

    /// See [`crate::TaskHandle::status`].
    ///
    /// # Errors
    /// As there.
    pub fn status(&self) -> Result<State> {
        self.runtime.wait(self.inner.status())?
    }

    /// See [`crate::TaskHandle::info`].
    ///
    /// # Errors
    /// As there.
    pub fn info(&self) -> Result<Info> {
        self.runtime.wait(self.inner.info())?
    }

    /// See [`crate::TaskHandle::cancel`].
    ///
    /// # Errors
    /// As there.
    pub fn cancel(&self) -> Result<Bulk> {
        self.runtime.wait(self.inner.cancel())?
    }

    /// See [`crate::TaskHandle::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<Bulk> {
        self.runtime.wait(self.inner.retry())?
    }
}

impl From<&TaskHandle> for TaskId {
    fn from(handle: &TaskHandle) -> Self {
        handle.id()
    }
}

impl QueueBuilder<Queue> {
    /// Opens the queue.
    ///
    /// # Errors
    /// A setting is wrong, the stores cannot be opened, or this is inside an async runtime.
    pub fn open(self) -> Result<Queue> {
        Queue::open(self.config()?)
    }
}

impl NewTask<Queue> {
    /// Checks it and puts it into the store. `Ok` means durable, as far as the store is.
    ///
    /// # Errors
    /// The module or function does not exist, the arguments do not fit, something that was said cannot be, another task
    /// has the id, the store failed, or this is inside an async runtime.
    pub fn enqueue(self) -> Result<TaskHandle> {
        let queue = self.queue.clone();
        let task = self.with_queue(queue.inner.clone());
        Ok(queue.wrap(queue.runtime.wait(task.enqueue())??))
    }
}

impl Push<Queue> {
    /// As [`crate::queue::Push::publish`].
    ///
    /// # Errors
    /// The file cannot be read, the bytes are no component that can be run, other bytes are there under the same name and
    /// version, the store failed, or this is inside an async runtime.
    pub fn publish(self) -> Result<Published> {
        let queue = self.queue.clone();
        let push = self.with_queue(queue.inner.clone());
        queue.runtime.wait(push.publish())?
    }
}

impl WorkerBuilder<Queue> {
    /// Starts it. It works until it is stopped, or dropped.
    ///
    /// # Errors
    /// The sandbox cannot be set up on this machine, the store does not let the worker in, something that was said cannot
    /// be, or this is inside an async runtime.
    pub fn start(self) -> Result<Worker> {
        let queue = self.queue.clone();
        let worker = self.with_queue(queue.inner.clone());
        let inner = queue.runtime.wait(worker.start())??;
        Ok(Worker { inner, runtime: queue.runtime })
    }
}

impl Worker {
    /// Claims nothing more, lets what runs go on for `grace`, then stops it and puts it back. Tells what it has done.
    ///
    /// # Errors
    /// This is inside an async runtime.
    pub fn stop(&self, grace: Duration) -> Result<Stats> {
        self.runtime.wait(self.inner.stop(grace))
    }

    /// Stops with no grace, and does not wait for it.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// What it has done, and what it is doing.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn inside_a_runtime_it_is_refused_and_may_be_dropped() {
        assert!(is_polled());
        assert!(matches!(Queue::connect("memory:"), Err(Error::InsideRuntime)));
        // A thread made for blocking has the runtime too, and may block.
        let queue = tokio::task::spawn_blocking(|| {
            assert!(!is_polled());
            Queue::connect("memory:").unwrap()
        });
        let queue = queue.await.unwrap();
        assert!(matches!(queue.modules(), Err(Error::InsideRuntime)));
        drop(queue);
    }

    #[test]
    fn outside_it_waits() {
        let queue = Queue::connect("memory:").unwrap();
        assert_eq!(queue.modules().unwrap(), []);
        queue.close().unwrap();
        assert!(matches!(queue.task("a", "b").enqueue(), Err(Error::Closed)));
    }

    /// The names of the public methods of `of` in a source.
    fn methods(source: &str, of: &str) -> Vec<String> {
        let start = format!("impl {of} {{");
        let blocks = source.split(start.as_str()).skip(1);
        let bodies = blocks.map(|block| block.split("\n}\n").next().unwrap_or_default());
        let lines = bodies.flat_map(str::lines);
        let name = |line: &str| {
            let line = line.strip_prefix("    pub ")?;
            let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
            Some(line.split(['(', '<']).next()?.to_owned())
        };
        let mut names: Vec<_> = lines.filter_map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn both_faces_have_the_same_methods() {
        let of_async = [
            include_str!("queue/mod.rs"),
            include_str!("queue/builder.rs"),
            include_str!("queue/control.rs"),
            include_str!("queue/enqueue.rs"),
            include_str!("queue/handle.rs"),
            include_str!("queue/modules.rs"),
            include_str!("queue/restored.rs"),
            include_str!("queue/task.rs"),
            include_str!("queue/transaction.rs"),
            include_str!("queue/worker.rs"),
        ]
        .concat();
        let blocking = include_str!("blocking.rs");
        for of in [
            "Queue",
            "TaskHandle",
            "NewTask<Queue>",
            "Push<Queue>",
            "QueueBuilder<Queue>",
            "WorkerBuilder<Queue>",
        ] {
            let found = methods(&of_async, of);
            assert!(!found.is_empty(), "{of}");
            assert_eq!(methods(blocking, of), found, "{of}");
        }
    }
}
