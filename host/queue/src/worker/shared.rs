//! What the parts of a worker share: what it holds, what has ended, and where it is on its way.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use omniq_model::{EventKind, Name, Pool, SessionId, Task, TaskId, Timestamp, Token};
use omniq_store::{Held, Lease, Session, TaskStore};
use tokio::sync::{Notify, watch};

use super::attempt::{Attempt, Stop, Why};
use super::handle::{Counters, Stats};
use super::options::WorkerOptions;
use super::outcome::{Done, Rules, conclude};
use crate::ends::Ends;
use crate::event::{self, Sink};
use crate::pool::{Executor, Ran, Report};
use crate::stores::Stores;

/// Ends that may wait to be committed, and bytes of their values; beyond it nothing is claimed.
const UNCOMMITTED: usize = 8192;
const UNCOMMITTED_BYTES: usize = 64 << 20;
/// Bytes of values that tasks fetched in advance may give, if they are like those before.
const AHEAD_BYTES: usize = 64 << 20;
/// Bytes that a claimed task takes here beside its arguments, about.
const RECORD_BYTES: usize = 512;
/// Bytes of values after which no further end is committed in the same call.
pub(super) const TAKEN_BYTES: usize = 8 << 20;

/// Where a worker is on its way. It only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It claims.
    Working,
    /// It claims nothing more; what runs may go on until then (`None`: for ever).
    Stopping(Option<Instant>),
    /// It has ended.
    Ended,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub stores: Stores,
    pub options: WorkerOptions,
    pub ends: Ends,
    pub sink: Sink,
    pub counters: Counters,
    pub outbox: Arc<Outbox>,
    pub pools: OnceLock<Vec<Arc<dyn Executor>>>,
    held: Mutex<Table>,
    /// Nothing is held any more, or less than before.
    pub let_go: Notify,
    /// The claimer has something to do: room, a loaded module, a new phase.
    pub wake: Arc<Notify>,
    session: Mutex<Current>,
    phase: watch::Sender<Phase>,
    failure: OnceLock<String>,
    /// A claim's answer may be lost: the claimer reconciles before it claims again.
    pub is_suspect: AtomicBool,
    /// Claims and finishes begun and ended so far: equal and unchanged means that none was under way in between.
    begun: AtomicU64,
    done: AtomicU64,
}

/// The session of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub session: Session,
    /// It has died: the claimer opens a new one.
    pub is_dead: bool,
}

/// What is held, by claim.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<(TaskId, Token), Entry>,
    /// The session that claims, and the fingerprint of what it holds.
    session: Option<SessionId>,
    print: Held,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    stop: Arc<Stop>,
    session: SessionId,
    number: u32,
    task: Option<Arc<Task>>,
    since: Instant,
    /// What it takes in memory.
    bytes: usize,
}

/// How much more may be claimed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Tasks that pools have room for.
    pub tasks: usize,
    /// Bytes of arguments.
    pub bytes: usize,
}

/// Bytes that a leased task takes here.
pub(super) fn footprint(lease: &Lease) -> usize {
    lease.task.as_ref().map_or(0, |task| task.args.bytes.len()) + RECORD_BYTES
}

