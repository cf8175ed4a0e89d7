//! Who waits for whom: from a task that has not ended to those that wait for it, in the order of their arrival.

use std::collections::{BTreeMap, HashMap};

use super::slot::Ix;

#[derive(Debug, Default)]
pub(super) struct Edges(HashMap<Ix, BTreeMap<u64, Ix>>);

impl Edges {
    pub(super) fn add(&mut self, parent: Ix, child: Ix, child_seq: u64) {
        self.0.entry(parent).or_default().insert(child_seq, child);
    }

    pub(super) fn remove(&mut self, parent: Ix, child_seq: u64) {
        if let Some(children) = self.0.get_mut(&parent) {
            children.remove(&child_seq);
            if children.is_empty() {
                self.0.remove(&parent);
            }
        }
    }

    /// Those that waited for `parent`, which has ended.
    pub(super) fn take(&mut self, parent: Ix) -> impl Iterator<Item = Ix> + use<> {
        self.0.remove(&parent).unwrap_or_default().into_values()
    }

    /// All of them, in no order: who is waited for, by whom and at which place that stands.
    #[cfg(any(test, feature = "nats", feature = "object"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ix, u64, Ix)> + '_ {
        let children = |(parent, children): (&Ix, &BTreeMap<u64, Ix>)| {
            let parent = *parent;
            children.iter().map(move |(seq, child)| (parent, *seq, *child)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(children)
    }
}
