//! What the writer is asked for, and what it answers.

use std::time::Duration;

use omniq_model::{Digest, Lane, Module, Name, Schedule, SessionId, TaskId, Timestamp, Token};
use tokio::sync::oneshot;

use super::claim::{Claim, RawLease};
use super::copy::Landing;
use super::enqueue::New;
use super::events::Line;
use super::fault::{Fault, Result};
use super::finish::RawEnd;
use super::schedule::RawFire;
use super::tx::Tx;
use crate::{
    Beat, Due, Enqueued, Finished, Fired, Held, Imported, Layout, Moved, Outcome, Pushed, Restored,
    Select, Session, StagedResult,
};

/// What is to be written.
#[derive(Debug)]
pub(super) enum Command {
    /// Nothing any more.
    Nothing,
    Enqueue(Vec<New>),
    OpenSession(SessionId, String, Duration),
    CloseSession(SessionId),
    Claim(Claim),
    Heartbeat(Session, Held),
    Reconcile(SessionId, Vec<(TaskId, Token)>),
    Finish(Vec<RawEnd>),
    Cancel(Select),
    Retry(Select),
    Remove(Select),
    Pause(Lane, bool),
    Promote(usize),
    Reclaim(usize),
    Expire(usize),
    Purge(usize),
    PutSchedules(Vec<Schedule>),
    RemoveSchedules(Vec<(Name, Name)>),
    Fire(Vec<RawFire>),
    PutResults(Vec<StagedResult>),
    RemoveResults(Vec<TaskId>),
    PurgeResults(usize),
    PushModule(Box<Module>, Vec<u8>),
    RemoveModule(Name, Name),
    Append(Vec<Line>),
    PurgeEvents(Timestamp, usize),
    SetWatermark((Timestamp, TaskId)),
    Import(Vec<Landing>),
    FinishMigration,
    Restored,
}

/// What came of it; each is the answer of the calls that have that type.
#[derive(Debug)]
pub(super) enum Answer {
    Nothing,
    Enqueued(Vec<Enqueued>),
    Session(Session),
    Moved(Vec<Moved>),
    Leases(Vec<RawLease>),
    Beat(Beat),
    Finished(Vec<Finished>),
    Outcome(Outcome),
    Due(Due),
    Count(usize),
    Versions(Vec<Option<u64>>),
    Flags(Vec<bool>),
    Fired(Vec<Fired>),
    Pushed(Pushed),
    Flag(bool),
    Imported(Vec<Imported>),
    Layout(Layout),
    Restored(Restored),
}

/// Takes the answer of a command out, which has only one form for each.
macro_rules! answers {
    ($($variant:ident => $ty:ty,)+) => {
        $(impl TryFrom<Answer> for $ty {
            type Error = Fault;

            fn try_from(answer: Answer) -> Result<Self> {
                match answer {
                    Answer::$variant(value) => Ok(value),
                    other => Err(Fault::Other(format!("the writer gave another answer: {other:?}"))),
                }
            }
        })+
    };
}

answers! {
    Enqueued => Vec<Enqueued>,
    Session => Session,
    Moved => Vec<Moved>,
    Leases => Vec<RawLease>,
    Beat => Beat,
    Finished => Vec<Finished>,
    Outcome => Outcome,
    Due => Due,
    Count => usize,
    Versions => Vec<Option<u64>>,
    Flags => Vec<bool>,
    Fired => Vec<Fired>,
    Pushed => Pushed,
    Flag => bool,
    Imported => Vec<Imported>,
    Layout => Layout,
    Restored => Restored,
}

impl TryFrom<Answer> for () {
    type Error = Fault;

    fn try_from(_: Answer) -> Result<Self> {
        Ok(())
    }
}

/// A command and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    pub command: Command,
    pub reply: oneshot::Sender<Result<Answer>>,
}

impl Ask {
    /// What is to be done for it. A claim that its caller has given up by now would lease tasks to nobody; of anything else
    /// who has given up does not know, and may wish, that it is done.
    pub(super) fn wanted(&self) -> &Command {
        let is_claim = matches!(self.command, Command::Claim(_));
        if is_claim && self.reply.is_closed() { &Command::Nothing } else { &self.command }
    }
}

