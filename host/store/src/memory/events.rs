//! The event store in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use omniq_model::{EventKind, TaskEvent, TaskId, Timestamp};

use super::lock;
use crate::{EventFilter, EventStore, Result};

/// Events in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryEvents(Arc<Mutex<Kept>>);

type Identity = (TaskId, u64, EventKind);

#[derive(Debug, Default)]
struct Kept {
    /// By their time, then by their position, which is their number in the order of arrival.
    events: BTreeMap<(Timestamp, u64), TaskEvent>,
    times: HashMap<u64, Timestamp>,
    identities: BTreeSet<Identity>,
    by_task: BTreeSet<(TaskId, Timestamp, u64)>,
    last: u64,
    mark: Option<(Timestamp, TaskId)>,
}

impl MemoryEvents {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

fn identity(event: &TaskEvent) -> Identity {
    (event.task, event.fence, event.kind)
}

impl Kept {
    fn append(&mut self, event: TaskEvent) {
        if self.identities.insert(identity(&event)) {
            self.last += 1;
            self.times.insert(self.last, event.at);
            self.by_task.insert((event.task, event.at, self.last));
            self.events.insert((event.at, self.last), event);
        }
    }

    fn forget(&mut self, place: (Timestamp, u64)) {
        if let Some(event) = self.events.remove(&place) {
            self.times.remove(&place.1);
            self.identities.remove(&identity(&event));
            self.by_task.remove(&(event.task, place.0, place.1));
        }
    }

    /// Where a query begins: behind the position, but not before the filter's first instant. A position that was
    /// purged lies before everything that is left.
    fn start(&self, filter: &EventFilter, after: Option<u64>) -> Bound<(Timestamp, u64)> {
        let behind = after.and_then(|position| Some((*self.times.get(&position)?, position)));
        match (behind, filter.from) {
            (Some(place), Some(from)) if place.0 < from => Bound::Included((from, 0)),
            (Some(place), _) => Bound::Excluded(place),
            (None, Some(from)) => Bound::Included((from, 0)),
            (None, None) => Bound::Unbounded,
        }
    }

    fn query(&self, filter: &EventFilter, after: Option<u64>, max: usize) -> Vec<(u64, TaskEvent)> {
        let start = self.start(filter, after);
        let end = filter.to.map_or(Bound::Unbounded, |to| Bound::Excluded((to, 0)));
        let empty = matches!((start, end),
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) if start >= end);
        if empty {
            return Vec::new();
        }
        let fits =
            |event: &TaskEvent| filter.kinds.is_empty() || filter.kinds.contains(&event.kind);
        let found: Box<dyn Iterator<Item = ((Timestamp, u64), &TaskEvent)> + '_> = match filter.task
        {
            Some(task) => {
                let of = |place: (Timestamp, u64)| (task, place.0, place.1);
                let first = (task, Timestamp::from_millis(i64::MIN), 0);
                let last = (task, Timestamp::from_millis(i64::MAX), u64::MAX);
                let start =
                    if start == Bound::Unbounded { Bound::Included(first) } else { start.map(of) };
                let end = if end == Bound::Unbounded { Bound::Included(last) } else { end.map(of) };
                let places =
                    self.by_task.range((start, end)).map(|(_, at, position)| (*at, *position));
                Box::new(places.filter_map(|place| Some((place, self.events.get(&place)?))))
            }
            None => Box::new(self.events.range((start, end)).map(|(place, event)| (*place, event))),
        };
        let found = found.filter(|(_, event)| fits(event)).take(max);
        found.map(|((_, position), event)| (position, event.clone())).collect()
    }
}

#[async_trait]
impl EventStore for MemoryEvents {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn append(&self, events: Vec<TaskEvent>) -> Result<()> {
        let mut kept = lock(&self.0)?;
        for event in events {
            let (began, event) = event.apart();
            began.into_iter().chain([event]).for_each(|event| kept.append(event));
        }
        Ok(())
    }

