//! A history sorted by task: what happened to each, in the order of the calls, and the record that is left.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use omniq_model::{SessionId, State, Task, TaskId};
use omniq_store::Info;

use super::entry::{Entry, Offer, What};
use super::verdict::{Law, Verdict};

/// What happened to one task.
#[derive(Debug, Default)]
pub(super) struct Story<'a> {
    /// In the order in which they began.
    pub(super) entries: Vec<&'a Entry>,
    pub(super) record: Option<&'a Info>,
}

/// What happened to all.
#[derive(Debug)]
pub(super) struct Stories<'a> {
    pub(super) tasks: BTreeMap<TaskId, Story<'a>>,
    /// Signs of life of each session, in the order in which they began.
    pub(super) sessions: HashMap<SessionId, Vec<&'a Entry>>,
}

impl<'a> Stories<'a> {
    pub(super) fn of(entries: &'a [Entry], records: &'a [Info]) -> Self {
        let mut all = Self { tasks: BTreeMap::new(), sessions: HashMap::new() };
        for entry in entries {
            if let Some(task) = entry.task() {
                all.tasks.entry(task).or_default().entries.push(entry);
            }
            if let What::Beat { session, .. } | What::Quit { session } = entry.what {
                all.sessions.entry(session).or_default().push(entry);
            }
        }
        for record in records {
            all.tasks.entry(record.id).or_default().record = Some(record);
        }
        all.tasks.values_mut().for_each(|story| story.entries.sort_by_key(|entry| entry.t0));
        all.sessions.values_mut().for_each(|entries| entries.sort_by_key(|entry| entry.t0));
        all
    }

    /// All that happened to a task and to the sessions that held it, in the order in which it began.
    pub(super) fn of_task(&self, task: TaskId) -> Vec<Entry> {
        let Some(story) = self.tasks.get(&task) else { return Vec::new() };
        let holders: BTreeSet<_> =
            story.entries.iter().filter_map(|entry| entry.holder()).collect();
        let signs = holders.iter().filter_map(|session| self.sessions.get(session)).flatten();
        let mut all: Vec<_> =
            story.entries.iter().chain(signs).map(|entry| (*entry).clone()).collect();
        all.sort_by_key(|entry| entry.t0);
        all
    }

    pub(super) fn record(&self, task: TaskId) -> Option<&'a Info> {
        self.tasks.get(&task)?.record
    }
}

impl<'a> Story<'a> {
    fn offers(&self) -> impl Iterator<Item = Offer> {
        self.entries.iter().filter_map(|entry| match entry.what {
            What::Enqueue { outcome, .. } => Some(outcome),
            What::Fire { fired: Some(true), .. } => Some(Offer::Acked),
            What::Fire { fired: Some(false), .. } => Some(Offer::Refused),
            What::Fire { fired: None, .. } => Some(Offer::Unknown),
            _ => None,
        })
    }

    pub(super) fn was_offered(&self) -> bool {
        self.offers().next().is_some()
    }

    pub(super) fn was_acked(&self) -> bool {
        self.offers().any(|offer| offer == Offer::Acked)
    }

    /// Whether the task may be in the store: somebody offered it and was not told that it was refused.
    pub(super) fn may_be_there(&self) -> bool {
        self.offers().any(|offer| offer != Offer::Refused)
    }

    /// How often it got a new life after an end: retried by hand.
    pub(super) fn new_lives(&self) -> usize {
        let revived = |entry: &&&Entry| matches!(entry.what, What::Move { from, to: State::Ready, .. } if from.is_terminal());
        self.entries.iter().filter(revived).count()
    }

    /// The task as it was asked for, if its record can be read.
    pub(super) fn task(&self) -> Option<&'a Task> {
        self.record?.task.as_deref().ok()
    }
}

/// No loss, no invention, all end, nothing moves against the table, budgets.
pub(super) fn check_complete(stories: &Stories<'_>, verdict: &mut Verdict) {
    for (id, story) in &stories.tasks {
        let Some(record) = story.record else {
            if story.was_acked() {
                verdict.breaks(Law::NoLoss, *id, "it was acknowledged and is not there".into());
            }
            continue;
        };
        if !story.may_be_there() {
            let what = "it is there, and nobody offered it, or it was refused";
            verdict.breaks(Law::NoInvention, *id, what.into());
        }
        let state = record.head.state;
        if !state.is_terminal() {
            let what = format!("it is {state} after the drain: {:?}", record.head);
            verdict.breaks(Law::AllEnd, *id, what);
        }
        check_budgets(*id, story, record, verdict);
    }
    check_moves(stories, verdict);
}

fn check_budgets(id: TaskId, story: &Story<'_>, record: &Info, verdict: &mut Verdict) {
    let (Some(task), head) = (story.task(), &record.head) else { return };
    let mut over = |what: &str, used: u64, budget: u64| {
        if used > budget {
            verdict.breaks(Law::Budgets, id, format!("{used} {what}, {budget} were allowed"));
        }
    };
    over("attempts", head.attempt.into(), task.retry.attempts.into());
    // One more: the crash that ends it.
    over("crashes", head.crashes.into(), u64::from(task.retry.crashes) + 1);
    over(
        "counted attempts and crashes",
        u64::from(head.attempt) + u64::from(head.crashes),
        head.fence,
    );
}

fn check_moves(stories: &Stories<'_>, verdict: &mut Verdict) {
    for (id, story) in &stories.tasks {
        for entry in &story.entries {
            let (from, to) = match entry.what {
                What::Move { from, to, .. } => (from, to),
                What::Finish { state, outcome: super::Fate::Applied, .. } => {
                    (State::Running, state)
                }
                _ => continue,
            };
            if !from.may_become(to) {
                verdict.breaks(Law::LegalMoves, *id, format!("it went from {from} to {to}"));
            }
        }
    }
}
