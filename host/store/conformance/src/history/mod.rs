//! Histories of concurrent runs, and the checker that says whether a store kept its promises in one.
//!
//! Clients write down every call and its answer ([`Recorder`]); afterwards the store is drained and [`check`] holds the
//! history against the records that are left. A run of several processes that has only what the stores hold, events and
//! records, is checked by [`check_events`]. Nothing is searched: values are unique and every task is a register of its
//! own, so sorting is enough, also for millions of entries.
//!
//! A verdict never accuses without proof: where the order of two calls is not known, they may have been either way.

mod commits;
mod entry;
mod events;
mod graph;
mod reads;
mod recorder;
mod story;
mod tokens;
mod verdict;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Fate, Offer, What, digest, fingerprint};
pub use events::check_events;
pub use recorder::{Call, Recorder, read};
pub use verdict::{Law, Tally, Verdict, Violation};

use omniq_store::Info;

use self::story::Stories;

/// Holds a history against the records that were left when the store had been drained.
///
/// What was removed or purged in between counts as lost: let results live longer than the run.
pub fn check(entries: &[Entry], records: &[Info]) -> Verdict {
    let stories = Stories::of(entries, records);
    let mut verdict = Verdict::new(&stories);
    story::check_complete(&stories, &mut verdict);
    tokens::check(&stories, &mut verdict);
    commits::check(&stories, &mut verdict);
    reads::check(&stories, &mut verdict);
    graph::check(&stories, &mut verdict);
    let mut verdict = verdict.finish();
    verdict.tell(&stories);
    verdict
}
