//! The task store.

use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, State, Task, TaskId, Timestamp, Token};

use super::Config;
use super::batch::{self, Item, Kind};
use super::claim::RawLease;
use super::control::Act;
use super::fault::{Fault, NAME};
use super::schedule::RawFire;
use super::server::Handle;
use super::wire::{self, Arrival, Bytes};
use crate::*;

/// Tasks on a Redis or Valkey server, or in a cluster of them.
#[derive(Debug, Clone)]
pub struct RedisTasks {
    pub(super) server: Handle,
}

impl RedisTasks {
    /// Opens the store that is there, or begins one.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the server is not set up to promise what is asked for, or does not let us in;
    /// [`Schema`](ErrorKind::Schema) when a newer OmniQ has written what is there;
    /// [`NotApplied`](ErrorKind::NotApplied) when it cannot be reached.
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { server: Handle::open(config).await? })
    }

    /// The store, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { server: Handle::shared(config).await? })
    }

    /// What the server is, with its version.
    pub fn version(&self) -> &str {
        &self.server.checked().version
    }

    /// What is weaker than asked for or could not be found out when the store was opened, and what to do about it.
    pub fn warnings(&self) -> &[(String, String)] {
        &self.server.checked().warnings
    }

    fn fault(&self, fault: Fault, action: &'static str) -> Error {
        fault.into_error(self.server.store().config.place(), action)
    }
}

#[async_trait]
impl TaskStore for RedisTasks {
    fn caps(&self) -> Caps {
        Caps {
            name: NAME,
            durable: self.server.store().config.durability != Durability::None,
            shared: true,
            atomic_batch: false,
            external_transaction: false,
        }
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.server.run("tell the time", |store| async move { store.now().await }).await
    }

    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        const ACTION: &str = "enqueue tasks";
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let item = |task: &Task| {
            let Arrival { args, has_parents } = Arrival::of(task);
            Item { args, ordered: has_parents }
        };
        let items = tasks.iter().map(item).collect();
        let answers = self.server.batch(ACTION, Kind::Enqueue, items).await?;
        answers.iter().map(|answer| enqueued(answer).map_err(|f| self.fault(f, ACTION))).collect()
    }

    async fn open_session(
        &self,
        id: SessionId,
        _worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        let open = |store: std::sync::Arc<super::server::Store>| async move {
            store.open_session(id, lease).await
        };
        self.server.run("open a session", open).await
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        let id = session.id;
        let action = "close a session";
        self.server.run(action, |store| async move { store.close_session(id).await }).await
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        const ACTION: &str = "claim tasks";
        if wants.is_empty() {
            return Ok(Vec::new());
        }
        let (id, wants) = (session.id, wants.to_vec());
        let leases =
            self.server.run(ACTION, |store| async move { store.claim(id, wants).await }).await?;
        let lease = |lease: RawLease| lease.into_lease().map_err(|fault| self.fault(fault, ACTION));
        leases.into_iter().map(lease).collect()
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        let session = *session;
        let action = "keep a session alive";
        self.server.run(action, |store| async move { store.heartbeat(session, held).await }).await
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        let id = session.id;
        let action = "read what is to be stopped";
        self.server.run(action, |store| async move { store.cancels(id).await }).await
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        let (id, held) = (session.id, held.to_vec());
        let action = "put lost claims back";
        self.server.run(action, |store| async move { store.reconcile(id, &held).await }).await
    }

    async fn finish(&self, _session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        const ACTION: &str = "finish tasks";
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let item = |end: &End| Item { args: vec![wire::end(end)], ordered: false };
        let items = ends.iter().map(item).collect();
        let answers = self.server.batch(ACTION, Kind::Finish, items).await?;
        answers.iter().map(|answer| finished(answer).map_err(|f| self.fault(f, ACTION))).collect()
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        let select = select.clone();
        let action = "cancel tasks";
        self.server.run(action, |store| async move { store.act(Act::Cancel, select).await }).await
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        let select = select.clone();
        let action = "retry tasks";
        self.server.run(action, |store| async move { store.act(Act::Retry, select).await }).await
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        let select = select.clone();
        let action = "remove tasks";
        self.server.run(action, |store| async move { store.act(Act::Remove, select).await }).await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        let lane = lane.clone();
        let action = "pause a lane";
        self.server.run(action, |store| async move { store.pause(lane, paused).await }).await
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        let after = after.cloned();
        let action = "read the ready lanes";
        self.server.run(action, |store| async move { store.ready_lanes(after, max).await }).await
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        let action = "make due tasks ready";
        self.server.run(action, |store| async move { store.promote(max).await }).await
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        let action = "take tasks from dead sessions";
        self.server.run(action, |store| async move { store.reclaim(max).await }).await
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        self.server.run("expire tasks", |store| async move { store.expire(max).await }).await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.server.run("forget ended tasks", |store| async move { store.purge(max).await }).await
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        let action = "keep schedules";
        self.server.run(action, |store| async move { store.put_schedules(schedules).await }).await
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        let names = names.to_vec();
        let action = "remove schedules";
        self.server.run(action, |store| async move { store.remove_schedules(names).await }).await
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        let tenant = tenant.cloned();
        let action = "read schedules";
        self.server.run(action, |store| async move { store.schedules(tenant).await }).await
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        let action = "read due schedules";
        self.server.run(action, |store| async move { store.due_schedules(max).await }).await
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        let fires: Vec<_> = fires.into_iter().map(RawFire::of).collect();
        self.server.run("fire schedules", |store| async move { store.fire(fires).await }).await
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        let ids = ids.to_vec();
        self.server.run("read tasks", |store| async move { store.get(ids).await }).await
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        let filter = filter.clone();
        let action = "list tasks";
        self.server.run(action, |store| async move { store.list(filter, before, max).await }).await
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        let filter = filter.clone();
        self.server.run("count tasks", |store| async move { store.count(filter).await }).await
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        let action = "read ended tasks";
        self.server.run(action, |store| async move { store.ended(after, max).await }).await
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.server.store().watch.now(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        self.server.store().watch.changed(interest, seen, timeout).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close().await;
        Ok(())
    }
}

/// What a script said about a task on its way in.
fn enqueued(answer: &batch::Answer) -> super::fault::Result<Enqueued> {
    let mut rest = Bytes(&answer.rest);
    match answer.letter {
        b'C' => Ok(Enqueued::Created),
        b'D' => Ok(Enqueued::Duplicate { id: rest.id()?, state: rest.state()? }),
        b'X' => Ok(Enqueued::Conflict),
        b'U' => Ok(Enqueued::Refused(Refusal::UnknownParent(rest.id()?))),
        other => Err(Fault::Other(format!("a script answered `{other}`"))),
    }
}

/// What a script said about the end of an attempt.
fn finished(answer: &batch::Answer) -> super::fault::Result<Finished> {
    let state: State = Bytes(&answer.rest).state()?;
    match answer.letter {
        b'A' => Ok(Finished::Applied(state)),
        b'B' => Ok(Finished::AppliedBefore(state)),
        b'S' => Ok(Finished::Stale),
        other => Err(Fault::Other(format!("a script answered `{other}`"))),
    }
}
