//! The commands of a log: every call that changes tasks, as bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use omniq_model::record::{decode, encode};
use omniq_model::{
    Lane, Name, Schedule, SessionId, State, Task, TaskError, TaskId, TaskResult, Token,
};

use super::reply::{read_copy, write_copy};
use super::wire::{In, Out, Read, bad};
use crate::{End, Filter, Fire, Held, How, Select, Session, TaskCopy, Want};

/// A call that changes tasks.
#[derive(Debug, Clone)]
pub enum Command {
    /// [`TaskStore::enqueue`](crate::TaskStore::enqueue).
    Enqueue(Vec<Task>),
    /// [`TaskStore::open_session`](crate::TaskStore::open_session).
    OpenSession(SessionId, Duration),
    /// [`TaskStore::close_session`](crate::TaskStore::close_session).
    CloseSession(Session),
    /// [`TaskStore::claim`](crate::TaskStore::claim).
    Claim(Session, Vec<Want>),
    /// [`TaskStore::heartbeat`](crate::TaskStore::heartbeat).
    Heartbeat(Session, Held),
    /// [`TaskStore::reconcile`](crate::TaskStore::reconcile).
    Reconcile(Session, Vec<(TaskId, Token)>),
    /// [`TaskStore::finish`](crate::TaskStore::finish).
    Finish(Vec<End>),
    /// [`TaskStore::cancel`](crate::TaskStore::cancel).
    Cancel(Select),
    /// [`TaskStore::retry`](crate::TaskStore::retry).
    Retry(Select),
    /// [`TaskStore::remove`](crate::TaskStore::remove).
    Remove(Select),
    /// [`TaskStore::pause`](crate::TaskStore::pause).
    Pause(Lane, bool),
    /// [`TaskStore::promote`](crate::TaskStore::promote).
    Promote(usize),
    /// [`TaskStore::reclaim`](crate::TaskStore::reclaim).
    Reclaim(usize),
    /// [`TaskStore::expire`](crate::TaskStore::expire).
    Expire(usize),
    /// [`TaskStore::purge`](crate::TaskStore::purge).
    Purge(usize),
    /// [`TaskStore::put_schedules`](crate::TaskStore::put_schedules).
    PutSchedules(Vec<Schedule>),
    /// [`TaskStore::remove_schedules`](crate::TaskStore::remove_schedules).
    RemoveSchedules(Vec<(Name, Name)>),
    /// [`TaskStore::fire`](crate::TaskStore::fire).
    Fire(Vec<Fire>),
    /// [`Admin::import`](crate::Admin::import).
    Import(Vec<TaskCopy>),
    /// The clock has leapt so far, over time in which no session could report. Nobody asks for it: who writes to the log
    /// puts it before the first command after a leap. See [`Clock::leapt`](crate::Clock::leapt).
    Spare(Duration),
    /// [`Admin::restored`](crate::Admin::restored), but for the incarnation, which is not in the log.
    Restored,
}

