//! Laws over random calls: nothing is lost or invented, tokens only go up, one end per claim, only allowed moves.

use std::collections::{BTreeMap, BTreeSet};

use omniq_model::{OnParentFailure, Priority, Scope, Span};
use proptest::prelude::*;

use super::*;
use crate::{Fire, Held};

/// One random call. Numbers choose among what there is at that time.
#[derive(Debug, Clone)]
enum Call {
    Enqueue(Vec<Shape>),
    Open,
    Close(usize),
    Beat(usize),
    Claim { session: usize, queue: u8, max: usize },
    Reconcile { session: usize, keep: usize },
    Finish { lease: usize, how: u8 },
    Cancel(Pick),
    Retry(Pick),
    Remove(Pick),
    Pause { queue: u8, paused: bool },
    Promote(usize),
    Reclaim(usize),
    Restored,
    Expire(usize),
    Purge(usize),
    Fire(u8),
    Advance(u64),
}

#[derive(Debug, Clone)]
struct Shape {
    name: u8,
    queue: u8,
    priority: i16,
    delay: u64,
    ttl: Option<u64>,
    key: Option<(u8, u8)>,
    after: Vec<u8>,
    run: bool,
    crashes: u32,
}

#[derive(Debug, Clone)]
struct Pick {
    ids: Vec<u8>,
    queue: Option<u8>,
    max: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    let waits = (0u64..3, proptest::option::of(0u64..9));
    let parents = (proptest::collection::vec(0u8..40, 0..3), any::<bool>());
    let key = proptest::option::weighted(0.3, (0u8..3, 0u8..3));
    (0u8..40, 0u8..3, -2i16..3, waits, key, parents, 0u32..2).prop_map(
        |(name, queue, priority, (delay, ttl), key, (after, run), crashes)| Shape {
            name,
            queue,
            priority,
            delay,
            ttl,
            key,
            after,
            run,
            crashes,
        },
    )
}

fn pick() -> impl Strategy<Value = Pick> {
    (proptest::collection::vec(0u8..40, 0..4), proptest::option::of(0u8..3), 0usize..6)
        .prop_map(|(ids, queue, max)| Pick { ids, queue, max })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => proptest::collection::vec(shape(), 1..6).prop_map(Call::Enqueue),
        1 => Just(Call::Open),
        1 => (0usize..8).prop_map(Call::Close),
        2 => (0usize..8).prop_map(Call::Beat),
        6 => (0usize..8, 0u8..3, 0usize..5)
            .prop_map(|(session, queue, max)| Call::Claim { session, queue, max }),
        1 => (0usize..8, 0usize..3).prop_map(|(session, keep)| Call::Reconcile { session, keep }),
        8 => (any::<usize>(), 0u8..7).prop_map(|(lease, how)| Call::Finish { lease, how }),
        2 => pick().prop_map(Call::Cancel),
        2 => pick().prop_map(Call::Retry),
        1 => pick().prop_map(Call::Remove),
        1 => (0u8..3, any::<bool>()).prop_map(|(queue, paused)| Call::Pause { queue, paused }),
        2 => (0usize..4).prop_map(Call::Promote),
        2 => (0usize..4).prop_map(Call::Reclaim),
        1 => Just(Call::Restored),
        2 => (0usize..4).prop_map(Call::Expire),
        1 => (0usize..4).prop_map(Call::Purge),
        1 => (0u8..40).prop_map(Call::Fire),
        3 => (0u64..12).prop_map(Call::Advance),
    ]
}

fn name(number: u8) -> String {
    format!("task-{number}")
}

impl Shape {
    fn task(&self) -> Task {
        with(&name(self.name), |task| {
            task.lane = lane(&format!("queue-{}", self.queue));
            task.priority = Priority::new(self.priority).unwrap();
            task.delay = Span::from_secs(self.delay);
            task.ttl = self.ttl.map(Span::from_secs);
            task.result_ttl = Span::from_secs(8);
            task.retry.crashes = self.crashes;
            let scopes = [Scope::UntilStarted, Scope::UntilFinished, Scope::Window];
            task.unique = self.key.map(|(key, scope)| omniq_model::Unique {
                window: Span::from_secs(4),
                ..unique::key(&format!("key-{key}"), scopes[usize::from(scope)])
            });
            task.after = self.after.iter().map(|parent| id(&name(*parent))).collect();
            if self.run {
                task.on_parent_failure = OnParentFailure::Run;
            }
        })
    }
}

impl Pick {
    fn select(&self) -> Select {
        let filter = Filter {
            ids: self.ids.iter().map(|number| id(&name(*number))).collect(),
            queue: self.queue.map(|queue| format!("queue-{queue}").parse().unwrap()),
            ..Filter::default()
        };
        Select { filter, max: self.max }
    }
}

/// What the world outside knows: it holds the store to its word.
#[derive(Debug)]
struct World {
    kit: Kit,
    sessions: Vec<Session>,
    leases: Vec<Lease>,
    /// Tokens given and ends committed since a task was created.
    fences: BTreeMap<TaskId, u64>,
    applied: BTreeSet<(TaskId, Token)>,
    states: BTreeMap<TaskId, State>,
}

