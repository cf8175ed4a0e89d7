//! Where tasks live: the only commit point of everything.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{
    DecodeError, Head, Lane, Name, Schedule, SessionId, State, Task, TaskError, TaskId, TaskResult,
    Timestamp, Token,
};

use super::admin::Admin;
use crate::Result;

/// What a backend promises beyond the trait; the conformance suite holds it to exactly this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The backend's name, such as `sqlite`.
    pub name: &'static str,
    /// An answer `Ok` survives the death of the process.
    pub durable: bool,
    /// Several processes may use the store at the same time.
    pub shared: bool,
    /// A whole batch of [`TaskStore::enqueue`] is accepted or refused together when the store fails in its midst.
    pub atomic_batch: bool,
    /// A task can be enqueued inside the caller's own transaction.
    pub external_transaction: bool,
}

/// What became of one task of [`TaskStore::enqueue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the store.
    Created,
    /// It was there already, or a live task holds its unique key; that task's id and state.
    Duplicate {
        /// The task that is there: the same one, or the holder of the key.
        id: TaskId,
        /// Where that task stands.
        state: State,
    },
    /// Another task has the same id.
    Conflict,
    /// It cannot be accepted.
    Refused(Refusal),
}

/// Why a task cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It waits for a task that does not exist; tasks of one batch may wait for earlier ones of the batch.
    #[error("it waits for task `{0}`, which does not exist")]
    UnknownParent(TaskId),
}

/// Who opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkerInfo {
    /// For people: `host:pid` unless named.
    pub name: String,
}

/// A live session. Leases belong to it; they last as long as it is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// How long it lives after each heartbeat.
    pub lease: Duration,
}

/// What a worker asks for: up to `max` ready tasks of one lane that together have no more than `bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// From where.
    pub lane: Lane,
    /// At most so many.
    pub max: usize,
    /// At most so many bytes in the stored forms ([`Task::encode`], whatever else a backend keeps beside them) of the
    /// tasks that this want is given. The first one is given whatever its size, so that none stays for ever; the want
    /// ends before the first later one with which it would be more, also if smaller ones stand behind that. Tasks past
    /// their time to live do not count: those in front of where it ends are expired. [`usize::MAX`]: no bound. A store
    /// also reads no more than about this into memory to serve it.
    pub bytes: usize,
    /// Random, below 2^63, fresh for every call of [`TaskStore::claim`]: the second half of each token.
    pub nonce: u64,
}

impl Want {
    /// A want of that many tasks, however large they are.
    pub fn new(lane: Lane, max: usize, nonce: u64) -> Self {
        Self { lane, max, bytes: usize::MAX, nonce }
    }
}

/// One leased task.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Which task.
    pub id: TaskId,
    /// What proves the lease.
    pub token: Token,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often a worker died under it before.
    pub crashes: u32,
    /// When it arrived.
    pub created: Timestamp,
    /// The task; an error when its stored form cannot be read. Such a task is leased all the same, so that it can be
    /// ended instead of standing in the way for ever.
    pub task: std::result::Result<Arc<Task>, DecodeError>,
}

/// A fingerprint of what a session holds, so that a heartbeat can notice a lost claim answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// How many leases.
    pub count: u64,
    /// The exclusive or of a hash of each.
    pub digest: u64,
}

impl Held {
    /// The fingerprint with one lease added, or removed again.
    pub fn toggle(&mut self, id: TaskId, token: Token, held: bool) {
        // SplitMix64 (Steele, Lea, Flood 2014) over the words of id and token: cheap, and every bit counts.
        let mix = |word: u64| {
            let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ word >> 31
        };
        let bits = u128::from_be_bytes(*id.as_bytes());
        let words = [(bits >> 64) as u64, bits as u64, token.fence, token.nonce];
        self.digest ^= words
            .iter()
            .fold(0x9e37_79b9_7f4a_7c15, |hash: u64, word| mix(hash.wrapping_add(mix(*word))));
        self.count = if held { self.count + 1 } else { self.count - 1 };
    }

