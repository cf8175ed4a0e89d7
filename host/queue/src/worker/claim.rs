//! Claims tasks and gives them to the pools, for as long as the worker works.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omniq_model::{
    CommandInput, DecodeError, Digest, EventKind, Format, Kind, Pool, Task, TaskError, Timestamp,
};
use omniq_sandbox::{Admission, Call, Command, Sandbox};
use omniq_store::{Interest, Lease, Session, chain, failpoint};

use super::attempt::{Attempt, Job, Program, Stop};
use super::impatience::LONGEST;
use super::lanes::Lanes;
use super::modules::{Access, Modules};
use super::outcome::Done;
use super::shared::{Current, Shared};
use super::start::{nonce, open_session};
use super::task_host::WorkerTask;

/// How long a worker that has nothing to do waits for news before it looks by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tasks that may wait here for modules to be loaded; more go back for a moment.
const WAITING: usize = 1000;
/// Claims in a row that may give nothing: others may have been faster in as many lanes as are known.
const MISSES: u32 = 64;
/// The time between two claims while as many wait there as could run.
const CROWDED: Duration = Duration::from_millis(100);
/// The least and the most time between two tries when the store does not answer.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));
/// How long the store may take to answer once the worker is to stop.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// The time between two looks through many lanes of others.
const LOOKING: Duration = Duration::from_millis(10);
/// How long a task goes back for when this worker cannot run it and another might.
const ELSEWHERE: Duration = Duration::from_secs(30);

