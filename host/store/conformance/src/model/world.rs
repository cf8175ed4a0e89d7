//! What a run has made so far, so that a command's small numbers become tasks, sessions and leases.

use std::time::Duration;

use omniq_model::{
    Lane, Name, OnParentFailure, Payload, Priority, Schedule, Scope, SessionId, Span, State, Task,
    TaskId, TaskResult, Timestamp, Timing, Token, Unique,
};
use omniq_store::{End, Filter, Fire, Held, How, Select, Session, Want};

use super::call::{Answer, Call};
use super::command::{Command, Ending, Item, Proof, Scheduling, Special, Which};
use crate::kit::{LEASE, error, lane, module, name};

/// What a run has made so far.
#[derive(Debug, Default)]
pub(super) struct World {
    tasks: Vec<Task>,
    sessions: Vec<Session>,
    /// Every lease ever given, the newest last, and whether its session knows of an end of it.
    leases: Vec<(SessionId, TaskId, Token, bool)>,
    versions: [u64; 2],
    counter: u64,
    last: Option<Call>,
}

impl World {
    /// The calls that a command means at this instant; most mean one, moving the clock means none.
    pub(super) fn calls(&mut self, command: &Command, now: Timestamp) -> Vec<Call> {
        let call = match command {
            Command::Advance(_) => return Vec::new(),
            Command::Again => return self.last.clone().into_iter().collect(),
            Command::Read(which, max) => {
                let Select { filter, max } = self.select(which, *max);
                let list = Call::List(filter.clone(), None, max.max(1));
                return vec![list, Call::Count(filter.clone()), Call::Get(filter.ids)];
            }
            other => self.call(other, now),
        };
        self.last = Some(call.clone());
        vec![call]
    }

    fn call(&mut self, command: &Command, now: Timestamp) -> Call {
        match command {
            Command::Enqueue(items) => {
                Call::Enqueue(items.iter().map(|item| self.item(item, now)).collect())
            }
            Command::OpenSession => {
                let id = SessionId::new(self.fresh());
                self.sessions.push(Session { id, lease: LEASE });
                Call::OpenSession(id, LEASE)
            }
            Command::ReopenSession(session) => Call::OpenSession(self.session(*session).id, LEASE),
            Command::CloseSession(session) => Call::CloseSession(self.session(*session)),
            Command::Claim { session, wants } => {
                let session = self.session(*session);
                let wants = wants.iter().map(|(lane, max, bytes)| Want {
                    bytes: *bytes,
                    ..Want::new(lane_of(*lane), *max, self.fresh())
                });
                Call::Claim(session, wants.collect())
            }
            Command::Heartbeat { session, honest } => {
                let session = self.session(*session);
                let held = self.held(session.id);
                let all = if *honest { &held[..] } else { held.get(1..).unwrap_or_default() };
                Call::Heartbeat(session, Held::of(all))
            }
            Command::Cancels(session) => Call::Cancels(self.session(*session)),
            Command::Reconcile { session, forgotten } => {
                let session = self.session(*session);
                let held = self.held(session.id);
                Call::Reconcile(session, held.into_iter().skip(*forgotten).collect())
            }
            Command::Finish { session, ends } => {
                let session = self.session(*session);
                Call::Finish(session, ends.iter().filter_map(|end| self.end(*end)).collect())
            }
            Command::Cancel(which, max) => Call::Cancel(self.select(which, *max)),
            Command::Retry(which, max) => Call::Retry(self.select(which, *max)),
            Command::Remove(which, max) => Call::Remove(self.select(which, *max)),
            Command::Pause(lane, paused) => Call::Pause(lane_of(*lane), *paused),
            Command::Promote(max) => Call::Promote(*max),
            Command::Reclaim(max) => Call::Reclaim(*max),
            Command::Restored => Call::Restored,
            Command::Expire(max) => Call::Expire(*max),
            Command::Purge(max) => Call::Purge(*max),
            Command::Schedule(index, what) => self.schedule(*index, *what, now),
            Command::DueSchedules => Call::DueSchedules,
            Command::ReadyLanes(after, max) => Call::ReadyLanes(after.map(lane_of), *max),
            Command::Ended(after, max) => {
                let after = self.pick(*after).map_or(TaskId::from_bytes([0; 16]), |task| task.id);
                Call::Ended((now - Duration::from_secs(5), after), *max)
            }
            Command::Advance(_) | Command::Again | Command::Read(..) => {
                unreachable!("`calls` has dealt with it")
            }
        }
    }