impl Command {
    /// What kind it is, as failpoints and errors name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Enqueue(_) => "enqueue",
            Self::OpenSession(..) => "open_session",
            Self::CloseSession(_) => "close_session",
            Self::Claim(_) => "claim",
            Self::Heartbeat(..) => "heartbeat",
            Self::Reconcile(..) => "reconcile",
            Self::Finish(_) => "finish",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Remove(_) => "remove",
            Self::Pause(..) => "pause",
            Self::Promote(_) => "promote",
            Self::Reclaim(_) => "reclaim",
            Self::Expire(_) => "expire",
            Self::Purge(_) => "purge",
            Self::PutSchedules(_) => "put_schedules",
            Self::RemoveSchedules(_) => "remove_schedules",
            Self::Fire(_) => "fire",
            Self::PutResults(_) => "put_results",
            Self::RemoveResults(_) => "remove_results",
            Self::PurgeResults(_) => "purge_results",
            Self::PushModule(..) => "push_module",
            Self::RemoveModule(..) => "remove_module",
            Self::Append(_) => "append",
            Self::PurgeEvents(..) => "purge_events",
            Self::SetWatermark(_) => "set_watermark",
            Self::Import(_) => "import",
            Self::FinishMigration => "finish_migration",
            Self::Restored => "restored",
        }
    }

    /// Bytes it brings into the store.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Enqueue(tasks) => tasks.iter().map(|new| new.bytes.len()).sum(),
            Self::Finish(ends) => ends.iter().map(RawEnd::size).sum(),
            Self::PutResults(results) => {
                results.iter().map(|staged| staged.value.bytes.len()).sum()
            }
            Self::PushModule(_, bytes) => bytes.len(),
            Self::Append(lines) => lines.iter().map(Line::size).sum(),
            Self::Import(landings) => landings.iter().map(Landing::size).sum(),
            _ => 0,
        }
    }

    /// Whether it makes the store larger for good, and so is refused first when space runs out.
    pub(super) fn grows(&self) -> bool {
        match self {
            Self::Enqueue(_) | Self::PushModule(..) | Self::Append(_) | Self::Import(_) => true,
            Self::Fire(fires) => fires.iter().any(RawFire::has_tasks),
            _ => false,
        }
    }

    /// Whether it gives space back.
    pub(super) fn shrinks(&self) -> bool {
        matches!(
            self,
            Self::Purge(_)
                | Self::Remove(_)
                | Self::PurgeResults(_)
                | Self::RemoveResults(_)
                | Self::RemoveModule(..)
                | Self::PurgeEvents(..)
        )
    }
}

/// Runs commands in one transaction, those of a kind that comes in crowds together; answers in the order of the commands.
///
/// They were all asked for at the same time, so that any order of them is right.
pub(super) async fn run(tx: &mut Tx<'_>, commands: &[&Command]) -> Result<Vec<Answer>> {
    let mut answers: Vec<Option<Answer>> = commands.iter().map(|_| None).collect();
    run_enqueues(tx, commands, &mut answers).await?;
    run_finishes(tx, commands, &mut answers).await?;
    run_results(tx, commands, &mut answers).await?;
    run_appends(tx, commands, &mut answers).await?;
    for (command, answer) in commands.iter().zip(&mut answers) {
        if answer.is_none() && !matches!(command, Command::Claim(_)) {
            *answer = Some(run_one(tx, command).await?);
        }
    }
    run_claims(tx, commands, &mut answers).await?;
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Answer::Nothing)).collect())
}

/// Items of all commands of a kind side by side, and how many each command has.
fn gather<'a, T>(
    commands: &[&'a Command],
    items: impl Fn(&'a Command) -> Option<&'a [T]>,
) -> (Vec<(usize, usize)>, Vec<&'a T>) {
    let mut places = Vec::new();
    let mut all = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        if let Some(items) = items(command) {
            places.push((index, items.len()));
            all.extend(items);
        }
    }
    (places, all)
}

fn scatter<T>(
    places: Vec<(usize, usize)>,
    outcomes: Vec<T>,
    answers: &mut [Option<Answer>],
    wrap: fn(Vec<T>) -> Answer,
) {
    let mut outcomes = outcomes.into_iter();
    for (index, count) in places {
        answers[index] = Some(wrap(outcomes.by_ref().take(count).collect()));
    }
}

async fn run_enqueues(
    tx: &mut Tx<'_>,
    commands: &[&Command],
    answers: &mut [Option<Answer>],
) -> Result<()> {
    let (places, tasks) = gather(commands, |command| match command {
        Command::Enqueue(tasks) => Some(tasks.as_slice()),
        _ => None,
    });
    if !places.is_empty() {
        let outcomes = tx.enqueue(&tasks).await?;
        scatter(places, outcomes, answers, Answer::Enqueued);
    }
    Ok(())
}

async fn run_finishes(
    tx: &mut Tx<'_>,
    commands: &[&Command],
    answers: &mut [Option<Answer>],
) -> Result<()> {
    let (places, ends) = gather(commands, |command| match command {
        Command::Finish(ends) => Some(ends.as_slice()),
        _ => None,
    });
    if !places.is_empty() {
        let outcomes = tx.finish(&ends).await?;
        scatter(places, outcomes, answers, Answer::Finished);
    }
    Ok(())
}