impl Command {
    /// What kind it is, as failpoints and errors name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Enqueue(_) => "enqueue",
            Self::OpenSession(..) => "open_session",
            Self::CloseSession(_) => "close_session",
            Self::Claim(..) => "claim",
            Self::Heartbeat(..) => "heartbeat",
            Self::Reconcile(..) => "reconcile",
            Self::Finish(_) => "finish",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Remove(_) => "remove",
            Self::Pause(..) => "pause",
            Self::Promote(_) => "promote",
            Self::Reclaim(_) => "reclaim",
            Self::Expire(_) => "expire",
            Self::Purge(_) => "purge",
            Self::PutSchedules(_) => "put_schedules",
            Self::RemoveSchedules(_) => "remove_schedules",
            Self::Fire(_) => "fire",
            Self::Import(_) => "import",
            Self::Spare(_) => "spare",
            Self::Restored => "restored",
        }
    }

    /// Whether it makes the store larger: refused first where room runs out.
    pub fn grows(&self) -> bool {
        matches!(self, Self::Enqueue(_) | Self::PutSchedules(_) | Self::Fire(_) | Self::Import(_))
    }

    /// Writes it down: a byte for its kind, which never changes its meaning, then its fields.
    pub fn write(&self, out: &mut Out) {
        match self {
            Self::Enqueue(tasks) => {
                out.byte(1);
                write_tasks(out, tasks);
            }
            Self::OpenSession(id, lease) => {
                out.byte(2);
                out.session(*id);
                out.span(*lease);
            }
            Self::CloseSession(session) => {
                out.byte(3);
                write_session(out, session);
            }
            Self::Claim(session, wants) => {
                out.byte(4);
                write_session(out, session);
                write_list(out, wants, write_want);
            }
            Self::Heartbeat(session, held) => {
                out.byte(5);
                write_session(out, session);
                out.number(held.count);
                out.fixed(held.digest);
            }
            Self::Reconcile(session, held) => {
                out.byte(6);
                write_session(out, session);
                write_list(out, held, |out, (id, token)| {
                    out.id(*id);
                    out.token(*token);
                });
            }
            Self::Finish(ends) => {
                out.byte(7);
                write_list(out, ends, write_end);
            }
            Self::Cancel(select) => write_select(out, 8, select),
            Self::Retry(select) => write_select(out, 9, select),
            Self::Remove(select) => write_select(out, 10, select),
            Self::Pause(lane, paused) => {
                out.byte(11);
                out.lane(lane);
                out.flag(*paused);
            }
            Self::Promote(max) => write_sweep(out, 12, *max),
            Self::Reclaim(max) => write_sweep(out, 13, *max),
            Self::Expire(max) => write_sweep(out, 14, *max),
            Self::Purge(max) => write_sweep(out, 15, *max),
            Self::PutSchedules(schedules) => {
                out.byte(16);
                write_list(out, schedules, |out, schedule| out.bytes(&encode(schedule)));
            }
            Self::RemoveSchedules(names) => {
                out.byte(17);
                write_list(out, names, |out, (tenant, name)| {
                    out.text(tenant.as_str());
                    out.text(name.as_str());
                });
            }
            Self::Fire(fires) => {
                out.byte(18);
                write_list(out, fires, write_fire);
            }
            Self::Import(tasks) => {
                out.byte(19);
                write_list(out, tasks, write_copy);
            }
            Self::Spare(leapt) => {
                out.byte(20);
                out.span(*leapt);
            }
            Self::Restored => out.byte(21),
        }
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged, or of a newer version.
    pub fn read(input: &mut In<'_>) -> Read<Self> {
        Ok(match input.byte()? {
            1 => Self::Enqueue(read_tasks(input)?),
            2 => Self::OpenSession(input.session()?, input.span()?),
            3 => Self::CloseSession(read_session(input)?),
            4 => Self::Claim(read_session(input)?, input.list(read_want)?),
            5 => {
                let session = read_session(input)?;
                Self::Heartbeat(session, Held { count: input.number()?, digest: input.fixed()? })
            }
            6 => {
                let session = read_session(input)?;
                Self::Reconcile(session, input.list(|input| Ok((input.id()?, input.token()?)))?)
            }
            7 => Self::Finish(input.list(read_end)?),
            8 => Self::Cancel(read_select(input)?),
            9 => Self::Retry(read_select(input)?),
            10 => Self::Remove(read_select(input)?),
            11 => Self::Pause(input.lane()?, input.flag()?),
            12 => Self::Promote(input.count()?),
            13 => Self::Reclaim(input.count()?),
            14 => Self::Expire(input.count()?),
            15 => Self::Purge(input.count()?),
            16 => Self::PutSchedules(input.list(|input| decode("schedule", input.bytes()?))?),
            17 => Self::RemoveSchedules(input.list(|input| Ok((input.name()?, input.name()?)))?),
            18 => Self::Fire(input.list(read_fire)?),
            19 => Self::Import(input.list(read_copy)?),
            20 => Self::Spare(input.span()?),
            21 => Self::Restored,
            // An entry's checksum was right, so somebody meant this.
            other => {
                let reason = format!(
                    "this version knows no command {other}, so a newer omniq wrote it: go on with that one"
                );
                return Err(bad(reason));
            }
        })
    }
}

pub(super) fn write_list<T>(out: &mut Out, items: &[T], mut write: impl FnMut(&mut Out, &T)) {
    out.count(items.len());
    for item in items {
        write(out, item);
    }
}

fn write_tasks(out: &mut Out, tasks: &[Task]) {
    write_list(out, tasks, |out, task| out.bytes(&task.encode()));
}

fn read_tasks(input: &mut In<'_>) -> Read<Vec<Task>> {
    input.list(|input| Task::decode(input.bytes()?))
}

pub(super) fn write_session(out: &mut Out, session: &Session) {
    out.session(session.id);
    out.span(session.lease);
}

