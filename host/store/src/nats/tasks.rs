//! The task store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{
    DecodeError, Lane, Name, Payload, Schedule, SessionId, Stored, Task, TaskId, TaskResult,
    Timestamp, Token, Value,
};

use super::config::Config;
use super::engine::Handle;
use super::entry::{Answer, Entry};
use super::fault::{Fault, NAME};
use super::values::{Of, Put, Values};
use crate::core::Core;
use crate::log::Command;
use crate::log::outside::{OUTSIDE, Outside};
use crate::*;

/// Values that are looked at for leftovers in one sweep.
const SWEEP: usize = 500;
/// How long after one sweep the next begins at the earliest.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);

/// Tasks in NATS.
#[derive(Debug, Clone)]
pub struct NatsTasks {
    pub(super) store: Handle,
}

impl NatsTasks {
    /// Opens the store, or creates it; returns once everything in it is known here.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the server does not take us, is too old, or is set up so that it may lose
    /// commands; [`Schema`](ErrorKind::Schema) when a newer OmniQ has written it; [`Corrupt`](ErrorKind::Corrupt) when
    /// what is there cannot be read; [`Unavailable`](ErrorKind::Unavailable) when no server answers.
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { store: Handle::open(config).await? })
    }

    /// The store, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { store: Handle::shared(config).await? })
    }

    pub(super) async fn ask<T>(&self, command: Command, action: &'static str) -> Result<T>
    where
        T: TryFrom<crate::log::Answer, Error = Error>,
    {
        answer(self.store.ask(Entry::Tasks(command), action).await?, action)
    }

    /// Whether a call would change nothing, as far as is known here.
    fn is_idle_call(&self, command: &Command, action: &'static str) -> Result<bool> {
        self.store.read(action, |state, now| command.without_effect(&state.core, now).is_some())
    }

    /// Makes a call that the log need not hold if it would change nothing, as far as is known here.
    async fn ask_if_needed<T>(&self, command: Command, action: &'static str) -> Result<T>
    where
        T: TryFrom<crate::log::Answer, Error = Error>,
    {
        let answer =
            self.store.read(action, |state, now| command.without_effect(&state.core, now))?;
        match answer {
            Some(answer) => T::try_from(answer),
            None => self.ask(command, action).await,
        }
    }

    /// Keeps values beside the log, then has the command that names them put into it.
    pub(super) async fn keep_and_ask<T>(
        &self,
        puts: Vec<Put>,
        command: Command,
        action: &'static str,
    ) -> Result<T>
    where
        T: TryFrom<crate::log::Answer, Error = Error>,
    {
        let by = self.store.keep(puts, action).await?;
        answer(self.store.ask_by(Entry::Tasks(command), by, action).await?, action)
    }

    /// Takes arguments out of tasks that are too large to stay in memory.
    fn take_out(&self, tasks: &mut [Task]) -> Vec<Put> {
        let inline = self.store.config.inline;
        let mut puts = Vec::new();
        for task in tasks {
            if Values::is_outside(&task.args, inline) {
                let whole = task.encoded_len();
                puts.extend(Values::take_out(
                    Of::Arguments(task.id),
                    &mut task.args,
                    inline,
                    whole,
                ));
            }
        }
        puts
    }

    /// The same for what attempts ended with.
    fn take_results_out(&self, ends: &mut [End]) -> Vec<Put> {
        let inline = self.store.config.inline;
        let mut puts = Vec::new();
        for End { id, how, .. } in ends {
            if let How::Succeeded(result) | How::Failed(result) | How::Cancelled(result) = how
                && let Some(Value::Inline(payload)) = &result.value
                && Values::is_outside(payload, inline)
                && let Some(Value::Inline(payload)) = &mut Arc::make_mut(result).value
            {
                let whole = payload.bytes.len();
                puts.extend(Values::take_out(Of::Outcome(*id), payload, inline, whole));
            }
        }
        puts
    }

    /// The values that these stand for.
    async fn fetch(
        &self,
        wanted: Vec<(Of, Payload)>,
        action: &'static str,
    ) -> Result<Vec<std::result::Result<Payload, DecodeError>>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = self.store.values()?.fetch(wanted).await;
        fetched.map_err(|fault| self.store.error(fault, action))
    }

    /// Puts the arguments back into leased tasks.
    async fn complete_leases(&self, leases: &mut [Lease], action: &'static str) -> Result<()> {
        let outside =
            |lease: &Lease| lease.task.as_ref().is_ok_and(|task| task.args.format == OUTSIDE);
        let wanted = leases.iter().filter(|lease| outside(lease)).filter_map(arguments_of);
        let mut values = self.fetch(wanted.collect(), action).await?.into_iter();
        for lease in leases.iter_mut().filter(|lease| outside(lease)) {
            if let Some(value) = values.next() {
                put_back(&mut lease.task, value);
            }
        }
        Ok(())
    }

    /// Puts arguments and results back into records.
    pub(super) async fn complete<'a>(
        &self,
        infos: impl Iterator<Item = &'a mut Info>,
        action: &'static str,
    ) -> Result<()> {
        let mut infos: Vec<_> = infos.collect();
        let mut wanted = Vec::new();
        let mut places = Vec::new();
        for (index, info) in infos.iter().enumerate() {
            if let Ok(task) = &info.task
                && task.args.format == OUTSIDE
            {
                wanted.push((Of::Arguments(info.id), task.args.clone()));
                places.push((index, true));
            }
            if let Some(payload) = value_of(info.head.result.as_ref()) {
                wanted.push((Of::Outcome(info.id), payload.clone()));
                places.push((index, false));
            }
        }
        let values = self.fetch(wanted, action).await?;
        for ((index, is_task), value) in places.into_iter().zip(values) {
            if is_task {
                put_back(&mut infos[index].task, value);
            } else {
                put_result_back(infos[index], value);
            }
        }
        Ok(())
    }

    /// Looks at a few values for ones that belong to nothing: left over by processes that died in between.
    async fn sweep(&self) -> std::result::Result<(), Fault> {
        let Ok(mut sweep) = self.store.sweep.try_lock() else { return Ok(()) };
        let pause = SWEEP_PAUSE.min(self.store.config.grace);
        if sweep.latest.is_some_and(|latest| latest.elapsed() < pause) {
            return Ok(());
        }
        sweep.latest = Some(tokio::time::Instant::now());
        let Ok(values) = self.store.values() else { return Ok(()) };
        for (large, cursor) in [false, true].into_iter().zip(sweep.cursors.iter_mut()) {
            let listed = values.list(large, *cursor, SWEEP).await?;
            // Whatever names something that is old by now stands in the log by now.
            self.store.see_all().await?;
            let keeps = |name: &str| self.store.state().map_or(true, |state| state.keeps(name));
            *cursor = values.sweep(listed, keeps).await?;
        }
        Ok(())
    }

    pub(super) async fn peek<T>(
        &self,
        action: &'static str,
        look: impl Fn(&Core, Timestamp) -> T,
    ) -> Result<T> {
        self.store.read_all(action, |state, now| look(&state.core, now)).await
    }
}

