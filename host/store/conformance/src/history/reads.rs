//! A read sees what was committed before it, and nothing else.

use omniq_model::{State, TaskId};

use super::entry::{Entry, Fate, What, digest};
use super::story::{Stories, Story};
use super::verdict::{Law, Verdict};

pub(super) fn check(stories: &Stories<'_>, verdict: &mut Verdict) {
    for (id, story) in &stories.tasks {
        check_task(*id, story, verdict);
    }
}

/// What was committed by a certain time: the highest fence and, once it has ended, how.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    fence: u64,
    ended: Option<State>,
}

/// Sweeps over the answers in the order in which they came and over the reads in the order in which they began.
fn check_task(id: TaskId, story: &Story<'_>, verdict: &mut Verdict) {
    let mut answers: Vec<_> = story.entries.iter().filter(|entry| entry.t1 < i64::MAX).collect();
    answers.sort_by_key(|entry| entry.t1);
    let mut answers = answers.into_iter().peekable();
    let (mut known, one_life) = (Known::default(), story.new_lives() == 0);
    for entry in &story.entries {
        let What::Read { state, fence, value, .. } = entry.what else { continue };
        while let Some(answer) = answers.next_if(|answer| answer.precedes(entry)) {
            learn(&mut known, answer);
        }
        if fence < known.fence {
            let what = format!("a read saw fence {fence} after {} had been given out", known.fence);
            verdict.breaks(Law::FreshReads, id, what);
        }
        if let (Some(ended), true) = (known.ended, one_life)
            && ended != state
        {
            let what = format!("a read saw {state} after it had ended as {ended}");
            verdict.breaks(Law::FreshReads, id, what);
        }
        check_value(id, story, state, value, one_life, verdict);
    }
}

fn learn(known: &mut Known, answer: &Entry) {
    match answer.what {
        What::Claim { token, .. } => known.fence = known.fence.max(token.fence),
        What::Finish { token, state, outcome: Fate::Applied, .. } => {
            known.fence = known.fence.max(token.fence);
            known.ended = state.is_terminal().then_some(state).or(known.ended);
        }
        What::Move { fence, to, .. } => {
            known.fence = known.fence.max(fence);
            known.ended = to.is_terminal().then_some(to).or(known.ended);
        }
        What::Read { state, fence, .. } => {
            known.fence = known.fence.max(fence);
            known.ended = state.is_terminal().then_some(state).or(known.ended);
        }
        _ => {}
    }
}

/// A value that was once visible is the one that stands: success is final.
fn check_value(
    id: TaskId,
    story: &Story<'_>,
    state: State,
    value: Option<u64>,
    one_life: bool,
    verdict: &mut Verdict,
) {
    let Some(record) = story.record else { return };
    let differs = state == State::Succeeded
        && (record.head.state != State::Succeeded || digest(&record.head) != value);
    let ended_otherwise = one_life && state.is_terminal() && record.head.state != state;
    if differs || ended_otherwise {
        let what = format!("a read saw {state} with another outcome than what stands in the end");
        verdict.breaks(Law::FreshReads, id, what);
    }
}
