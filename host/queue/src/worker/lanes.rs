//! Which lanes to claim from, so that each gets its turn.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use omniq_model::{Lane, Name};
use omniq_store::{Lease, Result, TaskStore, Want};

/// Lanes that are claimed from by turns; those beyond it have theirs when the next ones are looked up.
const MOST: usize = 64;
/// Pages that are looked through for lanes of the worker's queues in one go.
const PAGES: usize = 16;
/// How long lanes are known before others are looked for.
const FRESH: Duration = Duration::from_millis(100);

/// Lanes that had tasks lately, the one whose turn it is first.
#[derive(Debug)]
pub(super) struct Lanes {
    queues: Vec<Name>,
    known: VecDeque<Lane>,
    /// Up to which lane they were looked up.
    cursor: Option<Lane>,
    looked: Option<Instant>,
}

impl Lanes {
    /// Only lanes of these queues; of all if there is none.
    pub fn new(queues: Vec<Name>) -> Self {
        Self { queues, known: VecDeque::new(), cursor: None, looked: None }
    }

    /// What to ask for when there is room for so many: fair shares of those lanes whose turn it is.
    pub async fn wants(
        &mut self,
        tasks: &dyn TaskStore,
        room: usize,
        nonce: impl Fn() -> u64,
    ) -> Result<Vec<Want>> {
        let is_old = self.looked.is_none_or(|looked| looked.elapsed() > FRESH);
        if self.known.is_empty() || is_old {
            self.look(tasks).await?;
        }
        Ok(self.share(room, nonce))
    }

    /// Looks up lanes with ready tasks: those after the last ones, and from the start again behind the last of all.
    async fn look(&mut self, tasks: &dyn TaskStore) -> Result<()> {
        let mut pages = 0;
        let before = self.cursor.is_some();
        loop {
            let page = tasks.ready_lanes(self.cursor.as_ref(), MOST).await?;
            pages += 1;
            self.cursor = page.last().filter(|_| page.len() == MOST).cloned();
            for lane in page {
                let is_ours = self.queues.is_empty() || self.queues.contains(&lane.queue);
                if is_ours && !self.known.contains(&lane) {
                    self.known.push_back(lane);
                }
            }
            // Once around at most; a page without one of ours says nothing about the next.
            let is_around = self.cursor.is_none() && (pages > 1 || !before);
            if !self.known.is_empty() || is_around || pages == PAGES {
                break;
            }
        }
        while self.known.len() > MOST {
            // Those that have waited here longest keep their place.
            self.known.pop_back();
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn share(&mut self, room: usize, nonce: impl Fn() -> u64) -> Vec<Want> {
        let count = self.known.len().min(room);
        if count == 0 {
            return Vec::new();
        }
        let (each, more) = (room / count, room % count);
        let wants = self.known.iter().take(count).enumerate().map(|(index, lane)| {
            Want::new(lane.clone(), each + usize::from(index < more), nonce())
        });
        let wants = wants.collect();
        self.known.rotate_left(count);
        wants
    }

    /// Forgets lanes that gave less than they were asked for: they are empty now.
    pub fn learn(&mut self, wants: &[Want], leases: &[Lease]) {
        // Leases come in the order of the wants, each with the nonce of its own.
        for want in wants {
            let given = leases.iter().filter(|lease| lease.token.nonce == want.nonce).count();
            if given < want.max {
                self.known.retain(|lane| *lane != want.lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_gets_its_turn_however_little_room_there_is() {
        let lane = |number: u32| Lane {
            tenant: Name::default(),
            queue: format!("q{number}").parse().unwrap(),
        };
        let mut lanes = Lanes::new(Vec::new());
        lanes.known = (0..5).map(lane).collect();
        let mut turns = std::collections::BTreeMap::new();
        for _ in 0..5 {
            for want in lanes.share(2, || 1) {
                assert_eq!(want.max, 1);
                *turns.entry(want.lane).or_insert(0) += 1;
            }
        }
        assert_eq!(turns.values().copied().collect::<Vec<_>>(), [2; 5]);
        let wants = lanes.share(7, || 1);
        assert_eq!(wants.iter().map(|want| want.max).collect::<Vec<_>>(), [2, 2, 1, 1, 1]);
        lanes.learn(&wants, &[]);
        assert!(lanes.known.is_empty());
    }
}
