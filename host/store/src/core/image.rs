//! The whole state machine as bytes, and back: what a backend with a log of commands starts from, so that it need not apply
//! the log from its beginning.
//!
//! Taking an image copies no task, however many there are, but every unique key and every dependency; writing it down needs the
//! state machine no more. Two state machines that have applied the same commands have the same image, byte for byte.

use std::collections::HashMap;
use std::sync::Arc;

use omniq_model::record::{decode, encode};
use omniq_model::{Lane, Name, Schedule, SessionId, State, Task, Timestamp};

use super::Core;
use super::slot::{Ix, Slot, Slots, place};
use crate::log::wire::{In, Out, Read, bad};

/// How images are written. An image of a higher number is refused.
const FORMAT: u64 = 1;

/// Everything a [`Core`] holds, at one instant.
#[derive(Debug)]
pub struct Image {
    last_seq: u64,
    sessions: Vec<(SessionId, Timestamp)>,
    slots: Slots,
    /// How many these are.
    tasks: usize,
    /// Who is waited for, and by whom, as places in the order of arrival.
    edges: Vec<(u64, u64)>,
    keys: Vec<(Name, String, u64, Option<Timestamp>)>,
    paused: Vec<Lane>,
    schedules: Vec<Schedule>,
    /// The latest version of any schedule.
    version: u64,
}

impl Core {
    /// Everything there is now.
    pub fn image(&self) -> Image {
        let seq = |ix: Ix| self.slots[ix].seq;
        let mut edges: Vec<_> =
            self.edges.iter().map(|(parent, child, _)| (seq(parent), child)).collect();
        edges.sort_unstable();
        let keys = self.keys.holders();
        let mut keys: Vec<_> = keys
            .map(|(tenant, key, task, until)| (tenant.clone(), key.to_owned(), seq(task), until))
            .collect();
        keys.sort_unstable();
        let mut paused: Vec<_> =
            self.lanes.iter().filter(|lane| lane.paused).map(|lane| lane.name.clone()).collect();
        paused.sort_unstable();
        let (schedules, version) = self.schedules.all();
        Image {
            last_seq: self.last_seq,
            sessions: self.sessions.expiries(),
            slots: self.slots.clone(),
            tasks: self.ids.len(),
            edges,
            keys,
            paused,
            schedules: schedules.cloned().collect(),
            version,
        }
    }

    /// The state machine of that image.
    ///
    /// # Errors
    /// The bytes are damaged, or of a newer version.
    pub fn restore(input: &mut In<'_>) -> Read<Self> {
        let format = input.number()?;
        if format != FORMAT {
            return Err(bad(format!("this version knows no image {format}")));
        }
        let mut core = Self { last_seq: input.number()?, ..Self::default() };
        for (id, expires) in input.list(|input| Ok((input.session()?, input.instant()?)))? {
            core.sessions.restore(id, expires);
        }
        let mut arrivals = HashMap::new();
        for _ in 0..input.entries()? {
            let slot = core.read_slot(input)?;
            let (id, seq) = (slot.id, slot.seq);
            if core.ids.contains_key(&id) {
                return Err(bad(format!("task `{id}` stands in it twice")));
            }
            arrivals.insert(seq, core.admit(slot));
        }
        let find = |seq: u64| {
            arrivals.get(&seq).copied().ok_or_else(|| bad(format!("there is no task number {seq}")))
        };
        for (parent, child) in input.list(|input| Ok((input.number()?, input.number()?)))? {
            core.edges.add(find(parent)?, find(child)?, child);
        }
        for _ in 0..input.entries()? {
            let (tenant, key) = (input.name()?, input.text()?.to_owned());
            let (task, until) = (find(input.number()?)?, input.option(In::instant)?);
            core.keys.restore(tenant, key, task, until);
        }
        for lane in input.list(In::lane)? {
            core.lanes.pause(&lane, true);
        }
        let schedules = input.list(|input| decode("schedule", input.bytes()?))?;
        core.schedules.restore(schedules, input.number()?);
        core.take_changed();
        Ok(core)
    }

    fn read_slot(&mut self, input: &mut In<'_>) -> Read<Slot> {
        let task = Task::decode(input.bytes()?)?;
        let (state, seq) = (State::from_number(input.byte()?), input.number()?);
        if matches!(state, State::Other(_)) {
            return Err(bad("a task is in a state that this version does not know"));
        }
        let number = |input: &mut In<'_>| {
            u32::try_from(input.number()?).map_err(|_| bad("a count is too large"))
        };
        Ok(Slot {
            id: task.id,
            place: place(task.priority, seq),
            keyed: task.unique.is_some(),
            lane: self.lanes.obtain(&task.lane),
            state,
            seq,
            attempt: number(input)?,
            crashes: number(input)?,
            unmet: number(input)?,
            token: input.token()?,
            session: input.option(In::session)?,
            committed: input.flag()?,
            cancel_requested: input.flag()?,
            created: input.instant()?,
            run_at: input.option(In::instant)?,
            expires: input.option(In::instant)?,
            started: input.option(In::instant)?,
            finished: input.option(In::instant)?,
            error: input.option(|input| decode("error", input.bytes()?))?.map(Box::new),
            result: input.option(|input| decode("result", input.bytes()?))?.map(Arc::new),
            task: Arc::new(task),
        })
    }
}

impl Image {
    /// How many tasks are in it.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// Writes it down.
    pub fn write(&self, out: &mut Out) {
        out.number(FORMAT);
        out.number(self.last_seq);
        out.count(self.sessions.len());
        for (id, expires) in &self.sessions {
            out.session(*id);
            out.instant(*expires);
        }
        out.count(self.tasks);
        let mut slots: Vec<&Slot> = self.slots.iter().map(|(_, slot)| slot).collect();
        slots.sort_unstable_by_key(|slot| slot.seq); // in the order of arrival
        for slot in slots {
            write_slot(out, slot);
        }
        out.count(self.edges.len());
        for (parent, child) in &self.edges {
            out.number(*parent);
            out.number(*child);
        }
        out.count(self.keys.len());
        for (tenant, key, task, until) in &self.keys {
            out.text(tenant.as_str());
            out.text(key);
            out.number(*task);
            out.option(*until, Out::instant);
        }
        out.count(self.paused.len());
        for lane in &self.paused {
            out.lane(lane);
        }
        out.count(self.schedules.len());
        for schedule in &self.schedules {
            out.bytes(&encode(schedule));
        }
        out.number(self.version);
    }
}

fn write_slot(out: &mut Out, slot: &Slot) {
    out.bytes(&slot.task.encode());
    out.byte(slot.state.number());
    out.number(slot.seq);
    out.number(slot.attempt.into());
    out.number(slot.crashes.into());
    out.number(slot.unmet.into());
    out.token(slot.token);
    out.option(slot.session, Out::session);
    out.flag(slot.committed);
    out.flag(slot.cancel_requested);
    out.instant(slot.created);
    out.option(slot.run_at, Out::instant);
    out.option(slot.expires, Out::instant);
    out.option(slot.started, Out::instant);
    out.option(slot.finished, Out::instant);
    out.option(slot.error.as_deref(), |out, error| out.bytes(&encode(error)));
    out.option(slot.result.as_deref(), |out, result| out.bytes(&encode(result)));
}
