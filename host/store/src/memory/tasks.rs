//! The task store in memory: [`Core`] behind a lock, and what wakes those who wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};

use super::lock;
use crate::core::Core;
use crate::watch::Watch;
use crate::{
    Admin, Beat, Caps, Changes, Clock, CopyPage, Counts, Due, Durability, End, Enqueued, Filter,
    Finished, Fire, Fired, Held, Imported, Info, Interest, Layout, Lease, Moved, Outcome, Page,
    Report, Restored, Result, Select, Session, Stats, TaskCopy, TaskStore, Want, Weakness,
    WorkerInfo,
};

/// Tasks in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryTasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Mutex<Timed>,
    clock: Arc<dyn Clock>,
    watch: Watch,
}

#[derive(Debug)]
struct Timed {
    core: Core,
    /// Leaps of the clock that the sessions were spared.
    leapt: Duration,
}

impl MemoryTasks {
    /// An empty store whose time is that of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let core = Mutex::new(Timed { core: Core::new(), leapt: clock.leapt() });
        Self(Arc::new(Inner { core, clock, watch: Watch::default() }))
    }

    /// Looks at the state machine, at the present instant.
    fn read<T>(&self, look: impl FnOnce(&Core, Timestamp) -> T) -> Result<T> {
        let timed = lock(&self.0.core)?;
        Ok(look(&timed.core, self.0.clock.now()))
    }

    /// Changes the state machine, at the present instant, and wakes those whom the change may interest.
    fn write<T>(&self, change: impl FnOnce(&mut Core, Timestamp) -> T) -> Result<T> {
        let mut timed = lock(&self.0.core)?;
        let Timed { core, leapt } = &mut *timed;
        // The clock is read under the lock, so that the state machine never sees time go back.
        let now = self.0.clock.now();
        let leaps = self.0.clock.leapt();
        if leaps > *leapt {
            core.spare(now, leaps - *leapt);
            *leapt = leaps;
        }
        let answer = change(core, now);
        let changed = core.take_changed();
        drop(timed);
        for (changed, interest) in [(changed.work, Interest::Work), (changed.ends, Interest::Ends)]
        {
            if changed {
                self.0.watch.bump(interest);
            }
        }
        Ok(answer)
    }
}

#[async_trait]
impl TaskStore for MemoryTasks {
    fn caps(&self) -> Caps {
        Caps {
            name: "memory",
            durable: false,
            shared: false,
            atomic_batch: true,
            external_transaction: false,
        }
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.0.clock.now())
    }

    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        self.write(|core, now| core.enqueue(now, tasks))
    }

    async fn open_session(
        &self,
        id: SessionId,
        _worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        self.write(|core, now| core.open_session(now, id, lease))
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        self.write(|core, now| core.close_session(now, session))
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        self.write(|core, now| core.claim(now, session, wants))
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        self.write(|core, now| core.heartbeat(now, session, held))
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        self.read(|core, _| core.cancels(session))
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        self.write(|core, now| core.reconcile(now, session, held))
    }

    async fn finish(&self, _session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        self.write(|core, now| core.finish(now, ends))
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        self.write(|core, now| core.cancel(now, select))
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        self.write(|core, now| core.retry(now, select))
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        self.write(|core, _| core.remove(select))
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        self.write(|core, _| core.pause(lane, paused))
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        self.read(|core, _| core.ready_lanes(after, max))
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        self.write(|core, now| core.promote(now, max))
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        self.write(|core, now| core.reclaim(now, max))
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        self.write(|core, now| core.expire(now, max))
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.write(|core, now| core.purge(now, max))
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        self.write(|core, _| core.put_schedules(schedules))
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        self.write(|core, _| core.remove_schedules(names))
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        self.read(|core, _| core.schedules(tenant))
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        self.read(|core, now| core.due_schedules(now, max))
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        self.write(|core, now| core.fire(now, fires))
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        self.read(|core, _| core.get(ids))
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        self.read(|core, _| core.list(filter, before, max))
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        self.read(|core, _| core.count(filter))
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        self.read(|core, _| core.ended(after, max))
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.0.watch.now(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        self.0.watch.changed(interest, seen, timeout).await
    }

    /// Does nothing: the tasks live as long as somebody holds the store.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Admin for MemoryTasks {
    async fn check(&self) -> Result<Report> {
        self.read(|_, _| Report {
            version: format!("memory of this process, omniq {}", env!("CARGO_PKG_VERSION")),
            durability: Durability::None,
            layout: None,
            weaker: vec![Weakness {
                what: "tasks are in memory, and gone with the process".into(),
                next: "name a file, such as `sqlite:omniq.db`".into(),
            }],
        })
    }

    async fn finish_migration(&self) -> Result<Layout> {
        Ok(Layout::default())
    }

    async fn restored(&self) -> Result<Restored> {
        let moved = self.write(|core, now| core.restored(now))?;
        Ok(Restored { incarnation: None, moved })
    }

    async fn stats(&self) -> Result<Stats> {
        self.read(|core, now| core.stats(now))
    }

    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage> {
        self.read(|core, now| core.export(now, after, max))
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> Result<Vec<Imported>> {
        self.write(|core, now| core.import(now, tasks))
    }
}
