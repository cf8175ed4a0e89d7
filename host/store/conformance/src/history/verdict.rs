//! What the checker found.

use std::collections::BTreeMap;
use std::fmt;

use omniq_model::{State, TaskId};

use super::entry::{Entry, Fate, Offer, What};
use super::story::Stories;

/// A promise that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// A task that was acknowledged is there in the end.
    NoLoss,
    /// Nothing is there that nobody asked for.
    NoInvention,
    /// Every task has ended when the store has been drained.
    AllEnd,
    /// A task's fence goes up with every claim, and no token is given twice.
    TokensGoUp,
    /// While a session lives and holds a task, nobody else gets it.
    OneHolder,
    /// A token commits once, and a life of a task ends once.
    OneCommit,
    /// Nothing is committed by a token that was replaced.
    NoStaleCommit,
    /// The result that stands is the one that its attempt sent.
    TrueResult,
    /// A read sees what was committed before it, and nothing that was never committed.
    FreshReads,
    /// States change as the table of moves says.
    LegalMoves,
    /// At most one task at a time has a unique key.
    UniqueKeys,
    /// A task starts after what it waits for, and fails with it where it should.
    Dependencies,
    /// A task does not start before its time.
    NotTooEarly,
    /// A task has no more attempts and crashes than its budgets allow.
    Budgets,
    /// A schedule fires each version and each instant once.
    FiresOnce,
    /// Every end has exactly one event.
    EventsComplete,
}

/// One promise that was broken, once.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Which promise.
    pub law: Law,
    /// To which task, where it is about one.
    pub task: Option<TaskId>,
    /// How it shows.
    pub what: String,
    /// All that happened to the task, in the order in which it began; for the first few tasks.
    pub story: Vec<Entry>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.law)?;
        if let Some(task) = self.task {
            write!(f, "task {task}: ")?;
        }
        f.write_str(&self.what)?;
        self.story.iter().try_for_each(|entry| write!(f, "\n    {entry}"))
    }
}

/// What a run amounts to, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Tasks that were offered.
    pub offered: u64,
    /// Of these: acknowledged.
    pub acked: u64,
    /// Of these: neither acknowledged nor refused.
    pub unknown: u64,
    /// Of the unknown: they are there all the same.
    pub recovered: u64,
    /// Records that are left.
    pub records: u64,
    /// Leases that were given out and seen.
    pub attempts: u64,
    /// Ends that were committed.
    pub commits: u64,
    /// Ends that were repeated after their answer was lost, and had been committed.
    pub repeated: u64,
    /// Ends that were refused since their token was not current.
    pub stale: u64,
    /// Ends whose answer was lost.
    pub unanswered: u64,
    /// Crashes that are on the records.
    pub crashes: u64,
    /// Tasks that were moved without their worker's doing.
    pub moved: u64,
    /// Reads.
    pub reads: u64,
    /// Firings of schedules.
    pub fired: u64,
    /// Acknowledged tasks that are not there: must be zero.
    pub lost: u64,
    /// Tokens or lives that were committed twice: must be zero.
    pub double_commits: u64,
    /// How many records stand in each state.
    pub states: BTreeMap<State, u64>,
}

/// What the checker found.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "a verdict that nobody reads finds nothing"]
pub struct Verdict {
    /// The run in numbers.
    pub tally: Tally,
    /// Every promise that was broken; empty when all is well.
    pub violations: Vec<Violation>,
}

/// Of how many violations the whole story is told.
const MOST_STORIES: usize = 10;

impl Verdict {
    pub(super) fn new(stories: &Stories<'_>) -> Self {
        let mut tally = Tally::default();
        for story in stories.tasks.values() {
            tally.offered += u64::from(story.was_offered());
            tally.acked += u64::from(story.was_acked());
            let unknown = story.may_be_there() && !story.was_acked();
            tally.unknown += u64::from(unknown);
            tally.recovered += u64::from(unknown && story.record.is_some());
            for entry in &story.entries {
                tally.add(&entry.what);
            }
            if let Some(record) = story.record {
                tally.records += 1;
                tally.crashes += u64::from(record.head.crashes);
                *tally.states.entry(record.head.state).or_default() += 1;
            }
        }
        Self { tally, violations: Vec::new() }
    }

    pub(super) fn breaks(&mut self, law: Law, task: impl Into<Option<TaskId>>, what: String) {
        self.violations.push(Violation { law, task: task.into(), what, story: Vec::new() });
    }

    pub(super) fn finish(mut self) -> Self {
        let count = |law| self.violations.iter().filter(|one| one.law == law).count() as u64;
        (self.tally.lost, self.tally.double_commits) = (count(Law::NoLoss), count(Law::OneCommit));
        self.violations.sort_by_key(|one| (one.law, one.task));
        self
    }

    /// Adds the stories of the tasks to which promises were broken.
    pub(super) fn tell(&mut self, stories: &Stories<'_>) {
        for violation in self.violations.iter_mut().take(MOST_STORIES) {
            if let Some(task) = violation.task {
                violation.story = stories.of_task(task);
            }
        }
    }

    /// Whether no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Prints the numbers, and panics when a promise was broken.
    ///
    /// # Panics
    /// When a promise was broken; the message has the first hundred.
    pub fn assert_clean(&self) {
        println!("{self}");
        assert!(self.is_clean(), "{self}");
    }
}

impl Tally {
    fn add(&mut self, what: &What) {
        match what {
            What::Claim { .. } => self.attempts += 1,
            What::Finish { outcome, .. } => match outcome {
                Fate::Applied => self.commits += 1,
                Fate::Before => self.repeated += 1,
                Fate::Stale => self.stale += 1,
                Fate::Unknown => self.unanswered += 1,
            },
            What::Move { .. } => self.moved += 1,
            What::Read { .. } => self.reads += 1,
            What::Fire { fired: Some(true), .. } => self.fired += 1,
            What::Enqueue { outcome: Offer::Acked | Offer::Refused | Offer::Unknown, .. }
            | What::Fire { .. }
            | What::Beat { .. }
            | What::Quit { .. } => {}
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        writeln!(
            f,
            "tasks: {} offered, {} acked, {} unknown of which {} are there; {} records",
            tally.offered, tally.acked, tally.unknown, tally.recovered, tally.records
        )?;
        write!(f, "states:")?;
        for (state, count) in &tally.states {
            write!(f, " {count} {state}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "attempts: {} seen, {} crashes, {} moved by others",
            tally.attempts, tally.crashes, tally.moved
        )?;
        writeln!(
            f,
            "ends: {} committed, {} repeated, {} stale, {} unanswered; {} reads, {} firings",
            tally.commits, tally.repeated, tally.stale, tally.unanswered, tally.reads, tally.fired
        )?;
        write!(f, "lost: {}, double commits: {}", tally.lost, tally.double_commits)?;
        write!(f, ", broken promises: {}", self.violations.len())?;
        self.violations.iter().take(100).try_for_each(|one| write!(f, "\n{one}"))
    }
}
