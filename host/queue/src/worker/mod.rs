//! Runs tasks: claims them, gives them to pools, commits how they ended.
//!
//! One thread claims and commits (`claim`, `finish`), one keeps the session alive (`heartbeat`), and guests run on
//! threads of their own in pools, so that no guest can hold up either. What always holds: every claimed task is either
//! held in `shared` or its end is committed; an end is committed with the token of its claim or not at all; a worker
//! that cannot reach the store for the time of a lease stops its guests, since others may run their tasks by then.

mod attempt;
mod beginning;
mod cancel;
mod claim;
mod directive;
mod dispatch;
mod finish;
mod handle;
mod heartbeat;
mod impatience;
mod lanes;
mod modules;
mod options;
mod outcome;
mod shared;
mod shutdown;
mod start;
mod task_host;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use attempt::Why;
pub(crate) use attempt::{Attempt, Job, Program};
pub use handle::{Stats, WorkerHandle};
pub use options::WorkerOptions;
pub use start::{StartError, Worker};
