//! The calls that look at tasks and change nothing, as bytes: how a process asks the one that has the state machine.

use omniq_model::{Lane, Name, TaskId, Timestamp};

use super::command::{read_filter, read_session, write_filter, write_session};
use super::wire::{In, Out, Read, bad};
use super::{Answer, command::write_list};
use crate::core::Core;
use crate::{Filter, Session};

/// A call that looks at tasks.
#[derive(Debug, Clone)]
pub enum Query {
    /// [`TaskStore::now`](crate::TaskStore::now).
    Now,
    /// [`TaskStore::cancels`](crate::TaskStore::cancels).
    Cancels(Session),
    /// [`TaskStore::ready_lanes`](crate::TaskStore::ready_lanes).
    ReadyLanes(Option<Lane>, usize),
    /// [`TaskStore::schedules`](crate::TaskStore::schedules).
    Schedules(Option<Name>),
    /// [`TaskStore::due_schedules`](crate::TaskStore::due_schedules).
    DueSchedules(usize),
    /// [`TaskStore::get`](crate::TaskStore::get).
    Get(Vec<TaskId>),
    /// [`TaskStore::list`](crate::TaskStore::list).
    List(Filter, Option<u64>, usize),
    /// [`TaskStore::count`](crate::TaskStore::count).
    Count(Filter),
    /// [`TaskStore::ended`](crate::TaskStore::ended).
    Ended((Timestamp, TaskId), usize),
    /// [`Admin::export`](crate::Admin::export).
    Export(Option<u64>, usize),
    /// [`Admin::stats`](crate::Admin::stats).
    Stats,
}

impl Query {
    /// Looks at the state machine, at `now`.
    pub fn look(&self, core: &Core, now: Timestamp) -> Answer {
        match self {
            Self::Now => Answer::Now(now),
            Self::Cancels(session) => Answer::Cancels(core.cancels(session)),
            Self::ReadyLanes(after, max) => Answer::Lanes(core.ready_lanes(after.as_ref(), *max)),
            Self::Schedules(tenant) => Answer::Schedules(core.schedules(tenant.as_ref())),
            Self::DueSchedules(max) => Answer::Schedules(core.due_schedules(now, *max)),
            Self::Get(ids) => Answer::Found(core.get(ids)),
            Self::List(filter, before, max) => Answer::Page(core.list(filter, *before, *max)),
            Self::Count(filter) => Answer::Counts(core.count(filter)),
            Self::Ended(after, max) => Answer::Ended(core.ended(*after, *max)),
            Self::Export(after, max) => Answer::Copies(core.export(now, *after, *max)),
            Self::Stats => Answer::Stats(Box::new(core.stats(now))),
        }
    }

    /// Writes it down, as [`Command::write`](super::Command::write) does.
    pub fn write(&self, out: &mut Out) {
        match self {
            Self::Now => out.byte(1),
            Self::Cancels(session) => {
                out.byte(2);
                write_session(out, session);
            }
            Self::ReadyLanes(after, max) => {
                out.byte(3);
                out.option(after.as_ref(), Out::lane);
                out.count(*max);
            }
            Self::Schedules(tenant) => {
                out.byte(4);
                out.option(tenant.as_ref(), |out, name| out.text(name.as_str()));
            }
            Self::DueSchedules(max) => {
                out.byte(5);
                out.count(*max);
            }
            Self::Get(ids) => {
                out.byte(6);
                write_list(out, ids, |out, id| out.id(*id));
            }
            Self::List(filter, before, max) => {
                out.byte(7);
                write_filter(out, filter);
                out.option(*before, Out::number);
                out.count(*max);
            }
            Self::Count(filter) => {
                out.byte(8);
                write_filter(out, filter);
            }
            Self::Ended((at, id), max) => {
                out.byte(9);
                out.instant(*at);
                out.id(*id);
                out.count(*max);
            }
            Self::Export(after, max) => {
                out.byte(10);
                out.option(*after, Out::number);
                out.count(*max);
            }
            Self::Stats => out.byte(11),
        }
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged, or of a newer version.
    pub fn read(input: &mut In<'_>) -> Read<Self> {
        Ok(match input.byte()? {
            1 => Self::Now,
            2 => Self::Cancels(read_session(input)?),
            3 => Self::ReadyLanes(input.option(In::lane)?, input.count()?),
            4 => Self::Schedules(input.option(In::name)?),
            5 => Self::DueSchedules(input.count()?),
            6 => Self::Get(input.list(In::id)?),
            7 => Self::List(read_filter(input)?, input.option(In::number)?, input.count()?),
            8 => Self::Count(read_filter(input)?),
            9 => Self::Ended((input.instant()?, input.id()?), input.count()?),
            10 => Self::Export(input.option(In::number)?, input.count()?),
            11 => Self::Stats,
            other => return Err(bad(format!("this version knows no question {other}"))),
        })
    }
}
