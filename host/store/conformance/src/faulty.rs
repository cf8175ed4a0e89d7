//! A layer around a store of tasks that loses calls and answers: what a cut connection does, without the connection.
//!
//! A call that is lost before it arrives changes nothing; one whose answer is lost has changed everything it was to
//! change. The caller sees [`Unavailable`](omniq_store::ErrorKind::Unavailable) both times and cannot tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, TaskId, Timestamp, Token};
use omniq_store::{
    Admin, Beat, Caps, Changes, CopyPage, Counts, Due, End, Enqueued, Error, Filter, Finished,
    Fire, Fired, Held, Imported, Info, Interest, Layout, Lease, Moved, Outcome, Page, Report,
    Restored, Result, Select, Session, Stats, TaskCopy, TaskStore, Want, WorkerInfo,
};

use crate::roll::Rolls;

/// Which calls and answers are lost.
#[derive(Debug)]
struct Plan {
    rolls: Rolls,
    /// In per mille: how often a call is lost before it arrives.
    before: u32,
    /// In per mille: how often its answer is.
    after: u32,
    /// By the name of the call: how many of its next answers are lost.
    answers: BTreeMap<&'static str, u32>,
    lost: u64,
}

/// A store that loses calls and answers.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn TaskStore>,
    plan: Mutex<Plan>,
}

impl Faulty {
    /// Loses nothing until it is told to.
    pub fn new(inner: Arc<dyn TaskStore>) -> Self {
        Self::random(inner, 0, 0, 0)
    }

    /// Loses `before` of 1000 calls and the answers of `after` of 1000, as they follow from `seed`.
    pub fn random(inner: Arc<dyn TaskStore>, seed: u64, before: u32, after: u32) -> Self {
        let rolls = Rolls::new(seed);
        let plan = Plan { rolls, before, after, answers: BTreeMap::new(), lost: 0 };
        Self { inner, plan: Mutex::new(plan) }
    }

    /// Loses the answer of the next call of that name, such as `finish`.
    pub fn lose_answer(&self, call: &'static str) {
        *self.plan().answers.entry(call).or_default() += 1;
    }

    /// Loses nothing from now on; returns how much was lost.
    pub fn heal(&self) -> u64 {
        let mut plan = self.plan();
        (plan.before, plan.after) = (0, 0);
        plan.answers.clear();
        plan.lost
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().expect("nothing panics while it holds the plan")
    }

    fn before(&self, call: &'static str) -> Result<()> {
        let mut plan = self.plan();
        let before = plan.before;
        if plan.rolls.happens(before) {
            plan.lost += 1;
            return Err(Error::unavailable("faulty", call, "the call was lost"));
        }
        Ok(())
    }

    fn after(&self, call: &'static str) -> Result<()> {
        let mut plan = self.plan();
        let after = plan.after;
        let planned = plan.answers.get_mut(call).is_some_and(|left| {
            let some = *left > 0;
            *left = left.saturating_sub(1);
            some
        });
        if planned || plan.rolls.happens(after) {
            plan.lost += 1;
            return Err(Error::unavailable("faulty", call, "the answer was lost"));
        }
        Ok(())
    }
}

/// Each call: perhaps lost before, done, its answer perhaps lost.
macro_rules! through {
    ($self:ident . $call:ident ( $($argument:expr),* )) => {{
        $self.before(stringify!($call))?;
        let answer = $self.inner.$call($($argument),*).await;
        $self.after(stringify!($call))?;
        answer
    }};
}

#[async_trait]
impl TaskStore for Faulty {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin().is_some().then_some(self as &dyn Admin)
    }

    async fn now(&self) -> Result<Timestamp> {
        through!(self.now())
    }

    async fn enqueue(&self, tasks: Vec<omniq_model::Task>) -> Result<Vec<Enqueued>> {
        through!(self.enqueue(tasks))
    }

    async fn open_session(
        &self,
        id: SessionId,
        worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        through!(self.open_session(id, worker, lease))
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        through!(self.close_session(session))
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        through!(self.claim(session, wants))
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        through!(self.heartbeat(session, held))
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        through!(self.cancels(session))
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        through!(self.reconcile(session, held))
    }

    async fn finish(&self, session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        through!(self.finish(session, ends))
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        through!(self.cancel(select))
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        through!(self.retry(select))
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        through!(self.remove(select))
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        through!(self.pause(lane, paused))
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        through!(self.ready_lanes(after, max))
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        through!(self.promote(max))
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        through!(self.reclaim(max))
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        through!(self.expire(max))
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        through!(self.purge(max))
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        through!(self.put_schedules(schedules))
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        through!(self.remove_schedules(names))
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        through!(self.schedules(tenant))
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        through!(self.due_schedules(max))
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        through!(self.fire(fires))
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        through!(self.get(ids))
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        through!(self.list(filter, before, max))
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        through!(self.count(filter))
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        through!(self.ended(after, max))
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.inner.changes(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        self.inner.changed(interest, seen, timeout).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl Faulty {
    fn of_inner(&self) -> Result<&dyn Admin> {
        let backend = self.inner.caps().name;
        self.inner.admin().ok_or(Error::Unsupported { backend, action: "be administered" })
    }
}

#[async_trait]
impl Admin for Faulty {
    async fn check(&self) -> Result<Report> {
        self.of_inner()?.check().await
    }

    async fn finish_migration(&self) -> Result<Layout> {
        self.of_inner()?.finish_migration().await
    }

    async fn restored(&self) -> Result<Restored> {
        self.before("restored")?;
        let answer = self.of_inner()?.restored().await;
        self.after("restored")?;
        answer
    }

    async fn stats(&self) -> Result<Stats> {
        self.of_inner()?.stats().await
    }

    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage> {
        self.before("export")?;
        self.of_inner()?.export(after, max).await
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> Result<Vec<Imported>> {
        self.before("import")?;
        let answers = self.of_inner()?.import(tasks).await;
        self.after("import")?;
        answers
    }
}
