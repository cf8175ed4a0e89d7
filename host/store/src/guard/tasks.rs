//! The guard in front of a store of tasks.

use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};

use super::{Guarded, eager, long, patient};
use crate::*;

#[async_trait]
impl TaskStore for Guarded<dyn TaskStore> {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin()
    }

    fn layered(&self) -> Option<&dyn TaskStore> {
        Some(&*self.inner)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.guard.call(eager("tell the time"), self.inner.now()).await
    }

    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        self.guard.call(eager("enqueue tasks"), self.inner.enqueue(tasks)).await
    }

    async fn open_session(
        &self,
        id: SessionId,
        worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        let opened = self.inner.open_session(id, worker, lease);
        self.guard.call(eager("open a session"), opened).await
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        self.guard.call(patient("close a session"), self.inner.close_session(session)).await
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        self.guard.call(eager("claim tasks"), self.inner.claim(session, wants)).await
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        let beat = self.inner.heartbeat(session, held);
        self.guard.call(patient("keep a session alive"), beat).await
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        self.guard.call(eager("read what is to be stopped"), self.inner.cancels(session)).await
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        let moved = self.inner.reconcile(session, held);
        self.guard.call(patient("put lost claims back"), moved).await
    }

    async fn finish(&self, session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        self.guard.call(patient("finish tasks"), self.inner.finish(session, ends)).await
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        self.guard.call(long("cancel tasks"), self.inner.cancel(select)).await
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        self.guard.call(long("retry tasks"), self.inner.retry(select)).await
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        self.guard.call(long("remove tasks"), self.inner.remove(select)).await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        self.guard.call(eager("pause a lane"), self.inner.pause(lane, paused)).await
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        let lanes = self.inner.ready_lanes(after, max);
        self.guard.call(eager("read the ready lanes"), lanes).await
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        self.guard.call(eager("make due tasks ready"), self.inner.promote(max)).await
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        self.guard.call(eager("take tasks from dead sessions"), self.inner.reclaim(max)).await
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        self.guard.call(eager("expire tasks"), self.inner.expire(max)).await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.guard.call(long("forget ended tasks"), self.inner.purge(max)).await
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        self.guard.call(eager("keep schedules"), self.inner.put_schedules(schedules)).await
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        self.guard.call(eager("remove schedules"), self.inner.remove_schedules(names)).await
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        self.guard.call(long("read schedules"), self.inner.schedules(tenant)).await
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        self.guard.call(eager("read due schedules"), self.inner.due_schedules(max)).await
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        self.guard.call(eager("fire schedules"), self.inner.fire(fires)).await
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        self.guard.call(eager("read tasks"), self.inner.get(ids)).await
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        self.guard.call(long("list tasks"), self.inner.list(filter, before, max)).await
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        self.guard.call(long("count tasks"), self.inner.count(filter)).await
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        self.guard.call(long("read ended tasks"), self.inner.ended(after, max)).await
    }

    async fn is_idle(&self) -> Result<bool> {
        self.guard.call(eager("tell whether all is done"), self.inner.is_idle()).await
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.inner.changes(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        self.inner.changed(interest, seen, timeout).await
    }

    async fn close(&self) -> Result<()> {
        self.guard.close(self.inner.close()).await
    }
}
