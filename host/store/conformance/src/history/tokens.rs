//! Tokens go up, and a lease has one holder.

use std::collections::HashMap;

use omniq_model::{SessionId, TaskId, Timestamp, Token};

use super::entry::{Entry, Fate, What};
use super::story::{Stories, Story};
use super::verdict::{Law, Verdict};

/// One lease that was seen.
#[derive(Debug, Clone, Copy)]
struct Claim<'a> {
    token: Token,
    session: Option<SessionId>,
    entry: &'a Entry,
}

pub(super) fn check(stories: &Stories<'_>, verdict: &mut Verdict) {
    for (id, story) in &stories.tasks {
        let mut claims: Vec<_> = story.entries.iter().filter_map(|entry| claim(entry)).collect();
        claims.sort_by_key(|claim| claim.token.fence);
        check_order(*id, story, &claims, verdict);
        check_holders(*id, story, &claims, stories, verdict);
    }
}

fn claim(entry: &Entry) -> Option<Claim<'_>> {
    match entry.what {
        What::Claim { token, session, .. } => Some(Claim { token, session, entry }),
        _ => None,
    }
}

fn check_order(id: TaskId, story: &Story<'_>, claims: &[Claim<'_>], verdict: &mut Verdict) {
    // The latest beginning of any claim with a smaller fence.
    let mut latest = i64::MIN;
    for (index, claim) in claims.iter().enumerate() {
        let Token { fence, .. } = claim.token;
        if index > 0 && claims[index - 1].token.fence == fence {
            verdict.breaks(Law::TokensGoUp, id, format!("fence {fence} was given out twice"));
        } else if claim.entry.t1 < latest {
            let what = format!("fence {fence} was given out before a smaller one was asked for");
            verdict.breaks(Law::TokensGoUp, id, what);
        }
        latest = latest.max(claim.entry.t0);
    }
    let (Some(last), Some(record)) = (claims.last(), story.record) else { return };
    if record.head.fence < last.token.fence {
        let what = format!(
            "fence {} was given out, and the record has {}",
            last.token.fence, record.head.fence
        );
        verdict.breaks(Law::TokensGoUp, id, what);
    }
}

/// While a session surely lives and has not let go, the next token must not be given out. In the store's time.
fn check_holders(
    id: TaskId,
    story: &Story<'_>,
    claims: &[Claim<'_>],
    stories: &Stories<'_>,
    verdict: &mut Verdict,
) {
    let let_go = let_go(story);
    for pair in claims.windows(2) {
        let (held, next) = (pair[0], pair[1]);
        let (Some(session), Some((_, given))) = (held.session, next.entry.store) else { continue };
        let ended = let_go.get(&held.token.fence).is_some_and(|t0| *t0 < next.entry.t1);
        if ended || held.token.fence == next.token.fence {
            continue;
        }
        let alive = alive_until(stories, session, next.entry);
        if alive.is_some_and(|until| given <= until) {
            let what = format!(
                "fence {} was given out at {}, while the holder of {} lived until {} at least",
                next.token.fence,
                given.as_millis(),
                held.token.fence,
                alive.unwrap_or_default().as_millis()
            );
            verdict.breaks(Law::OneHolder, id, what);
        }
    }
}

/// For each fence: since when its holder may have let go.
fn let_go(story: &Story<'_>) -> HashMap<u64, i64> {
    let mut since = HashMap::new();
    for entry in &story.entries {
        let fence = match entry.what {
            What::Finish {
                token, outcome: Fate::Applied | Fate::Before | Fate::Unknown, ..
            } => token.fence,
            What::Move { fence, .. } => fence,
            _ => continue,
        };
        let first = since.entry(fence).or_insert(entry.t0);
        *first = entry.t0.min(*first);
    }
    since
}

/// The last instant of the store's time at which `session` surely lived, as far as that was known when `next` began.
/// `None` when it may have quit by the time `next` was over.
fn alive_until(stories: &Stories<'_>, session: SessionId, next: &Entry) -> Option<Timestamp> {
    let signs = stories.sessions.get(&session)?;
    let begun = signs.partition_point(|sign| sign.t0 < next.t1);
    let mut until = None;
    for sign in &signs[..begun] {
        match (&sign.what, sign.store) {
            (What::Quit { .. }, _) => return None,
            (What::Beat { lease, .. }, Some((before, _))) if sign.precedes(next) => {
                until = until.max(Some(before + std::time::Duration::from_millis(*lease)));
            }
            _ => {}
        }
    }
    until
}
