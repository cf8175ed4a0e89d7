//! What a command of a log gives when it is applied, and a question when it is asked.

use omniq_model::{Lane, Schedule, TaskId, Timestamp, Token};

use super::Command;
use crate::core::Core;
use crate::{
    Beat, CopyPage, Counts, Due, Enqueued, Error, Finished, Fired, Imported, Info, Lease, Moved,
    Outcome, Page, Session, Stats,
};

/// The answer to a [`Command`] or to a question.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// For each task what became of it.
    Enqueued(Vec<Enqueued>),
    /// The session.
    Session(Session),
    /// What was leased.
    Leases(Vec<Lease>),
    /// Whether the session lives.
    Beat(Beat),
    /// For each end what became of it.
    Finished(Vec<Finished>),
    /// Which tasks moved.
    Moved(Vec<Moved>),
    /// What a bulk call did.
    Outcome(Outcome),
    /// What became ready, and when the next will.
    Due(Due),
    /// How many.
    Count(usize),
    /// The new versions.
    Versions(Vec<Option<u64>>),
    /// For each whether it was there.
    Flags(Vec<bool>),
    /// For each firing what became of it.
    Fired(Vec<Fired>),
    /// For each task that came from another store what became of it.
    Imported(Vec<Imported>),
    /// The store's clock.
    Now(Timestamp),
    /// What is to be stopped.
    Cancels(Vec<(TaskId, Token)>),
    /// Lanes.
    Lanes(Vec<Lane>),
    /// Schedules.
    Schedules(Vec<Schedule>),
    /// For each id the task, if it exists.
    Found(Vec<Option<Info>>),
    /// One page of a list.
    Page(Page),
    /// How many tasks stand in each state.
    Counts(Counts),
    /// Ended tasks.
    Ended(Vec<Info>),
    /// Tasks on their way.
    Copies(CopyPage),
    /// How much there is of what.
    Stats(Box<Stats>),
}

impl Command {
    /// Makes the call to the state machine, at `now`.
    pub fn apply(self, core: &mut Core, now: Timestamp) -> Answer {
        match self {
            Self::Enqueue(tasks) => Answer::Enqueued(core.enqueue(now, tasks)),
            Self::OpenSession(id, lease) => Answer::Session(core.open_session(now, id, lease)),
            Self::CloseSession(session) => Answer::Moved(core.close_session(now, &session)),
            Self::Claim(session, wants) => Answer::Leases(core.claim(now, &session, &wants)),
            Self::Heartbeat(session, held) => Answer::Beat(core.heartbeat(now, &session, held)),
            Self::Reconcile(session, held) => Answer::Moved(core.reconcile(now, &session, &held)),
            Self::Finish(ends) => Answer::Finished(core.finish(now, ends)),
            Self::Cancel(select) => Answer::Outcome(core.cancel(now, &select)),
            Self::Retry(select) => Answer::Outcome(core.retry(now, &select)),
            Self::Remove(select) => Answer::Outcome(core.remove(&select)),
            Self::Pause(lane, paused) => {
                core.pause(&lane, paused);
                Answer::Done
            }
            Self::Promote(max) => Answer::Due(core.promote(now, max)),
            Self::Reclaim(max) => Answer::Moved(core.reclaim(now, max)),
            Self::Expire(max) => Answer::Moved(core.expire(now, max)),
            Self::Purge(max) => Answer::Count(core.purge(now, max)),
            Self::PutSchedules(schedules) => Answer::Versions(core.put_schedules(schedules)),
            Self::RemoveSchedules(names) => Answer::Flags(core.remove_schedules(&names)),
            Self::Fire(fires) => Answer::Fired(core.fire(now, fires)),
            Self::Import(tasks) => Answer::Imported(core.import(now, tasks)),
            Self::Spare(leapt) => {
                core.spare(now, leapt);
                Answer::Done
            }
            Self::Restored => Answer::Moved(core.restored(now)),
        }
    }
}

impl Command {
    /// The answer of a call that would change nothing, so that a log need not hold it.
    pub fn without_effect(&self, core: &Core, now: Timestamp) -> Option<Answer> {
        let (idle, answer) = match self {
            Self::Claim(_, wants) => {
                (!wants.iter().any(|want| core.has_ready(&want.lane)), Answer::Leases(Vec::new()))
            }
            Self::Promote(_) => {
                let due = core.next_due();
                let next = due.map(|at| at.since(now));
                (due.is_none_or(|at| at > now), Answer::Due(Due { promoted: 0, next }))
            }
            Self::Reclaim(_) => (!core.has_dead_session(now), Answer::Moved(Vec::new())),
            Self::Expire(_) => (!core.has_expired(now), Answer::Moved(Vec::new())),
            Self::Purge(_) => (!core.has_forgettable(now), Answer::Count(0)),
            Self::Enqueue(tasks) => (tasks.is_empty(), Answer::Enqueued(Vec::new())),
            Self::Finish(ends) => (ends.is_empty(), Answer::Finished(Vec::new())),
            _ => return None,
        };
        idle.then_some(answer)
    }
}

/// Takes the answer of a command out, which has only one form for each.
macro_rules! answers {
    ($($variant:ident => $ty:ty,)+) => {
        $(impl TryFrom<Answer> for $ty {
            type Error = Error;

            fn try_from(answer: Answer) -> Result<Self, Error> {
                match answer {
                    Answer::$variant(value) => Ok(value),
                    other => Err(Error::unavailable(
                        "the log", "give the answer", format!("it is another one: {other:?}"),
                    )),
                }
            }
        })+
    };
}

answers! {
    Enqueued => Vec<Enqueued>,
    Session => Session,
    Leases => Vec<Lease>,
    Beat => Beat,
    Finished => Vec<Finished>,
    Moved => Vec<Moved>,
    Outcome => Outcome,
    Due => Due,
    Count => usize,
    Versions => Vec<Option<u64>>,
    Flags => Vec<bool>,
    Fired => Vec<Fired>,
    Imported => Vec<Imported>,
    Now => Timestamp,
    Cancels => Vec<(TaskId, Token)>,
    Lanes => Vec<Lane>,
    Schedules => Vec<Schedule>,
    Found => Vec<Option<Info>>,
    Page => Page,
    Counts => Counts,
    Ended => Vec<Info>,
    Copies => CopyPage,
    Stats => Box<Stats>,
}

impl TryFrom<Answer> for () {
    type Error = Error;

    fn try_from(_: Answer) -> Result<Self, Error> {
        Ok(())
    }
}
