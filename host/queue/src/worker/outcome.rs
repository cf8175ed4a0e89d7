//! What the outcome of an attempt means for its task: the end that is committed.
//!
//! Runs on the pools' threads, so that the thread that commits only has to pass it on.

use std::time::Duration;

use omniq_model::{
    Decision, Kind, Payload, Stored, TaskError, TaskId, TaskResult, TaskUsage, Token, Value, Wish,
};
use omniq_sandbox::{ENGINE_VERSION, Failure, Outcome, Output, Usage};
use omniq_store::How;

use super::attempt::{Attempt, Why};
use super::directive;
use crate::pool::{Ran, Unrun};

/// Bytes of stderr that are kept: its end, where the reason stands.
const STDERR: usize = 8 << 10;

/// An attempt that has ended, ready to be committed.
#[derive(Debug)]
pub(super) struct Done {
    pub attempt: Attempt,
    pub how: How,
    /// The value, where it goes to the result store first.
    pub staged: Option<Payload>,
    /// How long it ran.
    pub micros: u64,
}

/// What is the same for all outcomes of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Values up to so many bytes are kept in the task's record; `None`: all are.
    pub inline_max: Option<usize>,
    pub seed: u64,
}

impl Done {
    /// Bytes that the guest gave back: its value, or its error.
    pub fn size(&self) -> usize {
        let (value, error) = match &self.how {
            How::Succeeded(result) | How::Failed(result) | How::Cancelled(result) => {
                (result.value.as_ref(), result.error.as_ref())
            }
            How::Retry { error, .. } => (None, Some(error)),
            How::Release { error, .. } => (None, error.as_ref()),
        };
        let inline = match value {
            Some(Value::Inline(payload)) => payload.bytes.len(),
            _ => 0,
        };
        let of_error = |error: &TaskError| {
            error.message.len() + error.value.as_ref().map_or(0, |payload| payload.bytes.len())
        };
        let staged = self.staged.as_ref().map_or(0, |payload| payload.bytes.len());
        inline + error.map_or(0, of_error) + staged
    }

    /// The end of an attempt that never ran.
    pub fn unrun(attempt: Attempt, how: How) -> Self {
        Self { attempt, how, staged: None, micros: 0 }
    }

    /// It goes back for so long, uncounted, and why.
    pub fn released(attempt: Attempt, after: Duration, error: Option<TaskError>) -> Self {
        Self::unrun(attempt, How::Release { after, error })
    }

    /// It failed for good before it ran.
    pub fn failed(attempt: Attempt, error: TaskError) -> Self {
        Self::unrun(attempt, How::Failed(TaskResult::failure(error).into()))
    }
}

/// Works out how an attempt ended.
pub(super) fn conclude(rules: &Rules, attempt: Attempt, ran: Ran) -> Done {
    let outcome = match ran {
        Ok(outcome) => outcome,
        Err(unrun) => return without_outcome(rules, attempt, unrun),
    };
    let Outcome { result, usage, denials, stdout, stderr, .. } = outcome;
    let micros = u64::try_from(usage.wall.as_micros()).unwrap_or(u64::MAX);
    let record =
        TaskResult { usage: usage_of(&usage), stderr: tail(&stderr), ..TaskResult::default() };
    match result {
        Ok(output) => {
            let payload = match output {
                Output::Value(bytes) => Payload::cbor(bytes),
                _ => Payload::raw(stdout),
            };
            let (value, staged) = place(rules, attempt.token, payload);
            let how = How::Succeeded(TaskResult { value: Some(value), ..record }.into());
            Done { attempt, how, staged, micros }
        }
        Err(failure) => {
            let kind = failure.kind;
            let (wish, mut error) = explain(failure);
            error.denials = denials.iter().map(ToString::to_string).collect();
            let how = decide(rules, &attempt, kind, wish, error)(record);
            Done { attempt, how, staged: None, micros }
        }
    }
}

fn without_outcome(rules: &Rules, attempt: Attempt, unrun: Unrun) -> Done {
    let (kind, message) = match unrun {
        Unrun::Stopped => (Kind::Cancelled, "the task was cancelled before it ran"),
        Unrun::Panicked(panic) => {
            tracing::error!(task = %attempt.id, panic, "the host panicked while it ran a task");
            (Kind::Host, "the host failed inside this attempt; the task is not to blame")
        }
    };
    let how = decide(rules, &attempt, kind, Wish::None, TaskError::new(kind, message));
    Done::unrun(attempt, how(TaskResult::default()))
}

