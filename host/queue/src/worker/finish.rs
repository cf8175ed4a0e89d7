//! Commits how attempts ended: as many at a time as ended while the last ones were committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omniq_model::{EventKind, State, TaskError, TaskEvent, TaskResult};
use omniq_store::{End, Finished, How, ResultKey, StagedResult, chain, failpoint};

use super::claim::BACKOFF;
use super::outcome::Done;
use super::shared::{Shared, TAKEN_BYTES};
use crate::event::brief;

/// Ends that are committed at once.
const BATCH: usize = 1024;
/// Ends whose values the result store did not take, and bytes of them, beyond which no others are looked at.
const STALLED: usize = 4096;
const STALLED_BYTES: usize = 64 << 20;

/// Commits ends until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stalled = Stalled::default();
    loop {
        let mut batch = stalled.due();
        let is_retry = !batch.is_empty();
        if !is_retry {
            batch = tokio::select! {
                taken = shared.outbox.take(BATCH), if !stalled.is_full() => taken,
                () = stalled.wait() => continue,
            };
            // There is room again, whatever the store is doing.
            shared.wake.notify_one();
        }
        let (ready, unstaged) = stage(&shared, batch).await;
        match (is_retry, unstaged.is_empty()) {
            (true, true) => stalled.went_through(),
            (_, true) => {}
            (_, false) => stalled.add(unstaged),
        }
        if !ready.is_empty() {
            commit(&shared, ready).await;
        }
    }
}

/// Ends whose values the result store did not take. They are tried again by ever fewer, so that neither a slow line nor a value
/// that is never taken holds up the others.
struct Stalled {
    ends: VecDeque<Done>,
    /// How many are tried at once.
    most: usize,
    pause: Duration,
    next: Option<Instant>,
}

impl Default for Stalled {
    fn default() -> Self {
        Self { ends: VecDeque::new(), most: BATCH, pause: Duration::ZERO, next: None }
    }
}

