//! One commit per token, one end per life, nothing by a token that was replaced, and the result is the one that was sent.

use std::collections::HashMap;

use omniq_model::{State, TaskId, Token};

use super::entry::{Entry, Fate, What, digest};
use super::story::{Stories, Story};
use super::verdict::{Law, Verdict};

/// One end that was sent.
#[derive(Debug, Clone, Copy)]
struct Finish<'a> {
    token: Token,
    state: State,
    value: Option<u64>,
    outcome: Fate,
    entry: &'a Entry,
}

pub(super) fn check(stories: &Stories<'_>, verdict: &mut Verdict) {
    for (id, story) in &stories.tasks {
        let ends: Vec<_> = story.entries.iter().filter_map(|entry| finish(entry)).collect();
        let applied: Vec<_> =
            ends.iter().filter(|end| end.outcome == Fate::Applied).copied().collect();
        check_once(*id, story, &applied, verdict);
        check_current(*id, story, &applied, verdict);
        check_record(*id, story, &ends, &applied, verdict);
    }
    check_fires(stories, verdict);
}

fn finish(entry: &Entry) -> Option<Finish<'_>> {
    match entry.what {
        What::Finish { token, state, value, outcome, .. } => {
            Some(Finish { token, state, value, outcome, entry })
        }
        _ => None,
    }
}

fn check_once(id: TaskId, story: &Story<'_>, applied: &[Finish<'_>], verdict: &mut Verdict) {
    let mut by_token: HashMap<Token, u32> = HashMap::new();
    for end in applied {
        *by_token.entry(end.token).or_default() += 1;
    }
    for (token, times) in by_token.into_iter().filter(|(_, times)| *times > 1) {
        let what = format!("the token with fence {} was committed {times} times", token.fence);
        verdict.breaks(Law::OneCommit, id, what);
    }
    let ends = applied.iter().filter(|end| end.state.is_terminal()).count();
    let lives = 1 + story.new_lives();
    if ends > lives {
        verdict.breaks(Law::OneCommit, id, format!("it ended {ends} times in {lives} lives"));
    }
}

/// An end must not be committed once a later claim has been answered.
fn check_current(id: TaskId, story: &Story<'_>, applied: &[Finish<'_>], verdict: &mut Verdict) {
    let mut claims: Vec<_> = story
        .entries
        .iter()
        .filter_map(|entry| match entry.what {
            What::Claim { token, .. } => Some((token.fence, entry.t1)),
            _ => None,
        })
        .collect();
    claims.sort_unstable();
    // For each claim: the earliest answer of it or of any later one.
    let mut earliest = i64::MAX;
    for claim in claims.iter_mut().rev() {
        earliest = earliest.min(claim.1);
        claim.1 = earliest;
    }
    for end in applied {
        let later = claims.partition_point(|(fence, _)| *fence <= end.token.fence);
        if claims.get(later).is_some_and(|(_, answered)| *answered < end.entry.t0) {
            let Token { fence, .. } = end.token;
            let what = format!(
                "fence {fence} committed after fence {} had been given out",
                claims[later].0
            );
            verdict.breaks(Law::NoStaleCommit, id, what);
        }
    }
}

/// The record must be the last commit's.
fn check_record(
    id: TaskId,
    story: &Story<'_>,
    ends: &[Finish<'_>],
    applied: &[Finish<'_>],
    verdict: &mut Verdict,
) {
    let Some(record) = story.record else { return };
    let head = &record.head;
    let last =
        applied.iter().filter(|end| end.state.is_terminal()).max_by_key(|end| end.token.fence);
    if let Some(last) = last
        && story.new_lives() == 0
        && (last.state, last.token.fence) != (head.state, head.fence)
    {
        let what = format!(
            "{} was committed by fence {}, and the record says {} by {}",
            last.state, last.token.fence, head.state, head.fence
        );
        verdict.breaks(Law::TrueResult, id, what);
    }
    let Some(value) = digest(head) else { return };
    let mut sent = ends.iter().filter(|end| end.token.fence == head.fence && end.value.is_some());
    let stale = |end: &Finish<'_>| end.outcome == Fate::Stale;
    if sent.clone().next().is_some() && !sent.any(|end| end.value == Some(value) && !stale(end)) {
        let what = format!("its value is not one that the attempt of fence {} sent", head.fence);
        verdict.breaks(Law::TrueResult, id, what);
    }
}

fn check_fires(stories: &Stories<'_>, verdict: &mut Verdict) {
    let (mut versions, mut instants) = (HashMap::new(), HashMap::new());
    for entry in stories.tasks.values().flat_map(|story| &story.entries) {
        let What::Fire { schedule, version, nominal, task, fired: Some(true) } = &entry.what else {
            continue;
        };
        // One firing may make several tasks: they share the call.
        let call = (entry.t0, entry.t1, entry.client);
        let version_twice = *versions.entry((schedule, version)).or_insert(call) != call;
        let instant_twice = *instants.entry((schedule, nominal)).or_insert(*task) != *task;
        if version_twice || instant_twice {
            let what = format!(
                "`{schedule}` fired twice at version {version} or for the instant {}",
                nominal.as_millis()
            );
            verdict.breaks(Law::FiresOnce, *task, what);
        }
    }
}