/// Where a value goes: into the record, or to the result store first.
fn place(rules: &Rules, token: Token, payload: Payload) -> (Value, Option<Payload>) {
    match rules.inline_max {
        Some(most) if payload.bytes.len() > most => {
            let size = payload.bytes.len() as u64;
            (Value::Stored(Stored { token, size, unknown: Default::default() }), Some(payload))
        }
        _ => (Value::Inline(payload), None),
    }
}

/// What a failure asks for, and how the record puts it.
fn explain(failure: Failure) -> (Wish, TaskError) {
    let mut error = TaskError::new(failure.kind, failure.message);
    error.hint = failure.hint.map(str::to_owned).unwrap_or_default();
    error.backtrace = failure.backtrace.iter().map(ToString::to_string).collect();
    let mut wish = Wish::None;
    if let Some((ty, value)) = failure.error {
        let directive = directive::read(ty.as_ref(), &value);
        wish = directive.wish;
        if let Some(message) = directive.message.filter(|message| !message.is_empty()) {
            error.message = message;
        }
        error.value = Some(Payload::cbor(value));
    }
    (wish, error)
}

/// What follows an attempt without a result, once the rest of its record is known.
fn decide(
    rules: &Rules,
    attempt: &Attempt,
    kind: Kind,
    wish: Wish,
    error: TaskError,
) -> impl FnOnce(TaskResult) -> How + use<> {
    let decision = match (attempt.stop.why(), &attempt.task) {
        // Whatever a guest says that was stopped for our sake is not its own doing.
        (Why::Shutdown | Why::LeaseLost, _) => None,
        (Why::CalledOff, _) => Some(Decision::Cancel),
        (Why::GoOn, None) => Some(Decision::Fail),
        (Why::GoOn, Some(task)) => {
            let roll = roll(rules.seed, attempt.id, attempt.token.fence);
            Some(task.retry.after(kind, wish, attempt.number, roll))
        }
    };
    move |record| {
        let ended = |error| TaskResult { error: Some(error), ..record }.into();
        match decision {
            None => How::Release { after: Duration::ZERO, error: None },
            Some(Decision::Retry(after)) => How::Retry { after, error },
            Some(Decision::Release(after)) => How::Release { after, error: Some(error) },
            Some(Decision::Fail) => How::Failed(ended(error)),
            Some(Decision::Cancel) => How::Cancelled(ended(TaskError {
                message: String::from("the task was cancelled while it ran"),
                kind: Kind::Cancelled.name().to_owned(),
                ..error
            })),
        }
    }
}

fn usage_of(usage: &Usage) -> TaskUsage {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    TaskUsage {
        fuel: usage.fuel,
        peak_memory: usage.peak_memory,
        wall_micros: micros(usage.wall),
        cpu_micros: micros(usage.cpu),
        host_calls: usage.host_calls,
        engine: ENGINE_VERSION.to_owned(),
        ..TaskUsage::default()
    }
}

/// The end of what a guest wrote to stderr, as text.
fn tail(stderr: &[u8]) -> String {
    let mut start = stderr.len().saturating_sub(STDERR);
    // Not in the midst of a character.
    while stderr.get(start).is_some_and(|byte| byte & 0xc0 == 0x80) {
        start += 1;
    }
    String::from_utf8_lossy(&stderr[start..]).into_owned()
}

/// A number in `0.0..1.0` that follows from the seed and the claim: SplitMix64 (Steele, Lea, Flood 2014) over them.
fn roll(seed: u64, id: TaskId, fence: u64) -> f64 {
    let bits = u128::from_be_bytes(*id.as_bytes());
    let mut state = seed;
    for word in [(bits >> 64) as u64, bits as u64, fence] {
        state = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    (state >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolls_are_spread_and_follow_from_what_they_are_for() {
        let id = TaskId::derived(&[b"t"]);
        let rolls: Vec<f64> = (0..1000).map(|fence| roll(7, id, fence)).collect();
        assert_eq!(rolls[3], roll(7, id, 3));
        assert!(rolls.iter().all(|roll| (0.0..1.0).contains(roll)));
        let mean = rolls.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }

    #[test]
    fn the_end_of_stderr_is_kept_in_whole_characters() {
        assert_eq!(tail(b"panicked"), "panicked");
        let long = "ä".repeat(STDERR);
        let kept = tail(long.as_bytes());
        assert!(kept.len() <= STDERR && kept.chars().all(|char| char == 'ä'), "{}", kept.len());
    }
}
