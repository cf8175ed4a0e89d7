//! What people do to tasks: call them off, try them again, forget them, hold a lane back.
//!
//! First a walk chooses, page by page; then scripts change what was chosen, a bounded number each. What changed in between
//! is passed over: each script looks again.

use omniq_model::{Lane, State, TaskId};

use super::fault::{Fault, Result};
use super::read::Walk;
use super::reply;
use super::script::{self, Script};
use super::server::Store;
use super::wire::{self, Bytes};
use crate::{Moved, Outcome, Select};

/// Tasks of one script at most.
const MOST: usize = 100;

const WAITING: [State; 3] = [State::Blocked, State::Scheduled, State::Ready];
const UNWELL: [State; 3] = [State::Failed, State::Cancelled, State::Expired];
const ENDED: [State; 4] = [State::Succeeded, State::Failed, State::Cancelled, State::Expired];

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Cancel,
    Retry,
    Remove,
}

impl Act {
    fn script(self) -> &'static Script {
        match self {
            Self::Cancel => &script::CANCEL,
            Self::Retry => &script::RETRY,
            Self::Remove => &script::REMOVE,
        }
    }

    /// States of tasks to which it can be done.
    fn states(self) -> Vec<State> {
        match self {
            Self::Cancel => [&WAITING[..], &[State::Running]].concat(),
            Self::Retry => UNWELL.to_vec(),
            Self::Remove => ENDED.to_vec(),
        }
    }
}

/// What a script did to one task.
enum Done {
    Moved(Moved),
    Requested,
    Skipped(State),
    Gone,
}

impl Store {
    /// See [`TaskStore::cancel`](crate::TaskStore::cancel), [`TaskStore::retry`](crate::TaskStore::retry) and
    /// [`TaskStore::remove`](crate::TaskStore::remove).
    pub(super) async fn act(&self, act: Act, select: Select) -> Result<Outcome> {
        let by_id = !select.filter.ids.is_empty();
        let mut outcome = Outcome::default();
        let chosen = if by_id {
            self.choose_named(act, &select, &mut outcome).await?
        } else {
            self.choose(act, &select).await?
        };
        // Children before their parents: what is chosen itself is called off, not a victim of its parent's end.
        let reversed = act == Act::Cancel;
        let parts: Vec<Vec<TaskId>> = if reversed {
            let ids: Vec<_> = chosen.into_iter().rev().collect();
            ids.chunks(MOST).map(<[TaskId]>::to_vec).collect()
        } else {
            chosen.chunks(MOST).map(<[TaskId]>::to_vec).collect()
        };
        for part in parts {
            let done = self.act_on(act, &part, false).await?;
            for (id, done) in part.into_iter().zip(done) {
                match done {
                    Done::Moved(moved) => outcome.moved.push(moved),
                    Done::Requested => outcome.requested.push(id),
                    Done::Skipped(state) if by_id => outcome.skipped.push((id, state)),
                    Done::Skipped(_) | Done::Gone => {}
                }
            }
        }
        if reversed {
            outcome.moved.reverse();
            outcome.requested.reverse();
        }
        Ok(outcome)
    }

    /// The oldest tasks that fit and that it can be done to.
    async fn choose(&self, act: Act, select: &Select) -> Result<Vec<TaskId>> {
        let mut chosen = Vec::new();
        let mut walk = Walk::new(&select.filter, &act.states(), false);
        while chosen.len() < select.max && walk.goes_on() {
            for met in self.walk(&mut walk, select.max - chosen.len()).await? {
                let can = match act {
                    Act::Cancel => !met.cancel_requested,
                    Act::Retry => met.key_is_free,
                    Act::Remove => true,
                };
                if can && chosen.len() < select.max {
                    chosen.push(met.id);
                }
            }
        }
        Ok(chosen)
    }

    /// The same of tasks that were named; the others up to there are skipped.
    async fn choose_named(
        &self,
        act: Act,
        select: &Select,
        outcome: &mut Outcome,
    ) -> Result<Vec<TaskId>> {
        let states = act.states();
        let mut named = Vec::new();
        for info in self.named(&select.filter).await? {
            named.push((info.id, info.head.state, states.contains(&info.head.state)));
        }
        if act == Act::Retry {
            // Whose key somebody else holds is not chosen either.
            let ids: Vec<_> = named.iter().map(|(id, ..)| *id).collect();
            let mut can = Vec::new();
            for part in ids.chunks(MOST) {
                let done = self.act_on(act, part, true).await?;
                can.extend(done.iter().map(|done| matches!(done, Done::Requested)));
            }
            named.iter_mut().zip(can).for_each(|(named, can)| named.2 = can);
        }
        let mut chosen = Vec::new();
        for (id, state, can) in named {
            if chosen.len() >= select.max {
                break;
            }
            if can {
                chosen.push(id);
            } else {
                outcome.skipped.push((id, state));
            }
        }
        Ok(chosen)
    }

    async fn act_on(&self, act: Act, ids: &[TaskId], only_look: bool) -> Result<Vec<Done>> {
        let mut args: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
        if act == Act::Retry {
            args.insert(0, if only_look { b"1" } else { b"0" });
        }
        let [said, answers] = reply::parts(self.change(act.script(), &args).await?)?;
        self.committed(&said).await?;
        reply::all_bytes(answers)?.iter().map(|answer| read(answer)).collect()
    }

    /// See [`TaskStore::pause`](crate::TaskStore::pause).
    pub(super) async fn pause(&self, lane: Lane, paused: bool) -> Result<()> {
        let paused: &[u8] = if paused { b"1" } else { b"0" };
        let said = self.change(&script::PAUSE, &[&wire::lane(&lane), paused]).await?;
        self.committed(&said).await
    }
}

fn read(answer: &[u8]) -> Result<Done> {
    let Some((letter, rest)) = answer.split_first() else { return Ok(Done::Gone) };
    match letter {
        b'M' => wire::moved(rest).map(Done::Moved),
        b'R' => Ok(Done::Requested),
        b'S' => Bytes(rest).state().map(Done::Skipped),
        other => Err(Fault::Other(format!("a script answered `{other}`"))),
    }
}