impl World {
    fn new() -> Self {
        let mut kit = Kit::new();
        let sessions = vec![kit.session(), kit.session()];
        Self {
            kit,
            sessions,
            leases: Vec::new(),
            fences: BTreeMap::new(),
            applied: BTreeSet::new(),
            states: BTreeMap::new(),
        }
    }

    fn session(&self, index: usize) -> Session {
        self.sessions[index % self.sessions.len()]
    }

    fn make(&mut self, call: &Call) {
        let before: BTreeMap<TaskId, Head> = self.heads();
        let mut may_vanish = false;
        match call {
            Call::Enqueue(shapes) => {
                let tasks: Vec<Task> = shapes.iter().map(Shape::task).collect();
                let answers = self.kit.enqueue(tasks.clone());
                for (task, answer) in tasks.iter().zip(answers) {
                    let there = self.kit.core.get(&[task.id])[0].is_some();
                    match answer {
                        Enqueued::Created | Enqueued::Conflict => assert!(there),
                        Enqueued::Duplicate { id, .. } => {
                            assert!(self.kit.core.get(&[id])[0].is_some());
                        }
                        Enqueued::Refused(_) => {}
                    }
                }
            }
            Call::Open => {
                let session = self.kit.session();
                self.sessions.push(session);
            }
            Call::Close(index) => {
                let session = self.session(*index);
                self.kit.call(|core, now| core.close_session(now, &session));
            }
            Call::Beat(index) => {
                let session = self.session(*index);
                self.kit.call(|core, now| core.heartbeat(now, &session, Held::default()));
            }
            Call::Claim { session, queue, max } => self.claim(*session, *queue, *max),
            Call::Reconcile { session, keep } => {
                let session = self.session(*session);
                let kept = self.leases.iter().rev().take(*keep);
                let kept: Vec<_> = kept.map(|lease| (lease.id, lease.token)).collect();
                self.kit.call(|core, now| core.reconcile(now, &session, &kept));
            }
            Call::Finish { lease, how } => self.finish(*lease, *how),
            Call::Cancel(pick) => {
                let outcome = self.kit.call(|core, now| core.cancel(now, &pick.select()));
                assert!(outcome.moved.len() + outcome.requested.len() <= pick.max);
            }
            Call::Retry(pick) => {
                let outcome = self.kit.call(|core, now| core.retry(now, &pick.select()));
                assert!(outcome.moved.len() <= pick.max);
            }
            Call::Remove(pick) => {
                may_vanish = true;
                self.kit.call(|core, _| core.remove(&pick.select()));
            }
            Call::Pause { queue, paused } => {
                let lane = lane(&format!("queue-{queue}"));
                self.kit.call(|core, _| core.pause(&lane, *paused));
            }
            Call::Promote(max) => {
                self.kit.call(|core, now| core.promote(now, *max));
            }
            Call::Reclaim(max) => {
                let moved = self.kit.call(|core, now| core.reclaim(now, *max));
                assert!(moved.len() <= *max);
            }
            Call::Restored => self.restored(&before),
            Call::Expire(max) => {
                let moved = self.kit.call(|core, now| core.expire(now, *max));
                assert!(moved.len() <= *max);
            }
            Call::Purge(max) => {
                may_vanish = true;
                let now = self.kit.now;
                let over = before.values().filter(|head| {
                    head.finished.is_some_and(|finished| finished + 8 * SECOND <= now)
                });
                let expected = over.count().min(*max);
                assert_eq!(self.kit.call(|core, now| core.purge(now, *max)), expected);
            }
            Call::Fire(number) => self.fire(*number),
            Call::Advance(seconds) => self.kit.advance(Duration::from_secs(*seconds)),
        }
        self.compare(&before, may_vanish);
    }

    fn heads(&self) -> BTreeMap<TaskId, Head> {
        let page = self.kit.core.list(&Filter::default(), None, usize::MAX);
        page.items.into_iter().map(|info| (info.id, info.head)).collect()
    }

    fn claim(&mut self, session: usize, queue: u8, max: usize) {
        let session = self.session(session);
        let expired = Filter { states: vec![State::Expired], ..Filter::default() };
        let before = self.kit.core.count(&expired);
        let leases = self.kit.claim_from(&session, lane(&format!("queue-{queue}")), max);
        assert!(leases.len() <= max);
        let mut places = Vec::new();
        for lease in &leases {
            let fence = self.fences.entry(lease.id).or_default();
            assert_eq!(lease.token.fence, *fence + 1, "a fence goes up by one at every claim");
            *fence = lease.token.fence;
            let head = self.kit.core.get(&[lease.id]).remove(0).unwrap().head;
            let priority = lease.task.as_ref().unwrap().priority;
            places.push((-priority.get(), head.seq));
        }
        // A task that expires on the way may let go a child that would have come before.
        let unchanged = self.kit.core.count(&expired) == before;
        assert!(places.is_sorted() || !unchanged, "the order of a lane: {places:?}");
        self.leases.extend(leases);
    }