async fn run_results(
    tx: &mut Tx<'_>,
    commands: &[&Command],
    answers: &mut [Option<Answer>],
) -> Result<()> {
    let (places, results) = gather(commands, |command| match command {
        Command::PutResults(results) => Some(results.as_slice()),
        _ => None,
    });
    if !places.is_empty() {
        tx.put_results(&results).await?;
        for (index, _) in places {
            answers[index] = Some(Answer::Nothing);
        }
    }
    Ok(())
}

async fn run_appends(
    tx: &mut Tx<'_>,
    commands: &[&Command],
    answers: &mut [Option<Answer>],
) -> Result<()> {
    let (places, lines) = gather(commands, |command| match command {
        Command::Append(lines) => Some(lines.as_slice()),
        _ => None,
    });
    if !places.is_empty() {
        tx.append(&lines).await?;
        for (index, _) in places {
            answers[index] = Some(Answer::Nothing);
        }
    }
    Ok(())
}

async fn run_claims(
    tx: &mut Tx<'_>,
    commands: &[&Command],
    answers: &mut [Option<Answer>],
) -> Result<()> {
    let claims = commands.iter().enumerate().filter_map(|(index, command)| match command {
        Command::Claim(claim) => Some((index, claim)),
        _ => None,
    });
    let (places, claims): (Vec<_>, Vec<_>) = claims.unzip();
    if !places.is_empty() {
        for (index, leases) in places.into_iter().zip(tx.claim(&claims).await?) {
            answers[index] = Some(Answer::Leases(leases));
        }
    }
    Ok(())
}

async fn run_one(tx: &mut Tx<'_>, command: &Command) -> Result<Answer> {
    Ok(match command {
        Command::OpenSession(id, name, lease) => {
            Answer::Session(tx.open_session(*id, name, *lease).await?)
        }
        Command::CloseSession(id) => Answer::Moved(tx.close_session(*id).await?),
        Command::Heartbeat(session, held) => Answer::Beat(tx.heartbeat(session, *held).await?),
        Command::Reconcile(id, held) => Answer::Moved(tx.reconcile(*id, held).await?),
        Command::Cancel(select) => Answer::Outcome(tx.cancel(select).await?),
        Command::Retry(select) => Answer::Outcome(tx.retry(select).await?),
        Command::Remove(select) => Answer::Outcome(tx.remove(select).await?),
        Command::Pause(lane, paused) => {
            tx.pause(lane, *paused).await?;
            Answer::Nothing
        }
        Command::Promote(max) => Answer::Due(tx.promote(*max).await?),
        Command::Reclaim(max) => Answer::Moved(tx.reclaim(*max).await?),
        Command::Expire(max) => Answer::Moved(tx.expire(*max).await?),
        Command::Purge(max) => Answer::Count(tx.purge(*max).await?),
        Command::PutSchedules(schedules) => Answer::Versions(tx.put_schedules(schedules).await?),
        Command::RemoveSchedules(names) => Answer::Flags(tx.remove_schedules(names).await?),
        Command::Fire(fires) => Answer::Fired(tx.fire(fires).await?),
        Command::RemoveResults(tasks) => {
            tx.remove_results(tasks).await?;
            Answer::Nothing
        }
        Command::PurgeResults(max) => Answer::Count(tx.purge_results(*max).await?),
        Command::PushModule(module, bytes) => Answer::Pushed(tx.push_module(module, bytes).await?),
        Command::RemoveModule(name, version) => {
            Answer::Flag(tx.remove_module(name, version).await?)
        }
        Command::PurgeEvents(before, max) => Answer::Count(tx.purge_events(*before, *max).await?),
        Command::SetWatermark(mark) => {
            tx.set_watermark(*mark).await?;
            Answer::Nothing
        }
        Command::Import(landings) => Answer::Imported(tx.import(landings).await?),
        Command::FinishMigration => Answer::Layout(super::migrate::TASKS.finish(tx.conn).await?),
        Command::Restored => Answer::Restored(tx.restored().await?),
        // Run together with their kind.
        Command::Nothing
        | Command::Enqueue(_)
        | Command::Finish(_)
        | Command::Claim(_)
        | Command::PutResults(_)
        | Command::Append(_) => Answer::Nothing,
    })
}

/// What the digest of other bytes is told as.
pub(super) fn digest(bytes: &[u8]) -> Result<Digest> {
    let hash = bytes
        .try_into()
        .map_err(|_| Fault::Corrupt(format!("a digest has {} bytes, not 32", bytes.len())))?;
    Ok(Digest::from_sha256(hash))
}
