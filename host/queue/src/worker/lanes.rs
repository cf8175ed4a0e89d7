//! Which lanes to claim from, so that each gets its turn.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use omniq_model::{Lane, Name};
use omniq_store::{Lease, Result, TaskStore, Want};

use super::shared::{Room, footprint};

/// Lanes that are claimed from by turns; those beyond it have theirs when the next ones are looked up.
const MOST: usize = 64;
/// Pages that are looked through for lanes of the worker's queues in one go.
const PAGES: usize = 16;
/// How large a task is taken to be that nobody has seen yet.
const LARGE: usize = 1 << 20;
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
    /// There are lanes behind the cursor that were not looked at, and none was found before it.
    has_more: bool,
    /// Bytes of the largest task lately.
    largest: usize,
}

impl Lanes {
    /// Only lanes of these queues; of all if there is none.
    pub fn new(queues: Vec<Name>) -> Self {
        Self {
            queues,
            known: VecDeque::new(),
            cursor: None,
            looked: None,
            has_more: false,
            largest: LARGE,
        }
    }

    /// What to ask for when there is room for so many: fair shares of those lanes whose turn it is.
    pub async fn wants(
        &mut self,
        tasks: &dyn TaskStore,
        room: Room,
        nonce: impl Fn() -> u64,
    ) -> Result<Vec<Want>> {
        let is_old = self.looked.is_none_or(|looked| looked.elapsed() > FRESH);
        if self.known.is_empty() || is_old {
            self.look(tasks).await?;
        }
        Ok(self.share(room, nonce))
    }