pub(super) fn read_session(input: &mut In<'_>) -> Read<Session> {
    Ok(Session { id: input.session()?, lease: input.span()? })
}

fn write_want(out: &mut Out, want: &Want) {
    out.lane(&want.lane);
    out.count(want.max);
    out.count(want.bytes);
    out.fixed(want.nonce);
}

fn read_want(input: &mut In<'_>) -> Read<Want> {
    let (lane, max, bytes) = (input.lane()?, input.count()?, input.count()?);
    Ok(Want { lane, max, bytes, nonce: input.fixed()? })
}

fn write_sweep(out: &mut Out, kind: u8, max: usize) {
    out.byte(kind);
    out.count(max);
}

fn write_end(out: &mut Out, end: &End) {
    out.id(end.id);
    out.token(end.token);
    let mut ended = |kind: u8, result: &TaskResult| {
        out.byte(kind);
        out.bytes(&encode(result));
    };
    match &end.how {
        How::Succeeded(result) => ended(0, result),
        How::Failed(result) => ended(1, result),
        How::Cancelled(result) => ended(2, result),
        How::Retry { after, error } => {
            out.byte(3);
            out.span(*after);
            out.bytes(&encode(error));
        }
        How::Release { after, error } => {
            out.byte(4);
            out.span(*after);
            out.option(error.as_ref(), |out, error| out.bytes(&encode(error)));
        }
    }
}

fn read_end(input: &mut In<'_>) -> Read<End> {
    let (id, token) = (input.id()?, input.token()?);
    let result = |input: &mut In<'_>| decode::<TaskResult>("result", input.bytes()?);
    let error = |input: &mut In<'_>| decode::<TaskError>("error", input.bytes()?);
    let how = match input.byte()? {
        0 => How::Succeeded(result(input)?.into()),
        1 => How::Failed(result(input)?.into()),
        2 => How::Cancelled(result(input)?.into()),
        3 => How::Retry { after: input.span()?, error: error(input)? },
        4 => How::Release { after: input.span()?, error: input.option(error)? },
        other => return Err(bad(format!("this version knows no end {other}"))),
    };
    Ok(End { id, token, how })
}

fn write_select(out: &mut Out, kind: u8, select: &Select) {
    out.byte(kind);
    out.count(select.max);
    write_filter(out, &select.filter);
}

pub(super) fn write_filter(out: &mut Out, filter: &Filter) {
    write_list(out, &filter.ids, |out, id| out.id(*id));
    write_list(out, &filter.states, |out, state| out.byte(state.number()));
    let name = |out: &mut Out, name: &Option<Name>| {
        out.option(name.as_ref(), |out, name| out.text(name.as_str()));
    };
    name(out, &filter.tenant);
    name(out, &filter.queue);
    name(out, &filter.module);
    out.option(filter.function.as_ref(), |out, function| out.text(function));
    out.count(filter.labels.len());
    for (key, value) in &filter.labels {
        out.text(key);
        out.text(value);
    }
    out.option(filter.created_from, Out::instant);
    out.option(filter.created_to, Out::instant);
}

fn read_select(input: &mut In<'_>) -> Read<Select> {
    let max = input.count()?;
    Ok(Select { filter: read_filter(input)?, max })
}

pub(super) fn read_filter(input: &mut In<'_>) -> Read<Filter> {
    let state = |input: &mut In<'_>| Ok(State::from_number(input.byte()?));
    let text = |input: &mut In<'_>| Ok(input.text()?.to_owned());
    let (ids, states) = (input.list(In::id)?, input.list(state)?);
    let [tenant, queue, module] =
        [input.option(In::name)?, input.option(In::name)?, input.option(In::name)?];
    let function = input.option(text)?;
    let labels = input.list(|input| Ok((text(input)?, text(input)?)))?;
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    let (created_from, created_to) = (input.option(In::instant)?, input.option(In::instant)?);
    Ok(Filter { ids, states, tenant, queue, module, function, labels, created_from, created_to })
}

fn write_fire(out: &mut Out, fire: &Fire) {
    out.text(fire.tenant.as_str());
    out.text(fire.name.as_str());
    out.number(fire.version);
    out.option(fire.next, Out::instant);
    write_tasks(out, &fire.tasks);
}

fn read_fire(input: &mut In<'_>) -> Read<Fire> {
    let (tenant, name, version) = (input.name()?, input.name()?, input.number()?);
    Ok(Fire { tenant, name, version, next: input.option(In::instant)?, tasks: read_tasks(input)? })
}
