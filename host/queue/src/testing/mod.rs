//! What programs that embed the queue test themselves with: a queue in memory whose time a test moves, a runner that runs
//! what is ready within the call, and questions about what was enqueued.
//!
//! Nothing here is a stand-in: tasks are checked, stored, claimed, run in the sandbox and committed as everywhere. Only
//! the store is in memory, one task runs at a time in the order of the queue, and no time passes unless a test says so.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> omniq::Result<()> {
//! use std::time::Duration;
//!
//! use omniq::NewTask;
//! use omniq::testing::TestQueue;
//!
//! let queue = TestQueue::new().await?;
//! # let add = br#"(component
//! #     (core module $m (func (export "add") (param i32 i32) (result i32)
//! #         (i32.add (local.get 0) (local.get 1))))
//! #     (core instance $i (instantiate $m))
//! #     (func (export "add") (param "a" s32) (param "b" s32) (result s32)
//! #         (canon lift (core func $i "add"))))"#.as_slice();
//! queue.push("add", add).await?;
//!
//! // What the program under test does, given `&queue`, which is a `Queue`.
//! let task = queue.task("add", "add").args((5, 10)).delay(Duration::from_secs(3600)).await?;
//!
//! queue.assert_enqueued(NewTask::new("add", "add").args((5, 10))).await;
//! assert_eq!(queue.run_ready().await?, 0, "it is not due");
//! queue.advance(Duration::from_secs(3600)).await?;
//! assert_eq!(queue.run_ready().await?, 1);
//! assert_eq!(task.result::<i32>().await?, 15);
//! # queue.close().await
//! # }
//! ```

mod expect;
mod run;

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use omniq_model::Timestamp;
use omniq_sandbox::Sandbox;
use omniq_store::memory::{MemoryModules, MemoryTasks};
use omniq_store::{Clock as _, ManualClock};

use crate::config::Config;
use crate::error::Result;
use crate::queue::Queue;
use crate::stores::Stores;

/// A queue in memory, all of its own, whose time stands still until a test moves it. It is a [`Queue`] to whoever takes one.
#[derive(Debug)]
pub struct TestQueue {
    queue: Queue,
    clock: ManualClock,
    sandbox: Arc<OnceLock<Sandbox>>,
}

impl TestQueue {
    /// An empty queue with the default settings. Its time is the noon of 1 January 2026.
    ///
    /// # Errors
    /// None that is known; opening a queue may fail, and so this may.
    pub async fn new() -> Result<Self> {
        Self::with_config(Queue::builder().config()?)
    }

    /// An empty queue with these settings; what they say about stores is passed over.
    ///
    /// # Errors
    /// As [`Self::new`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_config(config: Config) -> Result<Self> {
        const NOON: Timestamp = Timestamp::from_millis(1_767_268_800_000);
        let clock = ManualClock::new(NOON);
        let stores = Stores {
            tasks: Arc::new(MemoryTasks::new(Arc::new(clock.clone()))),
            results: None,
            events: None,
            modules: Arc::new(MemoryModules::new()),
            inline_max: usize::MAX,
        };
        let queue = Queue::on_clock(stores, config, Arc::new(clock.clone()));
        Ok(Self { queue, clock, sandbox: Arc::default() })
    }

    /// The queue, for what wants to own one. Clones are the same queue.
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// The time it is.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Deref for TestQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}
