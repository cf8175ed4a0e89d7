//! The task store.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};
use tokio::sync::Mutex;

use super::Root;
use super::frame::Request;
use super::hub::{Hold, Hub};
use super::objects::NAME;
use crate::log::{Answer, Command, Query};
use crate::*;

/// How a task store on files or objects is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it is.
    pub root: Root,
    /// What an answer has survived. Object stores always keep what they have taken. Default: a loss of power.
    pub durability: Durability,
    /// What decides every deadline: the clock of the process that owns the store. Default: the host's clock.
    pub clock: Arc<dyn Clock>,
    /// Bytes of free disk space below which no new tasks are accepted, so that running ones can still end. Default 64 MiB.
    pub reserve: u64,
    /// Bytes of log after which an image of all tasks is written, unless the last one was larger: then that many.
    /// Default 64 MiB.
    pub image_every: u64,
    /// How long a call waits at most, unless it is over many tasks: those wait [`LONG`](crate::guard::LONG) times as long.
    /// Default 10 s.
    pub patience: Duration,
    /// Only for buckets: how often the owner looks for what other processes ask, and they for answers. Default 100 ms.
    pub poll: Duration,
    /// Only for buckets: how long the owner may say nothing before another process takes over. The owner's own counts,
    /// whoever watches it. Default 15 s.
    pub lease: Duration,
}

impl Config {
    /// The tasks under that root, everything else by default.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            durability: Durability::default(),
            clock: Arc::new(SystemClock::default()),
            reserve: 64 << 20,
            image_every: 64 << 20,
            patience: Duration::from_secs(10),
            poll: Duration::from_millis(100),
            lease: Duration::from_secs(15),
        }
    }

    /// The tasks under that root, as the options say.
    pub fn with(root: Root, options: &Options) -> Self {
        let lease = root.lease;
        let defaults = Self::new(root);
        Self {
            lease: lease.unwrap_or(defaults.lease),
            patience: options.timeout,
            durability: options.durability,
            clock: Arc::clone(&options.clock),
            reserve: options.reserve,
            ..defaults
        }
    }
}

/// Tasks in a folder or a bucket.
#[derive(Debug, Clone)]
pub struct ObjectTasks(Arc<Hold>);

impl ObjectTasks {
    /// Opens the tasks there, or begins anew; returns once this process owns them, or has found the process that does.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the place cannot be used, [`Corrupt`](ErrorKind::Corrupt) when what is there
    /// cannot be read, [`Schema`](ErrorKind::Schema) when a newer OmniQ has written it,
    /// [`NotApplied`](ErrorKind::NotApplied) when another process owns it and does not answer.
    pub async fn open(config: Config) -> Result<Self> {
        let hub = Hub::open(config).await?;
        Ok(Self(Arc::new(Hold::on(&hub))))
    }

    /// The tasks there, shared with whoever has them open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        static OPEN: LazyLock<Mutex<HashMap<String, Weak<Hub>>>> = LazyLock::new(Mutex::default);
        let mut open = OPEN.lock().await;
        let name = config.root.shown.clone();
        if let Some(hub) = open.get(&name).and_then(Weak::upgrade)
            && !hub.is_closed()
        {
            return Ok(Self(Arc::new(Hold::on(&hub))));
        }
        open.retain(|_, hub| hub.strong_count() > 0);
        let hub = Hub::open(config).await?;
        open.insert(name, Arc::downgrade(&hub));
        Ok(Self(Arc::new(Hold::on(&hub))))
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(super) async fn command<T>(&self, command: Command, action: &'static str) -> Result<T>
    where
        T: TryFrom<Answer, Error = Error>,
    {
        self.0.check()?;
        self.0.hub.call(Request::Command(command), action).await?.try_into()
    }

    pub(super) async fn query<T>(&self, query: Query, action: &'static str) -> Result<T>
    where
        T: TryFrom<Answer, Error = Error>,
    {
        self.0.check()?;
        self.0.hub.call(Request::Query(query), action).await?.try_into()
    }
}

#[async_trait]
impl TaskStore for ObjectTasks {
    fn caps(&self) -> Caps {
        let config = &self.0.hub.config;
        let is_local = config.root.folder.is_some();
        Caps {
            name: if is_local { "file" } else { NAME },
            durable: !is_local || config.durability != Durability::None,
            shared: true,
            atomic_batch: true,
            external_transaction: false,
        }
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.query(Query::Now, "tell the time").await
    }

    async fn enqueue(&self, tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        self.command(Command::Enqueue(tasks), "enqueue tasks").await
    }

    async fn open_session(
        &self,
        id: SessionId,
        _worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        self.command(Command::OpenSession(id, lease), "open a session").await
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        self.command(Command::CloseSession(*session), "close a session").await
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        self.command(Command::Claim(*session, wants.to_vec()), "claim tasks").await
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        self.command(Command::Heartbeat(*session, held), "keep a session alive").await
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        self.query(Query::Cancels(*session), "look for cancelled tasks").await
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        self.command(Command::Reconcile(*session, held.to_vec()), "reconcile a session").await
    }

    async fn finish(&self, _session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
        self.command(Command::Finish(ends), "finish tasks").await
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        self.command(Command::Cancel(select.clone()), "cancel tasks").await
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        self.command(Command::Retry(select.clone()), "retry tasks").await
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        self.command(Command::Remove(select.clone()), "remove tasks").await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        self.command(Command::Pause(lane.clone(), paused), "pause a queue").await
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        self.query(Query::ReadyLanes(after.cloned(), max), "list queues with work").await
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        self.command(Command::Promote(max), "make due tasks ready").await
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        self.command(Command::Reclaim(max), "reclaim tasks").await
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        self.command(Command::Expire(max), "expire tasks").await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.command(Command::Purge(max), "purge tasks").await
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        self.command(Command::PutSchedules(schedules), "keep schedules").await
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        self.command(Command::RemoveSchedules(names.to_vec()), "remove schedules").await
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        self.query(Query::Schedules(tenant.cloned()), "list schedules").await
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        self.query(Query::DueSchedules(max), "list due schedules").await
    }

    async fn fire(&self, fires: Vec<Fire>) -> Result<Vec<Fired>> {
        self.command(Command::Fire(fires), "fire schedules").await
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        self.query(Query::Get(ids.to_vec()), "look tasks up").await
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        self.query(Query::List(filter.clone(), before, max), "list tasks").await
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        self.query(Query::Count(filter.clone()), "count tasks").await
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        self.query(Query::Ended(after, max), "list ended tasks").await
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.0.hub.signals.changes(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        let mut counter = self.0.hub.signals.subscribe(interest);
        let later = counter.wait_for(|count| *count > seen.0);
        // In both other cases, time over and store gone, what has changed by now is the answer.
        match tokio::time::timeout(timeout, later).await {
            Ok(Ok(count)) => Changes(*count),
            _ => self.changes(interest),
        }
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}