/// The answer to a command about tasks.
fn answer<T>(answer: Answer, action: &'static str) -> Result<T>
where
    T: TryFrom<crate::log::Answer, Error = Error>,
{
    match answer {
        Answer::Tasks(answer) => T::try_from(answer),
        other => {
            Err(Error::unavailable(NAME, action, format!("the answer is another one: {other:?}")))
        }
    }
}

fn arguments_of(lease: &Lease) -> Option<(Of, Payload)> {
    let task = lease.task.as_ref().ok()?;
    Some((Of::Arguments(lease.id), task.args.clone()))
}

/// The stand-in among a result, if there is one.
fn value_of(result: Option<&TaskResult>) -> Option<&Payload> {
    match result?.value.as_ref()? {
        Value::Inline(payload) if payload.format == OUTSIDE => Some(payload),
        _ => None,
    }
}

fn put_back(
    place: &mut std::result::Result<Arc<Task>, DecodeError>,
    value: std::result::Result<Payload, DecodeError>,
) {
    let Ok(task) = place else { return };
    *place = value.map(|args| Arc::new(Task { args, ..Task::clone(task) }));
}

fn put_result_back(info: &mut Info, value: std::result::Result<Payload, DecodeError>) {
    let Some(result) = &mut info.head.result else { return };
    let size = value_of(Some(result)).and_then(|payload| Outside::of(payload).ok().flatten());
    result.value = Some(match value {
        Ok(payload) => Value::Inline(payload),
        // It is somewhere else, and is not there: whoever looks for it finds that it is lost.
        Err(_) => Value::Stored(Stored {
            token: Token { fence: info.head.fence, nonce: 0 },
            size: size.map_or(0, |outside| outside.size),
            unknown: Default::default(),
        }),
    });
}

#[async_trait]
impl TaskStore for NatsTasks {
    fn caps(&self) -> Caps {
        Caps {
            name: NAME,
            durable: true,
            shared: true,
            atomic_batch: true,
            external_transaction: false,
        }
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.store.read("read the clock", |_, now| now)
    }

    async fn enqueue(&self, mut tasks: Vec<Task>) -> Result<Vec<Enqueued>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let action = "enqueue tasks";
        let puts = self.take_out(&mut tasks);
        self.keep_and_ask(puts, Command::Enqueue(tasks), action).await
    }

    async fn open_session(
        &self,
        id: SessionId,
        _worker: &WorkerInfo,
        lease: Duration,
    ) -> Result<Session> {
        self.ask(Command::OpenSession(id, lease), "open a session").await
    }

    async fn close_session(&self, session: &Session) -> Result<Vec<Moved>> {
        self.ask(Command::CloseSession(*session), "close a session").await
    }

    async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
        let action = "claim tasks";
        let claim = Command::Claim(*session, wants.to_vec());
        // What others were told is ready may not have come here yet.
        if self.is_idle_call(&claim, action)? {
            self.store.look(action).await?;
        }
        let mut leases: Vec<Lease> = self.ask_if_needed(claim, action).await?;
        self.complete_leases(&mut leases, action).await?;
        Ok(leases)
    }

    async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
        self.ask(Command::Heartbeat(*session, held), "keep a session alive").await
    }

    async fn cancels(&self, session: &Session) -> Result<Vec<(TaskId, Token)>> {
        self.peek("read what is to be stopped", |core, _| core.cancels(session)).await
    }

    async fn reconcile(&self, session: &Session, held: &[(TaskId, Token)]) -> Result<Vec<Moved>> {
        self.ask(Command::Reconcile(*session, held.to_vec()), "put lost claims back").await
    }

    async fn finish(&self, _session: &Session, mut ends: Vec<End>) -> Result<Vec<Finished>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let action = "finish tasks";
        let puts = self.take_results_out(&mut ends);
        self.keep_and_ask(puts, Command::Finish(ends), action).await
    }

    async fn cancel(&self, select: &Select) -> Result<Outcome> {
        self.ask(Command::Cancel(select.clone()), "cancel tasks").await
    }

    async fn retry(&self, select: &Select) -> Result<Outcome> {
        self.ask(Command::Retry(select.clone()), "retry tasks").await
    }

    async fn remove(&self, select: &Select) -> Result<Outcome> {
        self.ask(Command::Remove(select.clone()), "remove tasks").await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> Result<()> {
        self.ask(Command::Pause(lane.clone(), paused), "pause a lane").await
    }

    async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
        self.peek("read the ready lanes", |core, _| core.ready_lanes(after, max)).await
    }

    async fn promote(&self, max: usize) -> Result<Due> {
        self.ask_if_needed(Command::Promote(max), "make due tasks ready").await
    }

    async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        self.ask_if_needed(Command::Reclaim(max), "take tasks from dead sessions").await
    }

    async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        self.ask_if_needed(Command::Expire(max), "expire tasks").await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        let purged = self.ask_if_needed(Command::Purge(max), "forget ended tasks").await?;
        // Nothing to forget, so there is time to tidy up. What fails is looked at again another time.
        if purged == 0
            && let Err(fault) = self.sweep().await
        {
            tracing::debug!(?fault, "values that belong to nothing were not looked for");
        }
        Ok(purged)
    }

    async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        self.ask(Command::PutSchedules(schedules), "keep schedules").await
    }

    async fn remove_schedules(&self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        self.ask(Command::RemoveSchedules(names.to_vec()), "remove schedules").await
    }

    async fn schedules(&self, tenant: Option<&Name>) -> Result<Vec<Schedule>> {
        self.peek("read schedules", |core, _| core.schedules(tenant)).await
    }

    async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        self.peek("read due schedules", |core, now| core.due_schedules(now, max)).await
    }

    async fn fire(&self, mut fires: Vec<Fire>) -> Result<Vec<Fired>> {
        let action = "fire schedules";
        let mut puts = Vec::new();
        for fire in &mut fires {
            puts.extend(self.take_out(&mut fire.tasks));
        }
        self.keep_and_ask(puts, Command::Fire(fires), action).await
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
        let action = "read tasks";
        let mut found = self.peek(action, |core, _| core.get(ids)).await?;
        self.complete(found.iter_mut().flatten(), action).await?;
        Ok(found)
    }

    async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        let action = "list tasks";
        let mut page = self.peek(action, |core, _| core.list(filter, before, max)).await?;
        self.complete(page.items.iter_mut(), action).await?;
        Ok(page)
    }

    async fn count(&self, filter: &Filter) -> Result<Counts> {
        self.peek("count tasks", |core, _| core.count(filter)).await
    }

    async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        let action = "read ended tasks";
        let mut ended = self.peek(action, |core, _| core.ended(after, max)).await?;
        self.complete(ended.iter_mut(), action).await?;
        Ok(ended)
    }

    fn changes(&self, interest: Interest) -> Changes {
        self.store.watch.now(interest)
    }

    async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        self.store.watch.changed(interest, seen, timeout).await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}
