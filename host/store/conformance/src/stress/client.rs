//! One client of a run: what it does in each of its turns, and what it remembers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use omniq_model::{
    Kind, OnParentFailure, Schedule, Scope, SessionId, Span, State, Task, TaskError, TaskId,
    TaskResult, Token, Unique,
};
use omniq_store::{Beat, End, Fire, Fired, Held, How, Info, Session, Want, WorkerInfo};

use crate::history::{self, Call, Offer, Recorder, What};
use crate::kit::{Kit, LEASE, error, lane, select};
use crate::roll::Rolls;

use super::told::*;
use super::{PERIOD, answered, sweep};

/// One client: producer, worker and operator in turn.
pub(super) struct Client {
    number: u32,
    kit: Kit,
    recorder: Arc<Recorder>,
    rolls: Rolls,
    session: Option<Session>,
    /// What it holds.
    held: Vec<(TaskId, Token, u32)>,
    /// Leases it once had: for ends that come too late.
    old: VecDeque<(TaskId, Token)>,
    /// Tasks it enqueued.
    mine: Vec<TaskId>,
    mismatches: u32,
}

impl Client {
    pub(super) fn new(number: u32, kit: Kit, recorder: Arc<Recorder>, rolls: Rolls) -> Self {
        Self {
            number,
            kit,
            recorder,
            rolls,
            session: None,
            held: Vec::new(),
            old: VecDeque::new(),
            mine: Vec::new(),
            mismatches: 0,
        }
    }

    pub(super) async fn step(&mut self) {
        match self.rolls.below(100) {
            0..20 => self.enqueue().await,
            20..45 => self.claim().await,
            45..75 => self.finish().await,
            75..83 => self.heartbeat().await,
            83..86 => self.cancel().await,
            86..88 => self.retry().await,
            88..90 => self.read().await,
            90..93 => self.fire().await,
            93..96 => self.sweep().await,
            96..98 => self.die(),
            98 => self.close().await,
            _ => self.kit.advance(Duration::from_millis(self.rolls.roll() % 3000)),
        }
    }

    fn begin(&self) -> Call {
        self.recorder.begin(self.number, self.kit.now())
    }

    fn end(&self, call: Call, what: impl IntoIterator<Item = What>) {
        self.recorder.end(call, self.kit.now(), what);
    }

    async fn enqueue(&mut self) {
        let count = 1 + self.rolls.below(4);
        let tasks: Vec<_> = (0..count).map(|_| self.task()).collect();
        self.mine.extend(tasks.iter().map(|task| task.id));
        let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
        let told = |task, outcome| What::Enqueue { task, outcome };
        for _ in 0..3 {
            let call = self.begin();
            match answered(self.kit.store.enqueue(tasks.clone()).await) {
                Some(answers) => {
                    let pairs = ids.iter().zip(&answers);
                    self.end(call, pairs.map(|(id, answer)| told(*id, Offer::of(*id, answer))));
                    return;
                }
                None => self.recorder.lost(call, ids.iter().map(|id| told(*id, Offer::Unknown))),
            }
        }
    }

    fn task(&mut self) -> Task {
        let mut task = self.kit.task();
        let rolls = &mut self.rolls;
        if rolls.happens(300) {
            task.lane = lane("acme", "media");
        }
        if rolls.happens(200) {
            task.delay = Span::from_millis(rolls.roll() % 5000);
        }
        if rolls.happens(100) {
            task.ttl = Some(Span::from_millis(rolls.roll() % 20_000));
        }
        if rolls.happens(150) {
            let key = format!("key {}", rolls.below(20));
            let scope = Scope::UntilFinished;
            task.unique =
                Some(Unique { key, scope, window: Span::ZERO, unknown: Default::default() });
        }
        if rolls.happens(300) && !self.mine.is_empty() {
            let count = 1 + rolls.below(3);
            task.after = (0..count).map(|_| self.mine[rolls.below(self.mine.len())]).collect();
            if rolls.happens(500) {
                task.on_parent_failure = OnParentFailure::Run;
            }
        }
        task
    }

