//! Where guests run: pools of several kinds behind one trait.
//!
//! A pool takes jobs without waiting and runs them in the order they came, so many at a time as it has slots. It knows
//! nothing of leases or stores; what came of a job goes to its [`Report`]. The same job gives the same outcome in every
//! pool. A mistake of the host's inside a job is that job's outcome, never the end of the pool.

mod asynchronous;
mod load;
mod thread;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use omniq_model::Pool;
use omniq_sandbox::Outcome;

pub(crate) use asynchronous::AsyncPool;
pub(crate) use load::Load;
pub(crate) use thread::ThreadPool;

use crate::worker::{Attempt, Job};

/// A pool of one kind.
#[expect(clippy::vec_box, reason = "a job is large, and goes from hand to hand")]
pub(crate) trait Executor: fmt::Debug + Send + Sync {
    /// Which kind.
    fn kind(&self) -> Pool;

    /// How full it is.
    fn load(&self) -> &Load;

    /// Takes jobs, in order; never waits.
    fn submit(&self, jobs: Vec<Box<Job>>);

    /// Since when the job waits whose turn is next; `None`: none waits.
    fn waits_since(&self) -> Option<Instant>;

    /// Gives back the jobs that have not begun.
    fn drain(&self) -> Vec<Box<Job>>;

    /// Lets go of its threads. Guests that still run are not waited for; what has not begun is dropped.
    fn stop(&self);
}

/// How a job ended: its outcome, or why there is none.
pub(crate) type Ran = Result<Outcome, Unrun>;

/// Why a job has no outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unrun {
    /// It was to be stopped before it began.
    Stopped,
    /// The host panicked, and what it said.
    Panicked(String),
}

/// Who hears how jobs ended. Called on the pool's threads: it does not wait.
pub(crate) trait Report: fmt::Debug + Send + Sync {
    /// A job has ended.
    fn ended(&self, attempt: Attempt, ran: Ran);

    /// Few jobs are left: more are welcome.
    fn hungry(&self);
}

/// A pool of the kind; `None` where this version has none.
pub(crate) fn open(
    kind: Pool,
    slots: usize,
    threads: usize,
    report: &Arc<dyn Report>,
) -> std::io::Result<Option<Arc<dyn Executor>>> {
    Ok(match kind {
        Pool::Async => Some(Arc::new(AsyncPool::start(slots, threads, Arc::clone(report))?)),
        Pool::Thread => Some(Arc::new(ThreadPool::start(threads, Arc::clone(report))?)),
        _ => None,
    })
}

fn failed(panic: Box<dyn Any + Send>) -> Unrun {
    Unrun::Panicked(panicked(panic))
}

/// What a panic said.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("a panic without a message"))
}