    /// The fingerprint of all of these.
    pub fn of<'a>(leases: impl IntoIterator<Item = &'a (TaskId, Token)>) -> Self {
        let mut held = Self::default();
        for (id, token) in leases {
            held.toggle(*id, *token, true);
        }
        held
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// The session lives on.
    Alive {
        /// Whether the store holds the same leases for it as it said. If not twice in a row with no claim or finish under
        /// way, call [`TaskStore::reconcile`].
        matches: bool,
        /// Running tasks of the session that somebody wants stopped.
        cancel: Vec<(TaskId, Token)>,
    },
    /// The session is over: its leases are lost, or about to be. Open a new one.
    Dead,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Of which task.
    pub id: TaskId,
    /// By which lease.
    pub token: Token,
    /// How.
    pub how: How,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// With a result. Ends the task, also when it was to be cancelled: it was faster.
    Succeeded(Arc<TaskResult>),
    /// Without one, for good. Ends the task.
    Failed(Arc<TaskResult>),
    /// It was stopped because somebody called it off. Ends the task.
    Cancelled(Arc<TaskResult>),
    /// Without one, and there is to be another attempt after this long. A task that was to be cancelled is cancelled.
    Retry {
        /// How long the next attempt waits.
        after: Duration,
        /// Why there is no result.
        error: TaskError,
    },
    /// It goes back as if it had not been claimed: the attempt does not count, the fence does. A task that was to be
    /// cancelled is cancelled.
    Release {
        /// How long it waits.
        after: Duration,
        /// Why, for people; kept as the task's latest error.
        error: Option<TaskError>,
    },
}

/// What became of one [`End`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is committed; the task stands here now.
    Applied(State),
    /// The same end was committed before: its answer was lost. The task stands here.
    AppliedBefore(State),
    /// The token is not the current one. Nothing was changed.
    Stale,
}

/// A task that changed its state without its worker's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub id: TaskId,
    /// In which lane.
    pub lane: Lane,
    /// The fence of its latest claim.
    pub fence: u64,
    /// Its attempts that count.
    pub attempt: u32,
    /// Where it stood.
    pub from: State,
    /// Where it stands now.
    pub to: State,
}

/// What [`TaskStore::promote`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// Tasks that became ready.
    pub promoted: usize,
    /// How long until the next one is due; zero when there are more now.
    pub next: Option<Duration>,
}

/// A task with all that happened to it.
#[derive(Debug, Clone)]
pub struct Info {
    /// Its id.
    pub id: TaskId,
    /// In which lane it is.
    pub lane: Lane,
    /// What was asked for; an error when its stored form cannot be read.
    pub task: std::result::Result<Arc<Task>, DecodeError>,
    /// What happened.
    pub head: Head,
}

/// Which tasks. Empty parts mean any; all parts must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// These ids.
    pub ids: Vec<TaskId>,
    /// In one of these states.
    pub states: Vec<State>,
    /// Of this tenant.
    pub tenant: Option<Name>,
    /// In this queue.
    pub queue: Option<Name>,
    /// Of the module of this name.
    pub module: Option<Name>,
    /// Of the function with this full name.
    pub function: Option<String>,
    /// With these labels.
    pub labels: BTreeMap<String, String>,
    /// Arrived at or after this instant.
    pub created_from: Option<Timestamp>,
    /// Arrived before this instant.
    pub created_to: Option<Timestamp>,
}

/// Which tasks a bulk call means: those of the filter that the call can change, the oldest first, at most `max` in one
/// call. Others are passed over and do not count, so that calling again until nothing changes any more comes to an end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// Which.
    pub filter: Filter,
    /// At most so many now; call again until none is left.
    pub max: usize,
}

/// What a bulk call did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Tasks it changed.
    pub moved: Vec<Moved>,
    /// Running tasks that will be stopped by their worker. One that somebody called off before counts as passed over,
    /// and is named here again only if the filter asks for it by id.
    pub requested: Vec<TaskId>,
    /// Tasks that the filter asks for by id and that are in no state to be changed so. Without ids: none.
    pub skipped: Vec<(TaskId, State)>,
}

