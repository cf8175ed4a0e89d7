//! Lanes: what is ready in each, whether it is paused, how many tasks it has. A lane exists while it has tasks or is
//! paused.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use omniq_model::{Lane, State};

use super::slot::{Ix, Slot};

/// Where a lane is. Used again after the lane was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LaneIx(u32);

#[derive(Debug, Default)]
pub(super) struct LaneSlot {
    pub name: Lane,
    pub paused: bool,
    /// Ready tasks by [`place`](super::slot::place).
    pub ready: BTreeMap<u64, Ix>,
    /// How many tasks stand in each state.
    pub counts: [u64; 8],
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Vec<LaneSlot>,
    free: Vec<LaneIx>,
    names: HashMap<Lane, LaneIx>,
    /// Those that are not paused and have ready tasks.
    active: BTreeMap<Lane, LaneIx>,
}

impl Lanes {
    pub(super) fn find(&self, name: &Lane) -> Option<LaneIx> {
        self.names.get(name).copied()
    }

    /// The lane of that name; it is made if there is none.
    pub(super) fn obtain(&mut self, name: &Lane) -> LaneIx {
        if let Some(ix) = self.find(name) {
            return ix;
        }
        let lane = LaneSlot { name: name.clone(), ..LaneSlot::default() };
        let ix = match self.free.pop() {
            Some(ix) => {
                self.lanes[ix.0 as usize] = lane;
                ix
            }
            None => {
                self.lanes.push(lane);
                LaneIx(
                    u32::try_from(self.lanes.len() - 1).expect("there are fewer lanes than tasks"),
                )
            }
        };
        self.names.insert(name.clone(), ix);
        ix
    }

    /// Forgets a lane that nothing is to be known about any more.
    pub(super) fn tidy(&mut self, ix: LaneIx) {
        let lane = &self.lanes[ix.0 as usize];
        if !lane.paused && lane.counts.iter().all(|count| *count == 0) {
            self.names.remove(&lane.name);
            self.free.push(ix);
        }
    }

    /// The task that is claimed next from that lane.
    pub(super) fn first_ready(&self, ix: LaneIx) -> Option<Ix> {
        let lane = &self.lanes[ix.0 as usize];
        if lane.paused {
            return None;
        }
        lane.ready.first_key_value().map(|(_, task)| *task)
    }

    /// Takes a task in, in the state it is in.
    pub(super) fn link(&mut self, ix: Ix, slot: &Slot) {
        let lane = &mut self.lanes[slot.lane.0 as usize];
        lane.counts[usize::from(slot.state.number())] += 1;
        if slot.state == State::Ready {
            lane.ready.insert(slot.place, ix);
            if lane.ready.len() == 1 && !lane.paused {
                self.active.insert(lane.name.clone(), slot.lane);
            }
        }
    }

    /// The reverse of [`Self::link`].
    pub(super) fn unlink(&mut self, slot: &Slot) {
        let lane = &mut self.lanes[slot.lane.0 as usize];
        lane.counts[usize::from(slot.state.number())] -= 1;
        if slot.state == State::Ready {
            lane.ready.remove(&slot.place);
            if lane.ready.is_empty() && !lane.paused {
                self.active.remove(&lane.name);
            }
        }
    }

    /// Holds a lane back, or lets it go; tells whether there may be work now.
    pub(super) fn pause(&mut self, name: &Lane, paused: bool) -> bool {
        let ix = self.obtain(name);
        let lane = &mut self.lanes[ix.0 as usize];
        lane.paused = paused;
        let has_work = !lane.ready.is_empty();
        if paused {
            self.active.remove(name);
        } else if has_work {
            self.active.insert(name.clone(), ix);
        }
        self.tidy(ix);
        has_work && !paused
    }

    pub(super) fn active(&self, after: Option<&Lane>, max: usize) -> Vec<Lane> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let lanes = self.active.range::<Lane, _>((from, Bound::Unbounded));
        lanes.take(max).map(|(name, _)| name.clone()).collect()
    }

    /// All lanes there are, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LaneSlot> {
        self.names.values().map(|ix| &self.lanes[ix.0 as usize])
    }

    #[cfg(test)]
    pub(super) fn is_active(&self, name: &Lane) -> bool {
        self.active.contains_key(name)
    }
}