    async fn session(&mut self) -> Session {
        loop {
            if let Some(session) = self.session {
                return session;
            }
            let id = SessionId::new(self.kit.fresh());
            let call = self.begin();
            let opened = self.kit.store.open_session(id, &WorkerInfo::default(), LEASE).await;
            if let Some(session) = answered(opened) {
                self.end(call, [beat(id)]);
                self.session = Some(session);
            }
        }
    }

    async fn claim(&mut self) {
        let session = self.session().await;
        let lanes = [lane("acme", "media"), Default::default()];
        let wants = lanes.map(|lane| Want::new(lane, 1 + self.rolls.below(4), self.kit.fresh()));
        let call = self.begin();
        let Some(leases) = answered(self.kit.store.claim(&session, &wants).await) else { return };
        let session = Some(session.id);
        let claimed = leases.iter().map(|lease| What::Claim {
            task: lease.id,
            token: lease.token,
            session,
            attempt: lease.attempt,
        });
        self.end(call, claimed);
        self.held.extend(leases.iter().map(|lease| (lease.id, lease.token, lease.attempt)));
    }

    /// Ends some of what it holds, and now and then again what it held once.
    async fn finish(&mut self) {
        let session = self.session().await;
        let mut ends = Vec::new();
        while !self.held.is_empty() && ends.len() < 4 {
            let (id, token, attempt) = self.held.swap_remove(self.rolls.below(self.held.len()));
            self.remember(id, token);
            ends.push(End { id, token, how: self.ending(id, token, attempt) });
        }
        if self.rolls.happens(150) && !self.old.is_empty() {
            let (id, token) = self.old[self.rolls.below(self.old.len())];
            if ends.iter().all(|end| end.id != id) {
                ends.push(End { id, token, how: succeeded(id, token) });
            }
        }
        for _ in 0..3 {
            let call = self.begin();
            match answered(self.kit.store.finish(&session, ends.clone()).await) {
                Some(answers) => {
                    let pairs = ends.iter().zip(answers);
                    self.end(call, pairs.map(|(end, answer)| finished(end, Some(answer))));
                    return;
                }
                None => self.recorder.lost(call, ends.iter().map(|end| finished(end, None))),
            }
        }
    }

    fn remember(&mut self, id: TaskId, token: Token) {
        self.old.push_back((id, token));
        if self.old.len() > 20 {
            self.old.pop_front();
        }
    }

    fn ending(&mut self, id: TaskId, token: Token, attempt: u32) -> How {
        let after = Duration::from_millis(self.rolls.roll() % 2000);
        match self.rolls.below(10) {
            0 => How::Failed(TaskResult::failure(error("it trapped")).into()),
            1 | 2 if attempt < 3 => How::Retry { after, error: error("it trapped") },
            3 => How::Release { after, error: None },
            _ => succeeded(id, token),
        }
    }

    async fn heartbeat(&mut self) {
        let session = self.session().await;
        let held: Vec<_> = self.held.iter().map(|(id, token, _)| (*id, *token)).collect();
        let call = self.begin();
        match answered(self.kit.store.heartbeat(&session, Held::of(&held)).await) {
            None => {}
            Some(Beat::Dead) => {
                self.end(call, [What::Quit { session: session.id }]);
                self.die();
            }
            Some(Beat::Alive { matches, cancel }) => {
                self.end(call, [beat(session.id)]);
                self.mismatches = if matches { 0 } else { self.mismatches + 1 };
                if self.mismatches > 1 {
                    self.reconcile(&session, &held).await;
                }
                self.stop(&session, &cancel).await;
            }
        }
    }

    async fn reconcile(&mut self, session: &Session, held: &[(TaskId, Token)]) {
        let call = self.begin();
        let Some(freed) = answered(self.kit.store.reconcile(session, held).await) else { return };
        self.end(call, freed.iter().map(moved));
        self.mismatches = 0;
    }