/// One page of a list, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The tasks.
    pub items: Vec<Info>,
    /// Pass it to get the next page; `None`: this was the last.
    pub next: Option<u64>,
}

/// How many tasks stand in each state.
pub type Counts = BTreeMap<State, u64>;

/// One firing of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Fire {
    /// Whose.
    pub tenant: Name,
    /// Which schedule.
    pub name: Name,
    /// The version it had when the firing was worked out.
    pub version: u64,
    /// When it fires next.
    pub next: Option<Timestamp>,
    /// The tasks it makes, under ids that follow from the schedule and the instants.
    pub tasks: Vec<Task>,
}

/// What became of a [`Fire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// The tasks are in the store, and the schedule has moved on.
    Fired,
    /// Somebody else was faster, or it was changed or paused: read it again.
    Lost,
}

/// What a waiter is interested in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Work: something became ready, or was scheduled, or somebody wants a running task stopped.
    Work,
    /// Ends: some task ended.
    Ends,
}

/// What has changed so far, as a number that goes up. Only differences mean something, and only within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Changes(pub u64);

/// Where tasks live. Calls take a batch and answer item by item, in order. Each may be repeated after an unknown outcome:
/// what makes it unique is in its arguments.
///
/// A backend may do more than this; who knows it by its type finds it through [`backend`].
///
/// The store's clock decides every deadline. States change only as [`State::may_become`] says.
///
/// # Errors
/// Of every call: [`Unavailable`](crate::ErrorKind::Unavailable) means that the outcome is unknown: repeat the same call.
#[async_trait]
pub trait TaskStore: Any + fmt::Debug + Send + Sync {
    /// What this backend promises.
    fn caps(&self) -> Caps;

    /// What an operator does to the store as a whole; `None`: this backend has nothing of the kind yet.
    fn admin(&self) -> Option<&dyn Admin> {
        None
    }

    /// The store that this one is a layer around, for who looks for a backend by its type; `None`: it is a backend.
    fn layered(&self) -> Option<&dyn TaskStore> {
        None
    }

    /// The store's clock.
    async fn now(&self) -> Result<Timestamp>;

    // Producers

    /// A1. Accepts tasks. Each is accepted with its place in the order, its unique key and what it waits for, or not at
    /// all; `Ok` means durable. The same task again is a duplicate; another one under its id is a conflict.
    ///
    /// A task that waits for tasks that have not all ended is blocked; one whose time has not come is scheduled; any
    /// other is ready. One that waits for a task that has ended otherwise than by success is treated by its
    /// [`OnParentFailure`](omniq_model::OnParentFailure) at once.
    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>>;

    // Workers

