//! What calls and their answers are in a history.

use omniq_model::{Payload, SessionId, State, TaskId, TaskResult, Token};
use omniq_store::{End, Finished, How, Moved, Outcome};

use crate::history::{self, Fate, What};
use crate::kit::LEASE;

/// The value an attempt gives: it names its task and its token, so that no two are the same.
pub(super) fn value(id: TaskId, token: Token) -> Vec<u8> {
    format!("{id} by {} {}", token.fence, token.nonce).into_bytes()
}

pub(super) fn succeeded(id: TaskId, token: Token) -> How {
    How::Succeeded(TaskResult::success(Payload::raw(value(id, token))).into())
}

pub(super) fn beat(session: SessionId) -> What {
    What::Beat { session, lease: LEASE.as_millis() as u64 }
}

pub(super) fn moved(moved: &Moved) -> What {
    What::Move { task: moved.id, fence: moved.fence, from: moved.from, to: moved.to }
}

pub(super) fn moves(outcome: &Outcome) -> impl Iterator<Item = What> {
    outcome.moved.iter().map(moved)
}

/// What an end and its answer are in a history. Where the task stands is the answer's word, while there is one.
pub(super) fn finished(end: &End, answer: Option<Finished>) -> What {
    let wanted = match &end.how {
        How::Succeeded(_) => State::Succeeded,
        How::Failed(_) => State::Failed,
        How::Cancelled(_) => State::Cancelled,
        How::Retry { .. } | How::Release { .. } => State::Scheduled,
    };
    let state = match answer {
        Some(Finished::Applied(state)) => state,
        _ => wanted,
    };
    let sent = matches!(end.how, How::Succeeded(_));
    let value = sent.then(|| history::fingerprint(&value(end.id, end.token)));
    let outcome = answer.map_or(Fate::Unknown, Fate::from);
    What::Finish { task: end.id, token: end.token, state, value, outcome }
}