    /// Stops what it holds and somebody called off.
    async fn stop(&mut self, session: &Session, cancel: &[(TaskId, Token)]) {
        for (id, token) in cancel {
            // All that one claim gave out may have the same token.
            let place = self.held.iter().position(|(mine, by, _)| (mine, by) == (id, token));
            let Some(place) = place else { continue };
            self.held.swap_remove(place);
            let why = TaskError::new(Kind::Cancelled, "it was called off");
            let end = End {
                id: *id,
                token: *token,
                how: How::Cancelled(TaskResult::failure(why).into()),
            };
            let call = self.begin();
            match answered(self.kit.store.finish(session, vec![end.clone()]).await) {
                Some(answers) => self.end(call, [finished(&end, Some(answers[0]))]),
                None => self.recorder.lost(call, [finished(&end, None)]),
            }
        }
    }

    /// Some of its tasks, for bulk calls.
    fn some(&mut self) -> Vec<TaskId> {
        let count = self.mine.len().min(3);
        (0..count).map(|_| self.mine[self.rolls.below(self.mine.len())]).collect()
    }

    async fn cancel(&mut self) {
        let ids = self.some();
        if ids.is_empty() {
            return;
        }
        let call = self.begin();
        if let Some(outcome) = answered(self.kit.store.cancel(&select(&ids)).await) {
            self.end(call, moves(&outcome));
        }
    }

    async fn retry(&mut self) {
        let ids = self.some();
        if ids.is_empty() {
            return;
        }
        let call = self.begin();
        match answered(self.kit.store.retry(&select(&ids)).await) {
            Some(outcome) => self.end(call, moves(&outcome)),
            // Each of them may have a new life: the checker must allow for it.
            None => self.recorder.lost(
                call,
                ids.iter().map(|task| What::Move {
                    task: *task,
                    fence: 0,
                    from: State::Failed,
                    to: State::Ready,
                }),
            ),
        }
    }

    async fn read(&mut self) {
        let ids = self.some();
        let call = self.begin();
        if let Some(infos) = answered(self.kit.store.get(&ids).await) {
            self.end(
                call,
                infos.iter().flatten().map(|Info { id, head, .. }| What::Read {
                    task: *id,
                    state: head.state,
                    fence: head.fence,
                    value: history::digest(head),
                }),
            );
        }
    }

    /// Fires whatever is due, as every scheduler does.
    async fn fire(&mut self) {
        let due = answered(self.kit.store.due_schedules(5).await).unwrap_or_default();
        for schedule in due {
            let Some(nominal) = schedule.next else { continue };
            let mut task = schedule.task;
            task.id = Schedule::task_id(&schedule.tenant, &schedule.name, nominal);
            let told = {
                let (task, version, name) = (task.id, schedule.version, schedule.name.clone());
                move |fired| What::Fire { schedule: name, version, nominal, task, fired }
            };
            let fire = Fire {
                tenant: schedule.tenant,
                name: schedule.name,
                version: schedule.version,
                next: Some(nominal + PERIOD),
                tasks: vec![task],
            };
            let call = self.begin();
            match answered(self.kit.store.fire(vec![fire]).await) {
                Some(fired) => self.end(call, [told(Some(fired[0] == Fired::Fired))]),
                None => self.recorder.lost(call, [told(None)]),
            }
        }
    }

    /// What every worker does now and then for all.
    async fn sweep(&mut self) {
        sweep(&self.kit, &self.recorder, self.number).await;
    }

    /// Dies without a word: its session lives on until its lease is over.
    fn die(&mut self) {
        self.session = None;
        self.mismatches = 0;
        for (id, token, _) in std::mem::take(&mut self.held) {
            self.remember(id, token);
        }
    }

    async fn close(&mut self) {
        let Some(session) = self.session else { return };
        let call = self.begin();
        let quit = What::Quit { session: session.id };
        match answered(self.kit.store.close_session(&session).await) {
            Some(freed) => self.end(call, freed.iter().map(moved).chain([quit])),
            None => self.recorder.lost(call, [quit]),
        }
        self.die();
    }
}