    async fn query(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, TaskEvent)>> {
        Ok(lock(&self.0)?.query(filter, after, max))
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<usize> {
        let mut kept = lock(&self.0)?;
        let old = kept.events.range(..(before, 0)).take(max);
        let old: Vec<_> = old.map(|(place, _)| *place).collect();
        old.iter().for_each(|place| kept.forget(*place));
        Ok(old.len())
    }

    async fn watermark(&self) -> Result<(Timestamp, TaskId)> {
        // No task has the lowest of all ids: it is no UUID that anybody makes.
        let start = (Timestamp::from_millis(i64::MIN), TaskId::from_bytes([0; 16]));
        Ok(lock(&self.0)?.mark.unwrap_or(start))
    }

    async fn set_watermark(&self, mark: (Timestamp, TaskId)) -> Result<()> {
        let mut kept = lock(&self.0)?;
        kept.mark = kept.mark.max(Some(mark));
        Ok(())
    }

    /// Does nothing: the events live as long as somebody holds the store.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniq_model::Lane;

    fn event(fence: u64, at: i64) -> TaskEvent {
        TaskEvent {
            task: TaskId::derived(&[b"t"]),
            fence,
            kind: EventKind::Started,
            at: Timestamp::from_millis(at),
            lane: Lane::default(),
            attempt: 1,
            session: None,
            error: None,
            micros: 0,
            missing: 0,
            what: String::new(),
            began: None,
            unknown: Default::default(),
        }
    }

    /// The fences of what a query gives, and where it stopped.
    fn query(
        kept: &Kept,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> (Vec<u64>, Option<u64>) {
        let found = kept.query(filter, after, max);
        let last = found.last().map(|(position, _)| *position);
        (found.into_iter().map(|(_, event)| event.fence).collect(), last)
    }

    #[test]
    fn late_events_take_their_place_in_time_and_pages_follow_it() {
        let mut kept = Kept::default();
        for (fence, at) in [(1, 10), (2, 30), (3, 20), (4, 20), (5, 5)] {
            kept.append(event(fence, at));
        }
        let task = Some(TaskId::derived(&[b"t"]));
        for filter in [EventFilter::default(), EventFilter { task, ..EventFilter::default() }] {
            let (first, position) = query(&kept, &filter, None, 2);
            assert_eq!(first, [5, 1]);
            let (second, position) = query(&kept, &filter, position, 2);
            assert_eq!(second, [3, 4]);
            assert_eq!(query(&kept, &filter, position, 2).0, [2]);
        }
    }

    #[test]
    fn a_position_that_was_purged_lies_before_what_is_left() {
        let mut kept = Kept::default();
        for (fence, at) in [(1, 10), (2, 20), (3, 30)] {
            kept.append(event(fence, at));
        }
        let any = EventFilter::default();
        let (_, position) = query(&kept, &any, None, 1);
        kept.forget((Timestamp::from_millis(10), 1));
        assert_eq!(query(&kept, &any, position, 9).0, [2, 3]);
        kept.append(event(1, 40));
        assert_eq!(query(&kept, &any, None, 9).0, [2, 3, 1], "what is forgotten may come again");
    }

    #[test]
    fn spans_that_hold_nothing_give_nothing() {
        let mut kept = Kept::default();
        kept.append(event(1, 10));
        let at = |millis| Some(Timestamp::from_millis(millis));
        for (from, to, after, expected) in [
            (at(10), at(11), None, 1),
            (at(10), at(10), None, 0),
            (at(20), at(5), None, 0),
            (None, at(10), Some(1), 0),
            (None, at(5), Some(1), 0),
            (at(0), None, Some(1), 0),
            (at(i64::MAX), at(i64::MIN), None, 0),
        ] {
            for task in [None, Some(TaskId::derived(&[b"t"]))] {
                let filter = EventFilter { task, from, to, ..EventFilter::default() };
                assert_eq!(query(&kept, &filter, after, 9).0.len(), expected, "{filter:?}");
            }
        }
    }
}
