//! A durable task queue whose tasks are sandboxed WebAssembly components.
//!
//! A program that embeds it needs this crate and nothing else: [`Queue`] takes modules and tasks, workers in this or any
//! other process run them, and what a task returns comes back typed. [`blocking`] is the same without an async runtime.
//! `docs/library.md` is the guide.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> omniq::Result<()> {
//! use std::time::Duration;
//!
//! use omniq::Queue;
//!
//! let queue = Queue::builder().tasks("memory:").open().await?;
//! let worker = queue.worker().start().await?;
//!
//! let add = br#"(component
//!     (core module $m (func (export "add") (param i32 i32) (result i32)
//!         (i32.add (local.get 0) (local.get 1))))
//!     (core instance $i (instantiate $m))
//!     (func (export "add") (param "a" s32) (param "b" s32) (result s32)
//!         (canon lift (core func $i "add"))))"#;
//! queue.push("add", add).await?;
//!
//! let task = queue.task("add", "add").args((5, 10)).await?;
//! assert_eq!(task.result::<i32>().await?, 15);
//!
//! worker.stop(Duration::from_secs(5)).await;
//! queue.close().await
//! # }
//! ```

mod again;
pub mod blocking;
pub mod config;
pub mod ends;
mod error;
pub mod event;
mod keeper;
pub mod logging;
mod pool;
mod queue;
mod stores;
pub mod testing;
pub mod worker;

/// The queue for programs with an async runtime, by another name.
pub type AsyncTaskQueue = Queue;
/// The queue for programs without an async runtime, by another name.
pub type SyncTaskQueue = blocking::Queue;
/// The queue by another name.
pub type TaskQueue = Queue;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use queue::Transaction;
/// The SQL library whose transactions [`Queue::enqueue_in`] takes, in the version it needs.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sqlx;

pub use error::{Error, NoResult, Result, StoreFailure};
pub use omniq_model::{
    Digest, Format, Kind, Module, ModuleFunction, Name, OnParentFailure, Payload, Pool, Scope,
    State, TaskError, TaskId, TaskLimits, TaskUsage, Timestamp,
};
pub use omniq_store::{Counts, Filter, Info, Moved, Page, Restored};
pub use queue::{
    Bulk, FilterError, NewTask, Published, Push, Queue, QueueBuilder, TaskBuilder, TaskHandle,
    WorkerBuilder, parse_filter,
};
pub use stores::Stores;
