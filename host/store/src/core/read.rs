//! Looking, without changing anything.

use std::iter::Peekable;
use std::ops::{Bound, Range};

use omniq_model::{Lane, State, TaskId, Timestamp};

use super::Core;
use super::slot::{Ix, Slot};
use crate::{Counts, Filter, Info, Page};

/// Bytes of tasks and results after which an answer ends.
pub(super) const PAGE_BYTES: usize = 16 << 20;

type Arrivals<'a> = Box<dyn Iterator<Item = (u64, Ix)> + 'a>;

impl Core {
    /// See [`TaskStore::get`](crate::TaskStore::get).
    pub fn get(&self, ids: &[TaskId]) -> Vec<Option<Info>> {
        ids.iter().map(|id| self.ids.get(id).map(|ix| self.slots[*ix].info())).collect()
    }

    /// See [`TaskStore::list`](crate::TaskStore::list).
    pub fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Page {
        let mut fitting = self.matching(filter, 0..before.unwrap_or(u64::MAX), true);
        let items: Vec<Info> = fitting.by_ref().take(max).map(|ix| self.slots[ix].info()).collect();
        let last = items.last().map(|info| info.head.seq);
        let next = last.filter(|_| fitting.next().is_some());
        Page { items, next }
    }

    /// See [`TaskStore::count`](crate::TaskStore::count).
    pub fn count(&self, filter: &Filter) -> Counts {
        let mut counts = Counts::new();
        if filter.is_of_lanes() {
            for lane in self.lanes.iter().filter(|lane| filter.fits_lane(&lane.name)) {
                for state in filter.states() {
                    *counts.entry(state).or_default() += lane.counts[usize::from(state.number())];
                }
            }
        } else {
            for ix in self.matching(filter, 0..u64::MAX, false) {
                *counts.entry(self.slots[ix].state).or_default() += 1;
            }
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// See [`TaskStore::ended`](crate::TaskStore::ended).
    pub fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Vec<Info> {
        let later = self.ended.range((Bound::Excluded(after), Bound::Unbounded));
        let mut bytes = 0;
        let fitting = later.take(max).map(|(_, ix)| &self.slots[*ix]).take_while(|slot| {
            let is_first = bytes == 0;
            bytes = slot.weight().saturating_add(bytes);
            is_first || bytes <= PAGE_BYTES
        });
        fitting.map(Slot::info).collect()
    }

    /// Tasks that fit, in the order of arrival or the reverse, of those that arrived within `range`.
    pub(super) fn matching<'a>(
        &'a self,
        filter: &'a Filter,
        range: Range<u64>,
        newest_first: bool,
    ) -> impl Iterator<Item = Ix> + 'a {
        let candidates = if filter.ids.is_empty() {
            self.arrivals(filter, range, newest_first)
        } else {
            self.named(filter, range, newest_first)
        };
        candidates.map(|(_, ix)| ix).filter(|ix| filter.fits(&self.slots[*ix]))
    }

    fn named(&self, filter: &Filter, range: Range<u64>, newest_first: bool) -> Arrivals<'_> {
        let found = filter.ids.iter().filter_map(|id| self.ids.get(id));
        let mut named: Vec<_> = found.map(|ix| (self.slots[*ix].seq, *ix)).collect();
        named.retain(|(seq, _)| range.contains(seq));
        named.sort_unstable();
        named.dedup();
        if newest_first {
            named.reverse();
        }
        Box::new(named.into_iter())
    }

    /// Every task in one of the filter's states that a lane of the filter has at all, in order.
    fn arrivals(&self, filter: &Filter, range: Range<u64>, newest_first: bool) -> Arrivals<'_> {
        let mut sources: Vec<Peekable<Arrivals<'_>>> = Vec::new();
        for state in filter.states().filter(|state| self.has_any(filter, *state)) {
            let tasks = &self.by_state[usize::from(state.number())];
            let tasks = tasks.range(range.clone()).map(|(seq, ix)| (*seq, *ix));
            let tasks: Arrivals<'_> =
                if newest_first { Box::new(tasks.rev()) } else { Box::new(tasks) };
            sources.push(tasks.peekable());
        }
        Box::new(std::iter::from_fn(move || next_of(&mut sources, newest_first)))
    }

    /// Whether the filter's lanes have any task in that state; spares a walk over those of others.
    fn has_any(&self, filter: &Filter, state: State) -> bool {
        let number = usize::from(state.number());
        match (&filter.tenant, &filter.queue) {
            (None, None) => !self.by_state[number].is_empty(),
            _ => self
                .lanes
                .iter()
                .any(|lane| lane.counts[number] > 0 && filter.fits_lane(&lane.name)),
        }
    }
}

/// The next of several ordered sources.
fn next_of(sources: &mut [Peekable<Arrivals<'_>>], newest_first: bool) -> Option<(u64, Ix)> {
    let heads = sources.iter_mut().enumerate();
    let heads = heads.filter_map(|(index, source)| Some((source.peek()?.0, index)));
    let (_, index) = if newest_first { heads.max() } else { heads.min() }?;
    sources[index].next()
}

impl Filter {
    /// The states it allows, each once.
    fn states(&self) -> impl Iterator<Item = State> + '_ {
        let all = State::ALL.iter().copied();
        all.filter(|state| self.states.is_empty() || self.states.contains(state))
    }

    /// Whether it asks for nothing but lanes and states.
    fn is_of_lanes(&self) -> bool {
        let Self { ids, states: _, tenant: _, queue: _, module, function, labels, .. } = self;
        ids.is_empty()
            && module.is_none()
            && function.is_none()
            && labels.is_empty()
            && self.created_from.is_none()
            && self.created_to.is_none()
    }

    fn fits_lane(&self, lane: &Lane) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == lane.tenant)
            && self.queue.as_ref().is_none_or(|queue| *queue == lane.queue)
    }

    /// Whether a task fits in all but its id.
    fn fits(&self, slot: &Slot) -> bool {
        let task = &slot.task;
        (self.states.is_empty() || self.states.contains(&slot.state))
            && self.fits_lane(&task.lane)
            && self.module.as_ref().is_none_or(|module| *module == task.module.name)
            && self.function.as_ref().is_none_or(|function| *function == task.function)
            && self.labels.iter().all(|(name, value)| task.labels.get(name) == Some(value))
            && self.created_from.is_none_or(|from| from <= slot.created)
            && self.created_to.is_none_or(|to| slot.created < to)
    }
}