impl Stalled {
    /// These were not taken.
    fn add(&mut self, unstaged: Vec<Done>) {
        self.most = (unstaged.len() / 2).clamp(1, self.most);
        self.ends.extend(unstaged);
        self.pause = (self.pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        self.next = Some(Instant::now() + self.pause);
    }

    /// The last that were due were taken.
    fn went_through(&mut self) {
        self.most = (self.most * 2).min(BATCH);
        self.pause = Duration::ZERO;
        self.next = (!self.ends.is_empty()).then(Instant::now);
    }

    /// Whether no more is to be added: what ends from now on stays in the outbox, until that is full too and nothing more
    /// is claimed.
    fn is_full(&self) -> bool {
        self.ends.len() >= STALLED
            || self.ends.iter().map(Done::size).sum::<usize>() >= STALLED_BYTES
    }

    /// Those whose next try is due, the oldest first.
    fn due(&mut self) -> Vec<Done> {
        if self.next.is_none_or(|next| next > Instant::now()) {
            return Vec::new();
        }
        self.next = None;
        let mut bytes = 0;
        let mut due = Vec::new();
        while due.len() < self.most && bytes < TAKEN_BYTES {
            let Some(done) = self.ends.pop_front() else { break };
            bytes += done.size();
            due.push(done);
        }
        due
    }

    async fn wait(&self) {
        match self.next {
            Some(next) => tokio::time::sleep_until(next.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// Puts values where they belong that are too large for their records. Returns what may be committed now, and what the
/// result store did not take.
async fn stage(shared: &Shared, mut batch: Vec<Done>) -> (Vec<Done>, Vec<Done>) {
    let (Some(results), true) =
        (&shared.stores.results, batch.iter().any(|done| done.staged.is_some()))
    else {
        return (batch, Vec::new());
    };
    let staged = batch.iter().filter_map(|done| {
        let task = done.attempt.task.as_ref()?;
        Some(StagedResult {
            key: ResultKey { task: done.attempt.id, token: done.attempt.token },
            value: done.staged.clone()?,
            ttl: task.result_ttl,
        })
    });
    match results.put(staged.collect()).await {
        Ok(()) => {
            failpoint::hit("worker.result.after_put");
            for done in &mut batch {
                done.staged = None;
            }
            (batch, Vec::new())
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the result store did not take results; they are kept and tried again");
            batch.into_iter().partition(|done| done.staged.is_none())
        }
    }
}

/// Commits ends, however long the store takes to answer.
async fn commit(shared: &Shared, batch: Vec<Done>) {
    let mut attempts = Vec::with_capacity(batch.len());
    let mut ends = Vec::with_capacity(batch.len());
    for Done { attempt, how, micros, .. } in batch {
        ends.push(End { id: attempt.id, token: attempt.token, how });
        attempts.push((attempt, micros));
    }
    let Some(session) = attempts.first().map(|(attempt, _)| attempt.session) else { return };
    let mut pause = BACKOFF.0;
    let under_way = shared.begin();
    let finished = loop {
        failpoint::hit("worker.finish.before");
        // The token decides, not the session: ends of a session that died go with those of the next.
        match shared.tasks().finish(&session, ends.clone()).await {
            Ok(finished) => break finished,
            Err(error) => {
                tracing::warn!(error = %chain(&error), ends = ends.len(), "could not commit ends; they are kept and tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    };
    failpoint::hit("worker.finish.after_answer");
    shared.let_go_of(attempts.iter().map(|(attempt, _)| attempt.key()));
    drop(under_way);
    count(shared, &ends, &finished);
    if shared.sink.is_on() {
        let ended = attempts.iter().zip(&ends).zip(&finished);
        let now = shared.sink.now();
        let events: Vec<_> = ended
            .map(|(((attempt, micros), end), finished)| TaskEvent {
                error: error_of(&end.how),
                micros: *micros,
                began: attempt.stop.tell_beginning(),
                ..attempt.event(kind_of(&end.how, *finished), now)
            })
            .collect();
        shared.sink.emit_all(events);
    }
    let states = ends.iter().zip(&finished).map(|(end, finished)| (end.id, state_of(*finished)));
    let states: Vec<_> = states.collect();
    shared.ends.publish_with(states, |index| match &ends[index].how {
        How::Succeeded(result) | How::Failed(result) | How::Cancelled(result) => {
            Some(TaskResult::clone(result))
        }
        // It was cancelled instead; the store knows how it put that.
        How::Retry { .. } | How::Release { .. } => None,
    });
    // A store in memory never waits: others of this thread have their turn here.
    tokio::task::yield_now().await;
}

/// Where a task stands; running for one that is another's by now.
fn state_of(finished: Finished) -> State {
    match finished {
        Finished::Applied(state) | Finished::AppliedBefore(state) => state,
        Finished::Stale => State::Running,
    }
}

fn kind_of(how: &How, finished: Finished) -> EventKind {
    if finished == Finished::Stale {
        return EventKind::Fenced;
    }
    match (state_of(finished), how) {
        (State::Cancelled, _) | (_, How::Cancelled(_)) => EventKind::Cancelled,
        (_, How::Succeeded(_)) => EventKind::Succeeded,
        (_, How::Failed(_)) => EventKind::Failed,
        (_, How::Retry { .. }) => EventKind::Retrying,
        (_, How::Release { .. }) => EventKind::Released,
    }
}

fn error_of(how: &How) -> Option<Box<TaskError>> {
    let error = match how {
        How::Succeeded(_) => None,
        How::Failed(result) | How::Cancelled(result) => result.error.as_ref(),
        How::Retry { error, .. } => Some(error),
        How::Release { error, .. } => error.as_ref(),
    };
    error.map(brief).map(Box::new)
}

fn count(shared: &Shared, ends: &[End], finished: &[Finished]) {
    let counters = &shared.counters;
    for (end, finished) in ends.iter().zip(finished) {
        let counter = match kind_of(&end.how, *finished) {
            EventKind::Succeeded => &counters.succeeded,
            EventKind::Failed => &counters.failed,
            EventKind::Cancelled => &counters.cancelled,
            EventKind::Retrying => &counters.retried,
            EventKind::Released => &counters.released,
            EventKind::Fenced => {
                tracing::warn!(task = %end.id, "an attempt ended after its lease; its outcome is dropped");
                &counters.stale
            }
            _ => continue,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