    /// Remembers what later commands can refer to.
    pub(super) fn learn(&mut self, call: &Call, answer: &Answer) {
        match (call, answer) {
            (Call::Claim(session, _), Answer::Leases(leases)) => {
                let given = leases.iter().map(|lease| (session.id, lease.id, lease.token, true));
                self.leases.extend(given);
            }
            (Call::Finish(_, ends), _) => {
                for end in ends {
                    let mine = |lease: &&mut (_, TaskId, Token, _)| {
                        (lease.1, lease.2) == (end.id, end.token)
                    };
                    if let Some(lease) = self.leases.iter_mut().find(mine) {
                        lease.3 = false;
                    }
                }
            }
            (Call::PutSchedules(schedules), Answer::Versions(versions)) => {
                for (schedule, version) in schedules.iter().zip(versions) {
                    self.versions[index_of(&schedule.name)] =
                        version.unwrap_or(self.versions[index_of(&schedule.name)]);
                }
            }
            (Call::Schedules, Answer::Schedules(schedules)) => {
                for schedule in schedules {
                    self.versions[index_of(&schedule.name)] = schedule.version;
                }
            }
            _ => {}
        }
    }

    fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn fresh_task(&mut self, now: Timestamp) -> Task {
        let mut random = [0; 10];
        // Not in the order of their making: ids of several clients are not.
        random[..8]
            .copy_from_slice(&(self.fresh().wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
        Task::new(TaskId::new(now, random), module("job"), "run", Payload::cbor([0xa0]))
    }

    fn pick(&self, index: usize) -> Option<&Task> {
        if self.tasks.is_empty() { None } else { self.tasks.get(index % self.tasks.len()) }
    }

    /// The session that was opened so many sessions ago.
    fn session(&self, index: usize) -> Session {
        let nobody = Session { id: SessionId::new(u64::MAX), lease: LEASE };
        self.sessions.iter().rev().nth(index).copied().unwrap_or(nobody)
    }

    fn held(&self, session: SessionId) -> Vec<(TaskId, Token)> {
        let mine = self.leases.iter().filter(|lease| lease.0 == session && lease.3);
        mine.map(|(_, id, token, _)| (*id, *token)).collect()
    }

    fn item(&mut self, item: &Item, now: Timestamp) -> Task {
        let task = match item {
            Item::New(special) => self.special(special, now),
            Item::Repeat(index) | Item::Altered(index) => match self.pick(*index).cloned() {
                Some(mut task) => {
                    if matches!(item, Item::Altered(_)) {
                        task.args = Payload::raw(*b"altered");
                    }
                    return task;
                }
                None => self.fresh_task(now),
            },
            Item::Orphan => {
                let mut task = self.fresh_task(now);
                task.after = vec![TaskId::from_bytes([9; 16])];
                task
            }
        };
        self.tasks.push(task.clone());
        task
    }

    fn special(&mut self, special: &Special, now: Timestamp) -> Task {
        let mut task = self.fresh_task(now);
        task.lane = lane_of(special.lane);
        task.args = Payload::raw(vec![7; special.size]);
        task.priority = Priority::new(special.priority).expect("it is in range");
        task.delay = Span::from_secs(special.delay);
        task.run_at =
            special.run_at.map(|seconds| Timestamp::from_millis(now.as_millis() + seconds * 1000));
        task.ttl = special.ttl.map(Span::from_secs);
        task.retry.crashes = special.crashes;
        task.result_ttl = Span::from_secs(special.result_ttl);
        task.unique = special.unique.map(|(key, scope)| Unique {
            key: format!("key {key}"),
            scope: Scope::ALL[scope],
            window: Span::from_secs(10),
            unknown: Default::default(),
        });
        task.after = special
            .after
            .iter()
            .filter_map(|index| self.pick(*index))
            .map(|parent| parent.id)
            .collect();
        if special.runs_anyway {
            task.on_parent_failure = OnParentFailure::Run;
        }
        task
    }

    /// The end of the lease that was given so many leases ago.
    fn end(&self, (ago, proof, ending): (usize, Proof, Ending)) -> Option<End> {
        let (_, id, mut token, _) = *self.leases.iter().rev().nth(ago)?;
        match proof {
            Proof::Right => {}
            Proof::WrongNonce => token.nonce ^= 1 << 40,
            Proof::WrongFence => token.fence += 1,
        }
        let failed = || TaskResult::failure(error("it trapped"));
        let how = match ending {
            Ending::Success => {
                How::Succeeded(TaskResult::success(Payload::raw(token.nonce.to_be_bytes())).into())
            }
            Ending::Failure => How::Failed(failed().into()),
            Ending::Cancelled => How::Cancelled(failed().into()),
            Ending::Retry(after) => {
                How::Retry { after: Duration::from_secs(after), error: error("again") }
            }
            Ending::Release(after) => How::Release {
                after: Duration::from_secs(after),
                error: (after > 0).then(|| error("not now")),
            },
        };
        Some(End { id, token, how })
    }

    fn select(&self, which: &Which, max: usize) -> Select {
        let any = Filter::default();
        let filter = match which {
            Which::Ids(indexes) => {
                let ids = indexes.iter().filter_map(|index| self.pick(*index));
                let mut ids: Vec<_> = ids.map(|task| task.id).collect();
                ids.push(TaskId::from_bytes([9; 16])); // nobody, so that no ids do not become any
                Filter { ids, ..any }
            }
            Which::Lane(index) => {
                let Lane { tenant, queue } = lane_of(*index);
                Filter { tenant: Some(tenant), queue: Some(queue), ..any }
            }
            Which::State(index) => Filter { states: vec![State::ALL[*index]], ..any },
            Which::All => any,
        };
        Select { filter, max }
    }

    fn schedule(&mut self, index: usize, what: Scheduling, now: Timestamp) -> Call {
        let current = self.versions[index];
        let version = |off: i64| current.saturating_add_signed(off);
        let (tenant, called) = (Name::default_name(), schedule_name(index));
        match what {
            Scheduling::Put { version: off, after, paused } => {
                let task = self.fresh_task(now);
                Call::PutSchedules(vec![Schedule {
                    tenant,
                    name: called,
                    timing: Timing::Every(Span::from_secs(5)),
                    zone: String::new(),
                    missed: Default::default(),
                    task,
                    paused: paused.then_some(now),
                    next: (after < 9).then(|| now + Duration::from_secs(after)),
                    version: if off > 0 { 0 } else { version(off) },
                    unknown: Default::default(),
                }])
            }
            Scheduling::Remove => Call::RemoveSchedules(vec![(tenant, called)]),
            Scheduling::Fire { version: off, tasks } => {
                let tasks = (0..tasks).map(|_| self.fresh_task(now)).collect();
                let next = Some(now + Duration::from_secs(5));
                Call::Fire(vec![Fire { tenant, name: called, version: version(off), next, tasks }])
            }
        }
    }
}

fn lane_of(index: usize) -> Lane {
    [Lane::default(), lane("default", "media"), lane("acme", "media")][index % 3].clone()
}

fn schedule_name(index: usize) -> Name {
    name(["hourly", "nightly"][index])
}

fn index_of(called: &Name) -> usize {
    usize::from(called.as_str() == "nightly")
}