    /// Opens the session `id`, which lives for `lease` after each heartbeat. One that lives already is kept alive; one
    /// that has died and is still known stays dead, as its first heartbeat says.
    async fn open_session(
        &self,
        id: SessionId,
        worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session>;

    /// Ends a session. What it still holds is put back at once: the attempts do not count.
    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>>;

    /// A2. Leases ready tasks to `session`: for each `Want` in turn up to its `max` and its `bytes`, of its lane, the
    /// highest priority first, within a priority in the order of arrival (a task that became ready again keeps its place).
    ///
    /// Each claim raises the task's fence by one and counts an attempt, so no two leases carry the same token. Tasks past
    /// their time to live are expired instead of leased. A paused lane gives nothing; a dead session gets nothing. An
    /// empty answer means nothing is ready: await [`TaskStore::changed`] instead of asking again.
    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>>;

    /// A4. Keeps a session alive from now on for its lease. A session that has died is never revived.
    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat>;

    /// Running tasks of the session that somebody wants stopped.
    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>>;

    /// Puts back what the store holds for the session and the session does not: claims whose answer was lost. The
    /// attempts do not count. Not to be called while a claim of the session is under way.
    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>>;

    /// A3. Commits how attempts ended: each a compare-and-swap on the token. With the end of a task its unique key is
    /// free and what waited for it is released, in the same commit. Works also for a session that has died, as long as
    /// nobody took the task away from it.
    async fn finish(&self, session: &Session, ends: Vec<End>) -> Result<Vec<Finished>>;

    // Control

    /// A6. Calls tasks off: what waits is cancelled at once; what runs is asked to stop, and its end decides.
    async fn cancel(&self, select: &Select) -> Result<Outcome>;

    /// Makes ended tasks that did not succeed ready again, with fresh budgets; the fence goes on.
    /// Tasks whose unique key is taken by now are skipped.
    async fn retry(&self, select: &Select) -> Result<Outcome>;

    /// Forgets ended tasks, their results and their events' repair. Tasks that have not ended are skipped. What is
    /// `moved` goes from its last state to the same.
    async fn remove(&self, select: &Select) -> Result<Outcome>;

    /// Holds a lane's tasks back from claims, or lets them go again.
    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()>;

    /// Lanes that have ready tasks and are not paused, by name; at most `max`, those after `after`.
    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>>;

    // Time. Any number of processes may call these at the same time; each call is bounded by `max`.

    /// Makes scheduled tasks ready whose time has come (the instant itself included).
    async fn promote(&self, max: usize) -> Result<Due>;

    /// Takes tasks away from dead sessions: they are ready again, the attempt does not count but the crash does; past
    /// the budget of crashes they have failed; one that was to be cancelled is cancelled. Never before a session's lease
    /// is over: at its last instant it lives.
    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>>;

    /// Ends tasks that have not started within their time to live: no attempt of theirs counts (a released or reclaimed
    /// first one does not) and the instant has come, or is over.
    async fn expire(&self, max: usize) -> Result<Vec<Moved>>;

    /// Forgets ended tasks whose result's time to live is over; returns how many: fewer than `max` also where they are
    /// large, none only when there is none. The id and a unique key that was still
    /// taken for its window are free again.
    async fn purge(&self, max: usize) -> Result<usize>;

    // Schedules

    /// Creates or changes schedules. `version` 0 creates; any other must be the current one. Returns the new version, or
    /// `None` where somebody else was faster or the name is taken. Versions go up and none is given twice for a name,
    /// also when the schedule was removed in between: an old [`Fire`] must not hit a new schedule.
    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>>;

    /// Removes schedules; tells for each whether it was there.
    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>>;

    /// All schedules of a tenant, or of all, by name.
    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>>;

    /// Schedules that are not paused and whose next instant has come, the longest due first.
    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>>;

    /// A5. Moves a schedule on and makes its tasks, both or neither; a version that is not current changes nothing.
    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>>;

    // Reads

    /// The tasks of these ids; `None` for one that does not exist.
    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>>;

    /// Tasks that fit, the newest arrival first, at most `max`; `before` is [`Page::next`] of the page before.
    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page>;

    /// How many tasks that fit stand in each state; a state without any is left out.
    async fn count(&self, filter: &Filter) -> Result<Counts>;

    /// Ended tasks in the order of their end, those after `after` (end and id), at most `max` and fewer where they are large,
    /// about 16 MiB at a time; none only where none follow. What the event log is repaired from.
    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>>;

    /// Whether no task is left that has not ended.
    async fn is_idle(&self) -> Result<bool> {
        let live = [State::Blocked, State::Scheduled, State::Ready, State::Running];
        let counts = self.count(&Filter { states: live.to_vec(), ..Filter::default() }).await?;
        Ok(counts.values().all(|count| *count == 0))
    }

    // Hints: never needed for correctness

    /// What has changed so far; cheap, and does no I/O.
    fn changes(&self, interest: Interest) -> Changes;

    /// Waits until something changed after `seen`, in this process or another, or `timeout` is over; returns what has
    /// changed by then. May wake for nothing. Many may wait at the same time at the price of one.
    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes;

    /// Writes down what is needed so that the next start is quick, and lets go of files and connections.
    async fn close(&self) -> Result<()>;
}

/// The backend of that type, if the store is one or a layer around one.
pub fn backend<T: TaskStore>(store: &dyn TaskStore) -> Option<&T> {
    match (store as &dyn Any).downcast_ref() {
        Some(backend) => Some(backend),
        None => backend(store.layered()?),
    }
}
