//! What always holds: every index says exactly what the slots say.

use std::collections::{BTreeMap, BTreeSet};

use omniq_model::State;

use super::super::Core;
use crate::Held;

impl Core {
    /// Panics where an index and the slots disagree.
    pub(in crate::core) fn check(&self) {
        let all = || self.slots.iter();
        assert_eq!(self.ids.len(), all().count());
        for (ix, slot) in all() {
            assert_eq!(self.ids.get(&slot.id), Some(&ix));
            assert_eq!(slot.session.is_some(), slot.state == State::Running);
            assert_eq!(slot.run_at.is_some(), slot.state == State::Scheduled);
            assert_eq!(slot.finished.is_some(), slot.state.is_terminal());
            assert_eq!(slot.result.is_some(), slot.state.is_terminal());
            assert!(slot.state != State::Blocked || slot.unmet > 0);
            assert!(slot.seq <= self.last_seq);
            assert_eq!((slot.id, slot.keyed), (slot.task.id, slot.task.unique.is_some()));
            assert!(slot.state != State::Running || slot.attempt > 0 && slot.token.fence > 0);
        }
        self.check_times();
        self.check_lanes();
        self.check_sessions();
        self.check_edges();
        self.check_keys();
        assert!(self.schedules.is_consistent());
    }

    fn check_times(&self) {
        let all = || self.slots.iter();
        for state in State::ALL {
            let expected: BTreeMap<_, _> =
                all().filter(|(_, slot)| slot.state == *state).map(|(ix, s)| (s.seq, ix)).collect();
            assert_eq!(self.by_state[usize::from(state.number())], expected, "{state}");
        }
        let due = all().filter_map(|(ix, slot)| Some(((slot.run_at?, slot.seq), ix)));
        assert_eq!(self.due, due.collect());
        let expiry = all().filter_map(|(ix, slot)| Some(((slot.expires_now()?, slot.seq), ix)));
        assert_eq!(self.expiry, expiry.collect());
        let ended = all().filter_map(|(ix, slot)| Some(((slot.finished?, slot.id), ix)));
        assert_eq!(self.ended, ended.collect());
        let kept = all().filter_map(|(ix, slot)| Some(((slot.kept_until()?, slot.seq), ix)));
        assert_eq!(self.kept, kept.collect());
    }

    fn check_lanes(&self) {
        let mut counts = 0;
        for lane in self.lanes.iter() {
            let of_lane = || self.slots.iter().filter(|(_, slot)| slot.task.lane == lane.name);
            let ready = of_lane().filter(|(_, slot)| slot.state == State::Ready);
            let ready: BTreeMap<_, _> = ready.map(|(ix, slot)| (slot.place, ix)).collect();
            assert_eq!(lane.ready, ready);
            let active = !ready.is_empty() && !lane.paused;
            assert_eq!(self.lanes.is_active(&lane.name), active);
            for state in State::ALL {
                let count = of_lane().filter(|(_, slot)| slot.state == *state).count() as u64;
                assert_eq!(lane.counts[usize::from(state.number())], count);
                counts += count;
            }
            assert!(
                lane.paused || lane.counts.iter().sum::<u64>() > 0,
                "a lane outlived its tasks"
            );
        }
        assert_eq!(counts, self.ids.len() as u64, "a task is in no lane");
    }

    fn check_sessions(&self) {
        let mut held = 0;
        for (id, session) in self.sessions.iter() {
            let of_session = || self.slots.iter().filter(|(_, slot)| slot.session == Some(*id));
            let expected: BTreeMap<_, _> = of_session().map(|(ix, slot)| (slot.seq, ix)).collect();
            assert_eq!(session.held, expected);
            held += expected.len();
            let leases: Vec<_> = of_session().map(|(_, slot)| (slot.id, slot.token)).collect();
            assert_eq!(session.fingerprint, Held::of(&leases));
            let cancels = of_session().filter(|(_, slot)| slot.cancel_requested);
            assert_eq!(session.cancels, cancels.map(|(ix, slot)| (slot.seq, ix)).collect());
        }
        let running = self.by_state[usize::from(State::Running.number())].len();
        assert_eq!(held, running, "a running task belongs to no session");
    }

    fn check_edges(&self) {
        let edges: BTreeSet<_> = self.edges.iter().collect();
        let mut expected = BTreeSet::new();
        for (child, slot) in self.slots.iter().filter(|(_, slot)| slot.state == State::Blocked) {
            let parents = slot.task.after.iter().filter_map(|id| self.ids.get(id));
            let open: BTreeSet<_> =
                parents.filter(|ix| edges.contains(&(**ix, slot.seq, child))).collect();
            assert_eq!(open.len(), slot.unmet as usize);
            for parent in open {
                assert!(!self.slots[*parent].state.is_terminal(), "an ended parent still blocks");
                expected.insert((*parent, slot.seq, child));
            }
        }
        assert_eq!(edges, expected);
    }

    fn check_keys(&self) {
        for (tenant, key, ix) in self.keys.iter() {
            let task = &self.slots[ix].task;
            assert_eq!(&task.lane.tenant, tenant);
            assert_eq!(task.unique.as_ref().map(|unique| unique.key.as_str()), Some(key));
        }
    }
}
