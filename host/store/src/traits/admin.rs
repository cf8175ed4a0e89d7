//! What is done to a store of tasks as a whole: look it over, bring it to this version, copy what is in it.

use async_trait::async_trait;
use omniq_model::{Lane, SessionId, State, TaskId, Timestamp};

use super::tasks::{Counts, Info, Moved};
use crate::{Durability, Result};

/// What a copy, or a backup that was put back, adds to the fence of a task that was claimed before and has not ended: far
/// more than anybody claims it again in the store it comes from, so that no fence means two claims.
pub const FENCE_STEP: u64 = 1_000_000;

/// A fence that rises by [`FENCE_STEP`]. One of 0 stays: there has been no claim.
pub(crate) fn raised(fence: u64) -> u64 {
    // Backends keep it in 63 bits.
    let most = i64::MAX.unsigned_abs();
    if fence == 0 { 0 } else { fence.saturating_add(FENCE_STEP).min(most) }
}

/// Which versions of OmniQ may work with what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// The layout it has.
    pub schema: u32,
    /// The oldest version of the layout whose writers may still work with it.
    pub min_writer: u32,
    /// The oldest layout this version works with.
    pub oldest: u32,
    /// The newest one, which it brings stores to.
    pub newest: u32,
    /// Made at random when the store was created, and anew by [`Admin::restored`].
    pub incarnation: String,
}

/// What [`Admin::restored`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The incarnation that the store has now; `None` where nothing is stored beyond the process.
    pub incarnation: Option<String>,
    /// What was running: ready again, or cancelled where somebody wanted that. With the fence of the claim that is void.
    pub moved: Vec<Moved>,
}

/// Something that is weaker than what was asked for, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// What is weaker.
    pub what: String,
    /// What to do next.
    pub next: String,
}

/// What a store is and promises, as it is set up now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it is, with its version: `SQLite 3.51.3`.
    pub version: String,
    /// What an answer `Ok` has survived.
    pub durability: Durability,
    /// The layout of what is stored; `None` where nothing is stored beyond the process.
    pub layout: Option<Layout>,
    /// What is weaker than asked for or than is good.
    pub weaker: Vec<Weakness>,
}

/// A session that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Its session.
    pub session: SessionId,
    /// Its name for people; empty where none is kept.
    pub name: String,
    /// Its lease lasts until then, unless it is kept alive.
    pub until: Timestamp,
    /// Leases it holds.
    pub holds: u64,
}

/// How much there is of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Tasks in each state.
    pub counts: Counts,
    /// Lanes that are held back, by name.
    pub paused: Vec<Lane>,
    /// Sessions that live, in any order.
    pub workers: Vec<WorkerSeen>,
    /// When the ready task arrived that came first of all.
    pub oldest_ready: Option<Timestamp>,
    /// When the first and the last of the ended tasks that are still known ended.
    pub history: Option<(Timestamp, Timestamp)>,
    /// Bytes it takes, in parts with a name; empty where nobody can tell.
    pub bytes: Vec<(&'static str, u64)>,
}

/// A task as it goes from one store into another: all that is to be known about it.
#[derive(Debug, Clone)]
pub struct TaskCopy {
    /// What was asked for and what happened.
    pub info: Info,
    /// When it expires as long as no attempt counts: after a retry by hand another instant than its
    /// [`expires_at`](omniq_model::Task::expires_at) would say.
    pub expires: Option<Timestamp>,
    /// Whether it holds its unique key now.
    pub holds_key: bool,
}

impl TaskCopy {
    /// As it lands in another store: what was running is ready again as if it had not been claimed, whatever wanted it
    /// stopped is forgotten, and the fence of what may run again is raised by [`FENCE_STEP`], so that every old lease is
    /// void. A fence of 0 stays: there is no lease. Every backend's import begins with this, and a copy is verified by it.
    #[must_use]
    pub fn landed(mut self) -> Self {
        let head = &mut self.info.head;
        if head.state == State::Running {
            head.attempt = head.attempt.saturating_sub(1);
            head.state = State::Ready;
        }
        if head.state == State::Scheduled && head.run_at.is_none() {
            head.state = State::Ready;
        }
        if !head.state.is_terminal() {
            head.cancel_requested = false;
            head.fence = raised(head.fence);
        }
        head.lease = None;
        self
    }
}

/// Tasks on their way, in the order of arrival.
#[derive(Debug, Clone, Default)]
pub struct CopyPage {
    /// The tasks.
    pub items: Vec<TaskCopy>,
    /// Pass it to get the next ones; `None`: these were the last.
    pub next: Option<u64>,
}

/// What became of one [`TaskCopy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is in the store.
    Created,
    /// A task with its id was there; it was left as it is.
    There,
    /// Another task, this one, holds its unique key. It was not taken in.
    KeyTaken(TaskId),
    /// It cannot be read, or is in a state that this version does not know. It was not taken in.
    Unreadable,
}

/// What is done to a store of tasks as a whole, by its operator. A store gives it out through
/// [`TaskStore::admin`](super::TaskStore::admin).
///
/// # Errors
/// As those of [`TaskStore`](super::TaskStore).
#[async_trait]
pub trait Admin: Send + Sync {
    /// What it is and what it promises as it is set up now.
    async fn check(&self) -> Result<Report>;

    /// Says that no process of an older version works with the store any more: from now on its layout is this version's,
    /// and older ones are refused. Opening a store has brought it to a layout that both can work with.
    async fn finish_migration(&self) -> Result<Layout>;

    /// Says that the store was put back from a backup, so that whatever was claimed from it since then is of another time.
    /// Every session is over and what it holds goes back, as by
    /// [`close_session`](super::TaskStore::close_session); the fence of every task that has not ended and was claimed before
    /// rises by [`FENCE_STEP`]; and the store has another incarnation. So every token of before is stale, and no fence means
    /// two claims.
    ///
    /// Workers that are alive find their sessions dead and open others: what they ran runs again. The call may be repeated;
    /// it is to be when it failed, for some of it may have been done.
    async fn restored(&self) -> Result<Restored>;

    /// How much there is of what. May take a while; other calls go on.
    async fn stats(&self) -> Result<Stats>;

    /// Tasks in every state with all that is to be known about them, in the order of arrival, at most `max`, after the
    /// position `after`; fewer also where they are large, none only when there are none. A task that is there all the
    /// time is given exactly once by a walk over all pages, whatever else happens.
    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage>;

    /// Takes tasks in as [`TaskCopy::landed`] says, in the order they are given in, which becomes that of their arrival.
    /// Each is there whole with its place, its key and what it waits for, or not at all. One whose id is there is left
    /// alone, so that the same call may be repeated.
    ///
    /// A blocked task waits for those of its parents that are there and have not ended; parents must come before their
    /// children, as they do in the order of arrival. If none is left, it is ready or scheduled by its
    /// [`starts_at`](omniq_model::Task::starts_at). A key is taken as long as [`TaskCopy::holds_key`] says that it was
    /// held and its scope lasts. Instants are kept as they are.
    async fn import(&self, tasks: Vec<TaskCopy>) -> Result<Vec<Imported>>;
}