    /// Whether none was found only because there are very many lanes of others: to be looked on soon.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Looks up lanes with ready tasks: those after the last ones, and from the start again behind the last of all.
    async fn look(&mut self, tasks: &dyn TaskStore) -> Result<()> {
        let mut pages = 0;
        let before = self.cursor.is_some();
        self.has_more = false;
        loop {
            let page = tasks.ready_lanes(self.cursor.as_ref(), MOST).await?;
            pages += 1;
            let last = page.last().filter(|_| page.len() == MOST);
            self.cursor = last.map(|last| self.skip(last));
            for lane in page {
                let is_ours = self.queues.is_empty() || self.queues.contains(&lane.queue);
                if is_ours && !self.known.contains(&lane) {
                    self.known.push_back(lane);
                }
            }
            // Once around at most; a page without one of ours says nothing about the next.
            let is_around = self.cursor.is_none() && (pages > 1 || !before);
            if !self.known.is_empty() || is_around {
                break;
            }
            if pages == PAGES {
                self.has_more = true;
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

    /// The last lane behind `lane` in front of which none of this worker's can be: lanes are in the order of tenant and
    /// queue, so that all others of a tenant are passed by a few looks, however many they are.
    fn skip(&self, lane: &Lane) -> Lane {
        let later = self.queues.iter().filter(|queue| **queue > lane.queue).min();
        let queue = match later {
            _ if self.queues.is_empty() => None,
            Some(next) => last_before(next),
            None => "z".repeat(Name::MAX).parse().ok(),
        };
        let queue = queue.filter(|queue| *queue > lane.queue).unwrap_or_else(|| lane.queue.clone());
        Lane { tenant: lane.tenant.clone(), queue }
    }

    /// Fair shares of that room. Each lane may give its first task whatever its size, so that no more lanes are asked
    /// than have room for one like the largest lately.
    fn share(&mut self, room: Room, nonce: impl Fn() -> u64) -> Vec<Want> {
        let for_large = (room.bytes / self.largest.max(1)).max(1);
        let count = self.known.len().min(room.tasks).min(for_large);
        if count == 0 {
            return Vec::new();
        }
        let (each, more) = (room.tasks / count, room.tasks % count);
        let bytes = room.bytes / count;
        let wants = self.known.iter().take(count).enumerate().map(|(index, lane)| {
            let max = each + usize::from(index < more);
            Want { bytes, ..Want::new(lane.clone(), max, nonce()) }
        });
        let wants = wants.collect();
        self.known.rotate_left(count);
        wants
    }

    /// Forgets lanes that gave less than they were asked for: they are empty now, unless it was their bound of bytes.
    pub fn learn(&mut self, wants: &[Want], leases: &[Lease]) {
        // Leases come in the order of the wants, each with the nonce of its own.
        for want in wants {
            let given = leases.iter().filter(|lease| lease.token.nonce == want.nonce);
            let (count, bytes) =
                given.fold((0, 0), |(count, bytes), lease| (count + 1, bytes + footprint(lease)));
            if count == 0 || count < want.max && bytes < want.bytes / 2 {
                self.known.retain(|lane| *lane != want.lane);
            }
        }
        if let Some(largest) = leases.iter().map(footprint).max() {
            self.largest = largest.max(self.largest - self.largest / 8);
        }
    }
}

/// The last of all names before `name`; `None` where it cannot be said.
fn last_before(name: &Name) -> Option<Name> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let (last, head) = name.as_str().as_bytes().split_last()?;
    let may_stand = |byte: &u8| is_plain(*byte) || !head.is_empty() && b"/+@:".contains(byte);
    let lower = (0..*last).rev().find(may_stand)?;
    let mut text = [head, &[lower]].concat();
    text.resize(Name::MAX, b'z');
    String::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_lies_between_a_name_and_the_last_before_it() {
        let names = "- . 0 9 A Z _ a z a- a-b a.b a/b a:b a+b a@b ab aZ a_ az b b0 media media-2 medib medic";
        let mut names: Vec<Name> = names.split(' ').map(|name| name.parse().unwrap()).collect();
        names.push("z".repeat(Name::MAX).parse().unwrap());
        names.push(format!("a{}", "z".repeat(Name::MAX - 1)).parse().unwrap());
        for name in &names {
            let Some(before) = last_before(name) else { continue };
            assert!(before < *name, "{before} {name}");
            for other in names.iter().filter(|other| *other < name) {
                assert!(*other <= before, "{other} lies between {before} and {name}");
            }
        }
        assert!(last_before(&"media".parse().unwrap()).is_some());
        assert_eq!(last_before(&"-".parse().unwrap()), None);
    }

    #[test]
    fn every_lane_gets_its_turn_however_little_room_there_is() {
        let lane = |number: u32| Lane {
            tenant: Name::default(),
            queue: format!("q{number}").parse().unwrap(),
        };
        let mut lanes = Lanes::new(Vec::new());
        lanes.known = (0..5).map(lane).collect();
        let room = |tasks| Room { tasks, bytes: 1 << 30 };
        let mut turns = std::collections::BTreeMap::new();
        for _ in 0..5 {
            for want in lanes.share(room(2), || 1) {
                assert_eq!(want.max, 1);
                *turns.entry(want.lane).or_insert(0) += 1;
            }
        }
        assert_eq!(turns.values().copied().collect::<Vec<_>>(), [2; 5]);
        let wants = lanes.share(room(7), || 1);
        assert_eq!(wants.iter().map(|want| want.max).collect::<Vec<_>>(), [2, 2, 1, 1, 1]);
        // Where bytes are scarce, only as many lanes are asked as have room for a large task.
        lanes.largest = 100;
        let wants = lanes.share(Room { tasks: 7, bytes: 299 }, || 1);
        let asked: Vec<_> = wants.iter().map(|want| (want.max, want.bytes)).collect();
        assert_eq!(asked, [(4, 149), (3, 149)]);
        assert_eq!(lanes.share(Room { tasks: 7, bytes: 1 }, || 1).len(), 1, "one in any case");
        let wants = lanes.share(room(7), || 1);
        lanes.learn(&wants, &[]);
        assert!(lanes.known.is_empty());
    }
}