impl Shared {
    pub fn new(
        stores: Stores,
        options: WorkerOptions,
        ends: Ends,
        sink: Sink,
        session: Session,
        seed: u64,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let rules = Rules { inline_max: stores.results.as_ref().map(|_| stores.inline_max), seed };
        let outbox = Arc::new(Outbox::new(rules, Arc::clone(&wake)));
        let held = Mutex::new(Table { session: Some(session.id), ..Table::default() });
        Self {
            stores,
            options,
            ends,
            sink,
            counters: Counters::default(),
            outbox,
            pools: OnceLock::new(),
            held,
            let_go: Notify::new(),
            wake,
            session: Mutex::new(Current { session, is_dead: false }),
            phase: watch::Sender::new(Phase::Working),
            failure: OnceLock::new(),
            is_suspect: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    pub fn tasks(&self) -> &Arc<dyn TaskStore> {
        &self.stores.tasks
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Pools

    pub fn pools(&self) -> &[Arc<dyn Executor>] {
        self.pools.get().map_or(&[], Vec::as_slice)
    }

    pub fn pool(&self, kind: Option<Pool>) -> Option<&Arc<dyn Executor>> {
        let kind = kind.unwrap_or(self.options.pool);
        self.pools().iter().find(|pool| pool.kind() == kind)
    }

    /// The kind of pool an attempt is for.
    pub fn kind_of(&self, attempt: &Attempt) -> Pool {
        attempt.task.as_ref().and_then(|task| task.pool).unwrap_or(self.options.pool)
    }

    /// How much more may be claimed now, with these on their way to the pools.
    pub fn room(&self, fresh: &[Attempt]) -> Room {
        let bytes = self.options.claim_bytes.saturating_sub(self.table().bytes);
        Room { tasks: self.room_for_tasks(fresh), bytes }
    }

    fn room_for_tasks(&self, fresh: &[Attempt]) -> usize {
        if self.outbox.is_full() {
            return 0;
        }
        let Some(default) = self.pool(None) else { return 0 };
        let held: usize = self.pools().iter().map(|pool| pool.load().held()).sum();
        let all = held + fresh.len();
        let mut slots = self.options.slots;
        let mut ahead = 0;
        let mut most_now = self.options.batch;
        for pool in self.pools() {
            let load = pool.load();
            // One batch to run while the next one is claimed.
            let prefetch = load.prefetch(2 * self.options.batch);
            if pool.kind() == default.kind() {
                slots = slots.min(load.slots());
                // What is fetched in advance runs whatever the store does: not so much that its values fill the memory.
                ahead = prefetch.min(AHEAD_BYTES / self.outbox.value_size());
            } else {
                // What is claimed now could all be for this pool, and would only stand in line here.
                let line = if load.is_sober() { load.slots() } else { 2 * load.slots() + prefetch };
                let coming = fresh.iter().filter(|attempt| self.kind_of(attempt) == pool.kind());
                let free = line.saturating_sub(load.held() + coming.count());
                if free == 0 {
                    return 0;
                }
                if load.is_sober() {
                    most_now = most_now.min(free);
                }
            }
        }
        let most = slots + ahead;
        default.load().set_low(ahead / 2);
        let free = most.saturating_sub(all);
        // While there is something to run, claim by the batch.
        if all > slots && free < ahead / 2 { 0 } else { free.min(most_now) }
    }

    // What is held

    /// Notes new claims of a session. Returns their switches, in order.
    pub fn hold(&self, session: SessionId, leases: &[Lease]) -> Vec<Arc<Stop>> {
        let since = Instant::now();
        let mut table = self.table();
        let Table { entries, session: current, print, bytes: all } = &mut *table;
        let mut stops = Vec::with_capacity(leases.len());
        for lease in leases {
            let (stop, bytes) = (Arc::new(Stop::default()), footprint(lease));
            if *current == Some(session) {
                print.toggle(lease.id, lease.token, true);
            }
            *all += bytes;
            let entry = Entry {
                stop: Arc::clone(&stop),
                session,
                number: lease.attempt,
                task: lease.task.as_ref().ok().map(Arc::clone),
                since,
                bytes,
            };
            entries.insert((lease.id, lease.token), entry);
            stops.push(stop);
        }
        stops
    }

    /// Forgets claims whose end is committed.
    pub fn let_go_of(&self, claims: impl IntoIterator<Item = (TaskId, Token)>) {
        let mut table = self.table();
        let Table { entries, session, print, bytes } = &mut *table;
        let was_full = *bytes >= self.options.claim_bytes;
        for key in claims {
            let Some(entry) = entries.remove(&key) else { continue };
            *bytes -= entry.bytes;
            if *session == Some(entry.session) {
                print.toggle(key.0, key.1, false);
            }
        }
        drop(table);
        self.let_go.notify_waiters();
        if was_full {
            self.wake.notify_one();
        }
    }

    /// How many claims are held.
    pub fn count(&self) -> usize {
        self.table().entries.len()
    }

    /// The fingerprint of what the session holds.
    pub fn print(&self, session: SessionId) -> Held {
        let table = self.table();
        if table.session == Some(session) { table.print } else { Held::default() }
    }

    /// Everything the session holds.
    pub fn claims(&self, session: SessionId) -> Vec<(TaskId, Token)> {
        let table = self.table();
        let own = table.entries.iter().filter(|(_, entry)| entry.session == session);
        own.map(|(key, _)| *key).collect()
    }

    /// Stops these, if they are held.
    pub fn stop(&self, claims: &[(TaskId, Token)], why: Why) {
        let table = self.table();
        for entry in claims.iter().filter_map(|key| table.entries.get(key)) {
            entry.stop.stop(why);
        }
    }

    /// Stops everything that is held, or what that session holds.
    pub fn stop_all(&self, session: Option<SessionId>, why: Why) {
        for entry in self.table().entries.values() {
            if session.is_none_or(|session| session == entry.session) {
                entry.stop.stop(why);
            }
        }
    }

    /// Whether something is held for longer than that.
    pub fn holds_for(&self, span: Duration) -> bool {
        self.table().entries.values().any(|entry| entry.since.elapsed() >= span)
    }

    // The session

    fn locked_session(&self) -> MutexGuard<'_, Current> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn session(&self) -> Session {
        self.current().session
    }

    /// The session and whether it has died, read together: a new one is never taken for the dead one before it.
    pub fn current(&self) -> Current {
        *self.locked_session()
    }

    /// That session has died. Where another has taken its place by now, nothing is to be done.
    pub fn died(&self, session: SessionId) {
        let mut current = self.locked_session();
        current.is_dead |= current.session.id == session;
        drop(current);
        self.wake.notify_one();
    }

    /// Goes on with another session; what the old one held is another's business, or soon will be.
    pub fn renew(&self, session: Session) {
        *self.locked_session() = Current { session, is_dead: false };
        let mut table = self.table();
        table.session = Some(session.id);
        table.print = Held::default();
    }

    /// A claim or finish begins. To be dropped once what it changed is noted, or its answer is waited for no more.
    pub fn begin(&self) -> UnderWay<'_> {
        self.begun.fetch_add(1, Ordering::AcqRel);
        UnderWay(self)
    }

    /// A number that is the same twice only if no claim or finish was under way at either time or in between.
    pub fn quiet(&self) -> Option<u64> {
        let done = self.done.load(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Acquire);
        (begun == done).then_some(begun)
    }

    // The way to the end

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn is_working(&self) -> bool {
        *self.phase.borrow() == Phase::Working
    }

    /// Asks the worker to stop; what runs may go on until `deadline`. Asked again, the earlier one counts.
    pub fn ask_to_stop(&self, deadline: Option<Instant>) {
        self.phase.send_if_modified(|phase| {
            let next = match *phase {
                Phase::Working => deadline,
                Phase::Stopping(None) => deadline,
                Phase::Stopping(Some(old)) => Some(deadline.map_or(old, |new| new.min(old))),
                Phase::Ended => return false,
            };
            let next = Phase::Stopping(next);
            std::mem::replace(phase, next) != next
        });
        self.wake.notify_one();
        self.let_go.notify_waiters();
    }

    /// The worker has ended, perhaps by a mistake of its own.
    pub fn end_all(&self, failure: Option<String>) {
        if let Some(failure) = failure {
            let _ = self.failure.set(failure);
        }
        self.phase.send_replace(Phase::Ended);
        self.wake.notify_one();
    }

    pub async fn ended(&self) {
        let mut phase = self.phase();
        // The sender lives in what is borrowed here.
        let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    pub fn stats(&self) -> Stats {
        let running: usize = self.pools().iter().map(|pool| pool.load().running()).sum();
        let held = self.count();
        Stats {
            running: running as u64,
            waiting: held.saturating_sub(running) as u64,
            ..self.counters.read()
        }
    }

    // Events

    /// Tells of attempts held for so long that they have begun, if nobody has yet.
    pub fn tell_beginnings(&self, span: Duration) {
        let table = self.table();
        let old = table.entries.iter().filter(|(_, entry)| entry.since.elapsed() >= span);
        let begun = old.filter_map(|(key, entry)| Some((key, entry, entry.stop.tell_beginning()?)));
        let event = |((id, token), entry, at): (&(TaskId, Token), &Entry, Timestamp)| {
            let event = event::event(*id, token.fence, EventKind::Started, at);
            event::of_attempt(event, entry.number, entry.session, entry.task.as_deref())
        };
        let events: Vec<_> = begun.map(event).collect();
        drop(table);
        self.sink.emit_all(events);
    }

    /// How people call a task's module.
    pub fn module_of(task: &Task) -> (&Name, &Name) {
        (&task.module.name, &task.module.version)
    }
}

/// A claim or finish that the store was asked for.
#[must_use = "it ends with this"]
pub(super) struct UnderWay<'a>(&'a Shared);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// Attempts that have ended and are not committed yet. The pools put them in, the finisher takes them out.
#[derive(Debug)]
pub(super) struct Outbox {
    rules: Rules,
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// The claimer's.
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    done: VecDeque<Done>,
    bytes: usize,
    /// The mean size of a value, newer ones counting more.
    mean: usize,
}

impl Outbox {
    fn new(rules: Rules, wake: Arc<Notify>) -> Self {
        Self { rules, waiting: Mutex::default(), filled: Notify::new(), wake }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much waits that nothing more should be claimed.
    fn is_full(&self) -> bool {
        let waiting = self.waiting();
        waiting.done.len() >= UNCOMMITTED || waiting.bytes >= UNCOMMITTED_BYTES
    }

    /// The mean size of a value lately, in bytes; at least 1.
    fn value_size(&self) -> usize {
        self.waiting().mean.max(1)
    }

    pub fn push(&self, done: Done) {
        let mut waiting = self.waiting();
        let size = done.size();
        waiting.bytes += size;
        waiting.mean = waiting.mean - waiting.mean / 8 + size / 8;
        waiting.done.push_back(done);
        let is_first = waiting.done.len() == 1;
        drop(waiting);
        // Whoever takes them takes all there are: only the first one has to wake it.
        if is_first {
            self.filled.notify_one();
        }
    }

    pub fn push_all(&self, done: Vec<Done>) {
        if done.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        let was_empty = waiting.done.is_empty();
        waiting.bytes += done.iter().map(Done::size).sum::<usize>();
        waiting.done.extend(done);
        drop(waiting);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// The oldest, at most so many; waits for the first.
    pub async fn take(&self, most: usize) -> Vec<Done> {
        loop {
            let taken = self.take_now(most);
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn take_now(&self, most: usize) -> Vec<Done> {
        let mut waiting = self.waiting();
        let mut taken = Vec::with_capacity(waiting.done.len().min(most));
        let mut bytes = 0;
        while taken.len() < most && bytes < TAKEN_BYTES {
            let Some(done) = waiting.done.pop_front() else { break };
            bytes += done.size();
            taken.push(done);
        }
        waiting.bytes -= bytes;
        taken
    }
}

impl Report for Outbox {
    fn ended(&self, attempt: Attempt, ran: Ran) {
        self.push(conclude(&self.rules, attempt, ran));
    }

    fn hungry(&self) {
        self.wake.notify_one();
    }
}