    fn finish(&mut self, index: usize, how: u8) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases[index % self.leases.len()].clone();
        let how = [
            succeeded(),
            failed(),
            cancelled(),
            retry(Duration::ZERO),
            retry(2 * SECOND),
            release(Duration::ZERO),
            release(2 * SECOND),
        ][usize::from(how)]
        .clone();
        let key = (lease.id, lease.token);
        match self.kit.finish(&lease, how) {
            Finished::Applied(_) => {
                assert!(self.applied.insert(key), "one claim ends once");
                assert_eq!(self.fences[&lease.id], lease.token.fence, "no later claim was given");
            }
            Finished::AppliedBefore(_) => assert!(self.applied.contains(&key)),
            Finished::Stale => {}
        }
    }

    fn restored(&mut self, before: &BTreeMap<TaskId, Head>) {
        let moved = self.kit.call(|core, now| core.restored(now));
        let ran = before.iter().filter(|(_, head)| head.state == State::Running);
        let mut ran: Vec<_> = ran.map(|(id, head)| (head.seq, *id)).collect();
        ran.sort_unstable();
        assert!(moved.iter().map(|moved| moved.id).eq(ran.into_iter().map(|(_, id)| id)));
        for (id, head) in self.heads() {
            let fence = self.fences.entry(id).or_default();
            if *fence > 0 && !head.state.is_terminal() {
                *fence += crate::FENCE_STEP;
            }
            assert_eq!(head.fence, *fence, "it rises once, where there was a claim");
        }
    }

    fn fire(&mut self, number: u8) {
        let shape = Shape {
            name: number,
            queue: 0,
            priority: 0,
            delay: 0,
            ttl: None,
            key: None,
            after: Vec::new(),
            run: false,
            crashes: 0,
        };
        let fire = Fire {
            tenant: Default::default(),
            name: "nobody".parse().unwrap(),
            version: 1,
            next: None,
            tasks: vec![shape.task()],
        };
        let fired = self.kit.call(|core, now| core.fire(now, vec![fire]));
        assert_eq!(fired, [crate::Fired::Lost]);
    }

    /// Nothing is lost, fences do not go back, ends stay, and each task moved along allowed moves only.
    fn compare(&mut self, before: &BTreeMap<TaskId, Head>, may_vanish: bool) {
        let after = self.heads();
        for (id, old) in before {
            let Some(new) = after.get(id) else {
                assert!(may_vanish && old.state.is_terminal(), "{id} is lost");
                self.fences.remove(id);
                self.applied.retain(|(task, _)| task != id);
                self.leases.retain(|lease| lease.id != *id);
                continue;
            };
            assert!(new.fence >= old.fence && new.seq == old.seq && new.created == old.created);
            assert!(old.state == new.state || reaches(old.state, new.state), "{old:?} {new:?}");
        }
        self.states = after.iter().map(|(id, head)| (*id, head.state)).collect();
        let mut counts = BTreeMap::new();
        for state in self.states.values() {
            *counts.entry(*state).or_insert(0) += 1;
        }
        assert_eq!(self.kit.core.count(&Filter::default()), counts);
    }

    /// Lets time pass and workers work until nothing moves any more: then everything has ended.
    fn drain(&mut self) {
        for queue in 0..3 {
            self.make(&Call::Pause { queue, paused: false });
        }
        let mut rounds = 0;
        while self.states.values().any(|state| !state.is_terminal()) {
            rounds += 1;
            assert!(rounds < 200, "these never end: {:?}", self.states);
            self.make(&Call::Advance(60));
            self.make(&Call::Reclaim(100));
            self.make(&Call::Promote(100));
            self.sessions = vec![self.kit.session()];
            for queue in 0..3 {
                let held = self.leases.len();
                self.make(&Call::Claim { session: 0, queue, max: 100 });
                for index in held..self.leases.len() {
                    self.make(&Call::Finish { lease: index, how: 0 });
                }
            }
        }
    }
}

/// Whether one call may lead from a state to another: one move, or several.
fn reaches(from: State, to: State) -> bool {
    from.may_become(to)
        || State::ALL.iter().any(|between| from.may_become(*between) && between.may_become(to))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_break_no_promise(calls in proptest::collection::vec(call(), 1..80)) {
        let mut world = World::new();
        for call in &calls {
            world.make(call);
        }
        world.drain();
    }

    #[test]
    fn the_same_calls_give_the_same_answers(calls in proptest::collection::vec(call(), 1..40)) {
        let run = || {
            let mut world = World::new();
            calls.iter().for_each(|call| world.make(call));
            let page = world.kit.core.list(&Filter::default(), None, usize::MAX);
            let heads: Vec<_> = page.items.into_iter().map(|info| (info.id, info.head)).collect();
            (heads, world.leases.iter().map(|lease| (lease.id, lease.token)).collect::<Vec<_>>())
        };
        prop_assert_eq!(run(), run());
    }
}
