//! Answers as bytes: how the process that has the state machine answers the others.

use std::sync::Arc;

use omniq_model::record::{decode, encode};
use omniq_model::{DecodeError, Head, State, Task};

use super::Answer;
use super::command::{read_session, write_list, write_session};
use super::wire::{In, Out, Read, bad};
use crate::{
    Beat, CopyPage, Counts, Due, Enqueued, Finished, Fired, Imported, Info, Lease, Moved, Outcome,
    Page, Refusal, Stats, TaskCopy, WorkerSeen,
};

impl Answer {
    /// Writes it down.
    pub fn write(&self, out: &mut Out) {
        match self {
            Self::Done => out.byte(0),
            Self::Enqueued(all) => list(out, 1, all, write_enqueued),
            Self::Session(session) => {
                out.byte(2);
                write_session(out, session);
            }
            Self::Leases(all) => list(out, 3, all, write_lease),
            Self::Beat(beat) => {
                out.byte(4);
                write_beat(out, beat);
            }
            Self::Finished(all) => list(out, 5, all, write_finished),
            Self::Moved(all) => list(out, 6, all, write_moved),
            Self::Outcome(outcome) => {
                out.byte(7);
                write_outcome(out, outcome);
            }
            Self::Due(due) => {
                out.byte(8);
                out.count(due.promoted);
                out.option(due.next, Out::span);
            }
            Self::Count(count) => {
                out.byte(9);
                out.count(*count);
            }
            Self::Versions(all) => list(out, 10, all, |out, it| out.option(*it, Out::number)),
            Self::Flags(all) => list(out, 11, all, |out, flag| out.flag(*flag)),
            Self::Fired(all) => list(out, 12, all, |out, it| out.flag(*it == Fired::Fired)),
            Self::Now(now) => {
                out.byte(13);
                out.instant(*now);
            }
            Self::Cancels(all) => list(out, 14, all, |out, (id, token)| {
                out.id(*id);
                out.token(*token);
            }),
            Self::Lanes(all) => list(out, 15, all, Out::lane),
            Self::Schedules(all) => list(out, 16, all, |out, it| out.bytes(&encode(it))),
            Self::Found(all) => list(out, 17, all, |out, it| out.option(it.as_ref(), write_info)),
            Self::Page(page) => {
                list(out, 18, &page.items, write_info);
                out.option(page.next, Out::number);
            }
            Self::Counts(counts) => {
                out.byte(19);
                write_counts(out, counts);
            }
            Self::Ended(all) => list(out, 20, all, write_info),
            Self::Imported(all) => list(out, 21, all, write_imported),
            Self::Copies(page) => {
                list(out, 22, &page.items, write_copy);
                out.option(page.next, Out::number);
            }
            Self::Stats(stats) => {
                out.byte(23);
                write_stats(out, stats);
            }
        }
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged, or of a newer version.
    pub fn read(input: &mut In<'_>) -> Read<Self> {
        Ok(match input.byte()? {
            0 => Self::Done,
            1 => Self::Enqueued(input.list(read_enqueued)?),
            2 => Self::Session(read_session(input)?),
            3 => Self::Leases(input.list(read_lease)?),
            4 => Self::Beat(read_beat(input)?),
            5 => Self::Finished(input.list(read_finished)?),
            6 => Self::Moved(input.list(read_moved)?),
            7 => Self::Outcome(read_outcome(input)?),
            8 => Self::Due(Due { promoted: input.count()?, next: input.option(In::span)? }),
            9 => Self::Count(input.count()?),
            10 => Self::Versions(input.list(|input| input.option(In::number))?),
            11 => Self::Flags(input.list(In::flag)?),
            12 => Self::Fired(
                input.list(|input| Ok(if input.flag()? { Fired::Fired } else { Fired::Lost }))?,
            ),
            13 => Self::Now(input.instant()?),
            14 => Self::Cancels(input.list(|input| Ok((input.id()?, input.token()?)))?),
            15 => Self::Lanes(input.list(In::lane)?),
            16 => Self::Schedules(input.list(|input| decode("schedule", input.bytes()?))?),
            17 => Self::Found(input.list(|input| input.option(read_info))?),
            18 => {
                Self::Page(Page { items: input.list(read_info)?, next: input.option(In::number)? })
            }
            19 => Self::Counts(read_counts(input)?),
            20 => Self::Ended(input.list(read_info)?),
            21 => Self::Imported(input.list(read_imported)?),
            22 => Self::Copies(CopyPage {
                items: input.list(read_copy)?,
                next: input.option(In::number)?,
            }),
            23 => Self::Stats(Box::new(read_stats(input)?)),
            other => return Err(bad(format!("this version knows no answer {other}"))),
        })
    }
}

fn list<T>(out: &mut Out, kind: u8, items: &[T], write: impl FnMut(&mut Out, &T)) {
    out.byte(kind);
    write_list(out, items, write);
}

fn read_state(input: &mut In<'_>) -> Read<State> {
    Ok(State::from_number(input.byte()?))
}

fn read_u32(input: &mut In<'_>) -> Read<u32> {
    u32::try_from(input.number()?).map_err(|_| bad("a count is too large"))
}

fn write_enqueued(out: &mut Out, enqueued: &Enqueued) {
    match enqueued {
        Enqueued::Created => out.byte(0),
        Enqueued::Duplicate { id, state } => {
            out.byte(1);
            out.id(*id);
            out.byte(state.number());
        }
        Enqueued::Conflict => out.byte(2),
        Enqueued::Refused(Refusal::UnknownParent(id)) => {
            out.byte(3);
            out.id(*id);
        }
    }
}

fn read_enqueued(input: &mut In<'_>) -> Read<Enqueued> {
    Ok(match input.byte()? {
        0 => Enqueued::Created,
        1 => Enqueued::Duplicate { id: input.id()?, state: read_state(input)? },
        2 => Enqueued::Conflict,
        3 => Enqueued::Refused(Refusal::UnknownParent(input.id()?)),
        other => return Err(bad(format!("this version knows no outcome {other}"))),
    })
}

/// A task that the other side cannot read is an error there for this task alone.
fn write_task(out: &mut Out, task: &Result<Arc<Task>, DecodeError>) {
    match task {
        Ok(task) => {
            out.flag(true);
            out.bytes(&task.encode());
        }
        Err(error) => {
            out.flag(false);
            out.text(&error.reason);
        }
    }
}

fn read_task(input: &mut In<'_>) -> Read<Result<Arc<Task>, DecodeError>> {
    Ok(if input.flag()? {
        Task::decode(input.bytes()?).map(Arc::new)
    } else {
        Err(DecodeError { what: "task", reason: input.text()?.to_owned() })
    })
}

fn write_lease(out: &mut Out, lease: &Lease) {
    out.id(lease.id);
    out.token(lease.token);
    out.number(lease.attempt.into());
    out.number(lease.crashes.into());
    out.instant(lease.created);
    write_task(out, &lease.task);
}

fn read_lease(input: &mut In<'_>) -> Read<Lease> {
    Ok(Lease {
        id: input.id()?,
        token: input.token()?,
        attempt: read_u32(input)?,
        crashes: read_u32(input)?,
        created: input.instant()?,
        task: read_task(input)?,
    })
}

fn write_beat(out: &mut Out, beat: &Beat) {
    match beat {
        Beat::Alive { matches, cancel } => {
            out.flag(true);
            out.flag(*matches);
            write_list(out, cancel, |out, (id, token)| {
                out.id(*id);
                out.token(*token);
            });
        }
        Beat::Dead => out.flag(false),
    }
}

fn read_beat(input: &mut In<'_>) -> Read<Beat> {
    if !input.flag()? {
        return Ok(Beat::Dead);
    }
    let matches = input.flag()?;
    Ok(Beat::Alive { matches, cancel: input.list(|input| Ok((input.id()?, input.token()?)))? })
}

fn write_finished(out: &mut Out, finished: &Finished) {
    match finished {
        Finished::Applied(state) => {
            out.byte(0);
            out.byte(state.number());
        }
        Finished::AppliedBefore(state) => {
            out.byte(1);
            out.byte(state.number());
        }
        Finished::Stale => out.byte(2),
    }
}

fn read_finished(input: &mut In<'_>) -> Read<Finished> {
    Ok(match input.byte()? {
        0 => Finished::Applied(read_state(input)?),
        1 => Finished::AppliedBefore(read_state(input)?),
        2 => Finished::Stale,
        other => return Err(bad(format!("this version knows no outcome {other}"))),
    })
}

fn write_moved(out: &mut Out, moved: &Moved) {
    out.id(moved.id);
    out.lane(&moved.lane);
    out.number(moved.fence);
    out.number(moved.attempt.into());
    out.byte(moved.from.number());
    out.byte(moved.to.number());
}

fn read_moved(input: &mut In<'_>) -> Read<Moved> {
    Ok(Moved {
        id: input.id()?,
        lane: input.lane()?,
        fence: input.number()?,
        attempt: read_u32(input)?,
        from: read_state(input)?,
        to: read_state(input)?,
    })
}

fn write_outcome(out: &mut Out, outcome: &Outcome) {
    write_list(out, &outcome.moved, write_moved);
    write_list(out, &outcome.requested, |out, id| out.id(*id));
    write_list(out, &outcome.skipped, |out, (id, state)| {
        out.id(*id);
        out.byte(state.number());
    });
}

fn read_outcome(input: &mut In<'_>) -> Read<Outcome> {
    Ok(Outcome {
        moved: input.list(read_moved)?,
        requested: input.list(In::id)?,
        skipped: input.list(|input| Ok((input.id()?, read_state(input)?)))?,
    })
}

fn write_info(out: &mut Out, info: &Info) {
    out.id(info.id);
    out.lane(&info.lane);
    write_task(out, &info.task);
    let head = &info.head;
    out.byte(head.state.number());
    out.number(head.seq);
    out.number(head.attempt.into());
    out.number(head.crashes.into());
    out.number(head.fence);
    out.option(head.lease, |out, (session, token)| {
        out.session(session);
        out.token(token);
    });
    out.flag(head.cancel_requested);
    out.instant(head.created);
    out.option(head.run_at, Out::instant);
    out.option(head.started, Out::instant);
    out.option(head.finished, Out::instant);
    out.option(head.error.as_ref(), |out, error| out.bytes(&encode(error)));
    out.option(head.result.as_ref(), |out, result| out.bytes(&encode(result)));
}

fn read_info(input: &mut In<'_>) -> Read<Info> {
    let (id, lane, task) = (input.id()?, input.lane()?, read_task(input)?);
    let head = Head {
        state: read_state(input)?,
        seq: input.number()?,
        attempt: read_u32(input)?,
        crashes: read_u32(input)?,
        fence: input.number()?,
        lease: input.option(|input| Ok((input.session()?, input.token()?)))?,
        cancel_requested: input.flag()?,
        created: input.instant()?,
        run_at: input.option(In::instant)?,
        started: input.option(In::instant)?,
        finished: input.option(In::instant)?,
        error: input.option(|input| decode("error", input.bytes()?))?,
        result: input.option(|input| decode("result", input.bytes()?))?,
    };
    Ok(Info { id, lane, task, head })
}

pub(super) fn write_copy(out: &mut Out, copy: &TaskCopy) {
    write_info(out, &copy.info);
    out.option(copy.expires, Out::instant);
    out.flag(copy.holds_key);
}

pub(super) fn read_copy(input: &mut In<'_>) -> Read<TaskCopy> {
    Ok(TaskCopy {
        info: read_info(input)?,
        expires: input.option(In::instant)?,
        holds_key: input.flag()?,
    })
}

fn write_imported(out: &mut Out, imported: &Imported) {
    match imported {
        Imported::Created => out.byte(0),
        Imported::There => out.byte(1),
        Imported::KeyTaken(id) => {
            out.byte(2);
            out.id(*id);
        }
        Imported::Unreadable => out.byte(3),
    }
}

fn read_imported(input: &mut In<'_>) -> Read<Imported> {
    Ok(match input.byte()? {
        0 => Imported::Created,
        1 => Imported::There,
        2 => Imported::KeyTaken(input.id()?),
        3 => Imported::Unreadable,
        other => return Err(bad(format!("this version knows no outcome {other}"))),
    })
}

fn write_counts(out: &mut Out, counts: &Counts) {
    out.count(counts.len());
    for (state, count) in counts {
        out.byte(state.number());
        out.number(*count);
    }
}

fn read_counts(input: &mut In<'_>) -> Read<Counts> {
    let counts = input.list(|input| Ok((read_state(input)?, input.number()?)))?;
    Ok(counts.into_iter().collect())
}

/// Without bytes: whoever asks looks for itself.
fn write_stats(out: &mut Out, stats: &Stats) {
    write_counts(out, &stats.counts);
    write_list(out, &stats.paused, Out::lane);
    write_list(out, &stats.workers, |out, worker| {
        out.session(worker.session);
        out.text(&worker.name);
        out.instant(worker.until);
        out.number(worker.holds);
    });
    out.option(stats.oldest_ready, Out::instant);
    out.option(stats.history, |out, (first, last)| {
        out.instant(first);
        out.instant(last);
    });
}

fn read_stats(input: &mut In<'_>) -> Read<Stats> {
    Ok(Stats {
        counts: read_counts(input)?,
        paused: input.list(In::lane)?,
        workers: input.list(|input| {
            Ok(WorkerSeen {
                session: input.session()?,
                name: input.text()?.to_owned(),
                until: input.instant()?,
                holds: input.number()?,
            })
        })?,
        oldest_ready: input.option(In::instant)?,
        history: input.option(|input| Ok((input.instant()?, input.instant()?)))?,
        bytes: Vec::new(),
    })
}