/// Claims until the worker stops. What has not begun by then is on its way back.
pub(super) async fn run(shared: Arc<Shared>, sandbox: Sandbox) {
    let modules =
        Modules::new(sandbox, Arc::clone(&shared.stores.modules), Arc::clone(&shared.wake));
    let lanes = Lanes::new(shared.options.queues.clone());
    let mut claimer = Claimer {
        shared,
        modules,
        lanes,
        waiting: HashMap::new(),
        backlog: VecDeque::new(),
        served: Instant::now(),
        misses: 0,
        crowded: None,
    };
    let mut pause = BACKOFF.0;
    let shared = Arc::clone(&claimer.shared);
    while shared.is_working() {
        let turn = tokio::select! {
            turn = claimer.turn() => turn,
            // What is claimed for us without our knowing goes back with the end of the session.
            () = hopeless(&shared) => break,
        };
        match turn {
            Ok(()) => pause = BACKOFF.0,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not claim tasks");
                claimer.rest(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    }
    claimer.give_back();
}

/// Until the worker is to stop and the store has had its time to answer.
async fn hopeless(shared: &Shared) {
    until_asked(shared).await;
    tokio::time::sleep(LAST_ANSWER).await;
}

/// Until the worker is to stop.
async fn until_asked(shared: &Shared) {
    let mut phase = shared.phase();
    // The sender lives in what is borrowed here.
    let _ = phase.wait_for(|phase| *phase != super::shared::Phase::Working).await;
}

struct Claimer {
    shared: Arc<Shared>,
    modules: Modules,
    lanes: Lanes,
    /// Attempts whose module is being loaded.
    waiting: HashMap<Digest, Vec<Attempt>>,
    /// Attempts about whose module something is known by now. They were claimed without a look at how many can run, so
    /// they take their turn before anything else is claimed.
    backlog: VecDeque<Attempt>,
    /// When some of the backlog had its turn at last, or the backlog began.
    served: Instant,
    /// Claims in a row that gave nothing, although tasks were said to be ready.
    misses: u32,
    /// Since when it has claimed nothing because as many wait as could run.
    crowded: Option<Instant>,
}

impl Claimer {
    /// One turn: what came up meanwhile, then a claim or a wait.
    async fn turn(&mut self) -> omniq_store::Result<()> {
        let shared = Arc::clone(&self.shared);
        let tasks = shared.tasks();
        for digest in self.modules.arrived() {
            if self.backlog.is_empty() {
                self.served = Instant::now();
            }
            self.backlog.extend(self.waiting.remove(&digest).unwrap_or_default());
        }
        let Current { mut session, is_dead } = shared.current();
        if is_dead {
            session = self.renew().await?;
        }
        if shared.is_suspect.load(Ordering::Acquire) {
            self.reconcile(&session).await?;
        }
        let room = shared.room();
        if !self.backlog.is_empty() {
            self.serve(room.tasks).await;
            return Ok(());
        }
        if room.tasks == 0 || room.bytes == 0 {
            shared.wake.notified().await;
            return Ok(());
        }
        if self.is_crowded(room.tasks) {
            let _ = tokio::time::timeout(CROWDED, shared.wake.notified()).await;
            return Ok(());
        }
        let seen = tasks.changes(Interest::Work);
        let wants = self.lanes.wants(&**tasks, room, nonce).await?;
        if wants.is_empty() && self.lanes.has_more() {
            let _ = tokio::time::timeout(LOOKING, shared.wake.notified()).await;
            return Ok(());
        }
        if wants.is_empty() {
            self.misses = 0;
            tokio::select! {
                () = shared.wake.notified() => {}
                _ = tasks.changed(Interest::Work, seen, PATIENCE) => {}
            }
            return Ok(());
        }
        shared.begin();
        let claimed = tasks.claim(&session, &wants).await;
        let attempts = match claimed {
            Ok(leases) => {
                failpoint::hit("worker.claim.after_answer");
                self.lanes.learn(&wants, &leases);
                self.misses = if leases.is_empty() { self.misses + 1 } else { 0 };
                self.hold(&session, leases)
            }
            Err(error) => {
                // It may have been committed all the same: then the store holds for us what we do not know of.
                shared.is_suspect.store(true, Ordering::Release);
                shared.end();
                return Err(error);
            }
        };
        shared.end();
        self.dispatch(attempts);
        if self.misses > MISSES {
            // The session has died, or the store is damaged: asking on and on would help nobody.
            self.rest(Duration::from_millis(1 << (self.misses - MISSES).min(7))).await;
        }
        // A claim of a store in memory never waits: others of this thread have their turn here.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Gives what is in the backlog its turn, as far as there is room; what waits too long for that goes back.
    async fn serve(&mut self, room: usize) {
        if room > 0 {
            self.served = Instant::now();
            let next = self.backlog.drain(..room.min(self.backlog.len())).collect();
            self.dispatch(next);
            return;
        }
        let left = LONGEST.saturating_sub(self.served.elapsed());
        if left.is_zero() {
            tracing::info!(
                tasks = self.backlog.len(),
                "tasks whose module came too late for a slot are given back"
            );
            let back = self.backlog.drain(..);
            let back = back.map(|attempt| Done::released(attempt, Duration::ZERO, None)).collect();
            self.shared.outbox.push_all(back);
        } else {
            let _ = tokio::time::timeout(left, self.shared.wake.notified()).await;
        }
    }

    /// Whether as many wait for their modules as could run: only now and then one claims past them, for what stands
    /// behind them and could run now.
    fn is_crowded(&mut self, room: usize) -> bool {
        let is_full = self.waiting.values().map(Vec::len).sum::<usize>() >= room;
        let is_over = self.crowded.is_some_and(|since| since.elapsed() >= CROWDED);
        if !is_full || is_over {
            self.crowded = None;
            return false;
        }
        self.crowded.get_or_insert_with(Instant::now);
        true
    }

    /// Waits before the next try; woken early only by the end.
    async fn rest(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, until_asked(&self.shared)).await;
    }

    async fn renew(&mut self) -> omniq_store::Result<Session> {
        let session = open_session(&**self.shared.tasks(), &self.shared.options).await?;
        tracing::info!(session = %session.id, "a new session takes the place of the one that died");
        self.shared.renew(session);
        self.shared.is_suspect.store(false, Ordering::Release);
        Ok(session)
    }

    /// Puts back what the store holds for us and we do not. No claim is under way: they are made here.
    async fn reconcile(&mut self, session: &Session) -> omniq_store::Result<()> {
        let held = self.shared.claims(session.id);
        let moved = self.shared.tasks().reconcile(session, &held).await?;
        self.shared.is_suspect.store(false, Ordering::Release);
        if !moved.is_empty() {
            tracing::warn!(tasks = moved.len(), "claims whose answer was lost are put back");
        }
        Ok(())
    }

    /// Notes what was claimed.
    fn hold(&self, session: &Session, leases: Vec<Lease>) -> Vec<Attempt> {
        let shared = &self.shared;
        let stops = shared.hold(session.id, &leases);
        shared.counters.claimed.fetch_add(leases.len() as u64, Ordering::Relaxed);
        let mut unreadable = Vec::new();
        let mut attempts = Vec::with_capacity(leases.len());
        for (lease, stop) in leases.into_iter().zip(stops) {
            let (task, error) = match lease.task {
                Ok(task) => (Some(task), None),
                Err(error) => (None, Some(error)),
            };
            let attempt = Attempt {
                id: lease.id,
                token: lease.token,
                session: *session,
                number: lease.attempt,
                created: lease.created,
                task,
                stop,
            };
            match error {
                None => attempts.push(attempt),
                Some(error) => {
                    let error = TaskError::new(Kind::Undecodable, error.to_string());
                    unreadable.push(Done::failed(attempt, error));
                }
            }
        }
        shared.outbox.push_all(unreadable);
        attempts
    }

    /// Gives attempts to their pools, or sends them where else they belong.
    fn dispatch(&mut self, attempts: Vec<Attempt>) {
        let shared = Arc::clone(&self.shared);
        let pools = shared.pools();
        let mut jobs: Vec<Vec<Box<Job>>> = pools.iter().map(|_| Vec::new()).collect();
        let mut done = Vec::new();
        let mut events = Vec::new();
        for attempt in attempts {
            let Some(task) = attempt.task.clone() else { continue };
            let kind = task.pool.unwrap_or(shared.options.pool);
            let Some(pool) = pools.iter().position(|pool| pool.kind() == kind) else {
                done.push(no_pool(attempt, kind));
                continue;
            };
            match self.prepare(attempt, task) {
                Step::Run(job) => {
                    if shared.sink.is_on() {
                        events.push(shared.event(&job.attempt, EventKind::Started));
                    }
                    jobs[pool].push(job);
                }
                Step::Done(ended) => done.push(*ended),
                Step::Waits => {}
            }
        }
        if !events.is_empty() {
            shared.sink.emit_all(events);
        }
        for (pool, jobs) in pools.iter().zip(jobs) {
            if !jobs.is_empty() {
                pool.submit(jobs);
            }
        }
        shared.outbox.push_all(done);
    }

    fn prepare(&mut self, attempt: Attempt, task: Arc<Task>) -> Step {
        let name = || {
            let (name, version) = Shared::module_of(&task);
            format!("{name}@{version}")
        };
        let loaded = match self.modules.access(&task.module.digest, name) {
            Access::Ready(loaded) => loaded,
            Access::Loading => return self.wait(attempt, task.module.digest),
            Access::Absent(after, error) => return Step::released(attempt, after, error),
            Access::Broken(error) => return Step::failed(attempt, error),
        };
        let program = if task.function.is_empty() {
            match command(&task) {
                Ok(command) => Program::Command(loaded.module.clone(), command),
                Err(error) => {
                    let error = TaskError::new(Kind::Undecodable, error.to_string());
                    return Step::failed(attempt, error);
                }
            }
        } else if task.args.format != Format::Cbor {
            let message =
                format!("the arguments are {}, and a function takes CBOR", task.args.format);
            return Step::failed(attempt, TaskError::new(Kind::ArgsMismatch, message));
        } else {
            match loaded.function(&task.function) {
                Ok(function) => Program::Function(function, Arc::clone(&task)),
                Err(error) => {
                    let error = TaskError::new(Kind::NotFound, error.to_string());
                    return Step::failed(attempt, error);
                }
            }
        };
        let call = self.call(&task, attempt.number, attempt.created, &attempt.stop);
        Step::Run(Box::new(Job { attempt, program, call, since: Instant::now() }))
    }

    fn wait(&mut self, attempt: Attempt, digest: Digest) -> Step {
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        if waiting >= WAITING {
            let message = "its module is being loaded, and too many tasks wait for that here";
            let error = TaskError::new(Kind::NoCapacity, message);
            return Step::released(attempt, Duration::from_secs(1), error);
        }
        self.waiting.entry(digest).or_default().push(attempt);
        Step::Waits
    }

    fn call(&self, task: &Arc<Task>, attempt: u32, created: Timestamp, stop: &Arc<Stop>) -> Call {
        let options = &self.shared.options;
        let host = WorkerTask { task: Arc::clone(task), attempt, created, cursor: None };
        Call {
            limits: options.limits_of(&task.limits),
            grants: Arc::clone(&options.grants),
            cancel: stop.cancel.clone(),
            task: Box::new(host),
            admission: Admission::Wait,
        }
    }

    /// Sends everything back that has not begun.
    fn give_back(self) {
        let waiting = self.waiting.into_values().flatten();
        let drained = self.shared.pools().iter().flat_map(|pool| pool.drain());
        let attempts = waiting.chain(self.backlog).chain(drained.map(|job| job.attempt));
        let done = attempts.map(|attempt| Done::released(attempt, Duration::ZERO, None)).collect();
        self.shared.outbox.push_all(done);
    }
}

/// What becomes of an attempt.
enum Step {
    Run(Box<Job>),
    Done(Box<Done>),
    /// It waits for its module.
    Waits,
}

impl Step {
    fn released(attempt: Attempt, after: Duration, error: TaskError) -> Self {
        Self::Done(Box::new(Done::released(attempt, after, Some(error))))
    }

    fn failed(attempt: Attempt, error: TaskError) -> Self {
        Self::Done(Box::new(Done::failed(attempt, error)))
    }
}

fn no_pool(attempt: Attempt, kind: Pool) -> Done {
    let message = format!(
        "this worker has no pool `{kind}`; it has `async` and `thread`: enqueue the task for one of them"
    );
    Done::released(attempt, ELSEWHERE, Some(TaskError::new(Kind::Unavailable, message)))
}

/// What a command is started with.
fn command(task: &Task) -> Result<Command, DecodeError> {
    let input: CommandInput = omniq_model::record::decode("command's input", &task.args.bytes)?;
    let mut args = vec![task.module.name.to_string()];
    args.extend(input.args);
    Ok(Command { args, stdin: input.stdin.into_vec() })
}
