//! What is to be done in a transaction, and what comes of it. One that collides with others is carried out again.

use std::time::Duration;

use omniq_model::{Lane, Module, Name, Schedule, SessionId, TaskEvent, TaskId, Timestamp, Token};
use sqlx::PgConnection;

use super::copy::Landing;
use super::database::Database;
use super::enqueue::New;
use super::fault::{Fault, Result};
use super::finish::RawEnd;
use super::names::{Made, Numbers};
use super::schedule::RawFire;
use super::tx::Tx;
use crate::{
    Enqueued, Finished, Fired, Imported, Moved, Outcome, Pushed, Restored, Select, Session,
};

/// What is to be written.
#[derive(Debug)]
pub(super) enum Command {
    Enqueue(Vec<New>),
    OpenSession(SessionId, String, Duration),
    CloseSession(SessionId),
    ExpireFirst(i32),
    Reconcile(SessionId, Vec<(TaskId, Token)>),
    Finish(Vec<RawEnd>),
    Cancel(Select),
    Retry(Select),
    Remove(Select),
    Pause(Lane, bool),
    Reclaim(usize),
    Expire(usize),
    Purge(usize),
    AddUp,
    PutSchedules(Vec<Schedule>),
    RemoveSchedules(Vec<(Name, Name)>),
    Fire(Vec<RawFire>),
    PurgeResults(usize),
    PushModule(Box<Module>, Vec<u8>),
    RemoveModule(Name, Name),
    Append(Vec<(Vec<u8>, TaskEvent)>),
    PurgeEvents(Timestamp, usize),
    DropDays(&'static str, i64, Option<usize>),
    SetWatermark((Timestamp, TaskId)),
    Import(Vec<Landing>),
    Restored,
}

/// What came of it; each is the answer of the calls that have that type.
#[derive(Debug)]
pub(super) enum Answer {
    Nothing,
    Enqueued(Vec<Enqueued>),
    Session(Session),
    Moved(Vec<Moved>),
    Finished(Vec<Finished>),
    Outcome(Outcome),
    Count(usize),
    Versions(Vec<Option<u64>>),
    Flags(Vec<bool>),
    Fired(Vec<Fired>),
    Pushed(Pushed),
    Flag(bool),
    Imported(Vec<Imported>),
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
                    other => Err(Fault::Other(format!("a command gave another answer: {other:?}"))),
                }
            }
        })+
    };
}

answers! {
    Enqueued => Vec<Enqueued>,
    Session => Session,
    Moved => Vec<Moved>,
    Finished => Vec<Finished>,
    Outcome => Outcome,
    Count => usize,
    Versions => Vec<Option<u64>>,
    Flags => Vec<bool>,
    Fired => Vec<Fired>,
    Pushed => Pushed,
    Flag => bool,
    Imported => Vec<Imported>,
    Restored => Restored,
}

impl TryFrom<Answer> for () {
    type Error = Fault;

    fn try_from(_: Answer) -> Result<Self> {
        Ok(())
    }
}

impl Command {
    /// What kind it is, as failpoints name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Enqueue(_) => "enqueue",
            Self::OpenSession(..) => "open_session",
            Self::CloseSession(_) => "close_session",
            Self::ExpireFirst(_) => "expire_first",
            Self::Reconcile(..) => "reconcile",
            Self::Finish(_) => "finish",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Remove(_) => "remove",
            Self::Pause(..) => "pause",
            Self::Reclaim(_) => "reclaim",
            Self::Expire(_) => "expire",
            Self::Purge(_) => "purge",
            Self::AddUp => "add_up",
            Self::PutSchedules(_) => "put_schedules",
            Self::RemoveSchedules(_) => "remove_schedules",
            Self::Fire(_) => "fire",
            Self::PurgeResults(_) => "purge_results",
            Self::PushModule(..) => "push_module",
            Self::RemoveModule(..) => "remove_module",
            Self::Append(_) => "append",
            Self::PurgeEvents(..) => "purge_events",
            Self::DropDays(..) => "drop_days",
            Self::SetWatermark(_) => "set_watermark",
            Self::Import(_) => "import",
            Self::Restored => "restored",
        }
    }

    /// The numbers of all that new tasks have: made before the transaction begins, so that they outlive it.
    pub(super) async fn numbers(&self, db: &Database, conn: &mut PgConnection) -> Result<Numbers> {
        if !self.has_names() {
            return Ok(Numbers::default());
        }
        let made = db.apart(conn, async |conn| self.make_numbers(db, conn).await).await?;
        Ok(db.names.learn_made(made))
    }

    async fn make_numbers(&self, db: &Database, conn: &mut PgConnection) -> Result<Made> {
        match self {
            Self::Enqueue(tasks) => {
                let tasks = tasks.iter().map(|new| &new.task);
                db.names.make(conn, &db.schema, tasks).await
            }
            Self::Fire(fires) => {
                let tasks = fires.iter().flat_map(RawFire::tasks);
                db.names.make(conn, &db.schema, tasks).await
            }
            Self::Import(landings) => {
                let tasks = landings.iter().filter_map(Landing::task);
                db.names.make(conn, &db.schema, tasks).await
            }
            _ => Ok(Made::default()),
        }
    }

    /// Whether it may need numbers that are not there yet.
    fn has_names(&self) -> bool {
        matches!(self, Self::Enqueue(_) | Self::Fire(_) | Self::Import(_))
    }
}

/// Carries a command out.
pub(super) async fn run(tx: &mut Tx<'_>, command: &Command, numbers: &Numbers) -> Result<Answer> {
    Ok(match command {
        Command::Enqueue(tasks) => {
            let tasks: Vec<&New> = tasks.iter().collect();
            Answer::Enqueued(tx.enqueue(&tasks, numbers).await?)
        }
        Command::OpenSession(id, name, lease) => {
            Answer::Session(tx.open_session(*id, name, *lease).await?)
        }
        Command::CloseSession(id) => Answer::Moved(tx.close_session(*id).await?),
        Command::ExpireFirst(lane) => Answer::Count(tx.expire_first(*lane).await?),
        Command::Reconcile(id, held) => Answer::Moved(tx.reconcile(*id, held).await?),
        Command::Finish(ends) => {
            let ends: Vec<&RawEnd> = ends.iter().collect();
            Answer::Finished(tx.finish(&ends).await?)
        }
        Command::Cancel(select) => Answer::Outcome(tx.cancel(select).await?),
        Command::Retry(select) => Answer::Outcome(tx.retry(select).await?),
        Command::Remove(select) => Answer::Outcome(tx.remove(select).await?),
        Command::Pause(lane, paused) => {
            tx.pause(lane, *paused).await?;
            Answer::Nothing
        }
        Command::Reclaim(max) => Answer::Moved(tx.reclaim(*max).await?),
        Command::Expire(max) => Answer::Moved(tx.expire(*max).await?),
        Command::Purge(max) => Answer::Count(tx.purge(*max).await?),
        Command::AddUp => {
            tx.add_up().await?;
            Answer::Nothing
        }
        Command::PutSchedules(schedules) => Answer::Versions(tx.put_schedules(schedules).await?),
        Command::RemoveSchedules(names) => Answer::Flags(tx.remove_schedules(names).await?),
        Command::Fire(fires) => Answer::Fired(tx.fire(fires, numbers).await?),
        Command::PurgeResults(max) => Answer::Count(tx.purge_results(*max).await?),
        Command::PushModule(module, bytes) => Answer::Pushed(tx.push_module(module, bytes).await?),
        Command::RemoveModule(name, version) => {
            Answer::Flag(tx.remove_module(name, version).await?)
        }
        Command::Append(events) => {
            tx.append(events).await?;
            Answer::Nothing
        }
        Command::PurgeEvents(before, max) => Answer::Count(tx.purge_events(*before, *max).await?),
        Command::DropDays(table, before, max) => {
            Answer::Count(tx.drop_days(table, *before, *max).await?)
        }
        Command::SetWatermark(mark) => {
            tx.set_watermark(*mark).await?;
            Answer::Nothing
        }
        Command::Import(landings) => Answer::Imported(tx.import(landings, numbers).await?),
        Command::Restored => Answer::Restored(tx.restored().await?),
    })
}
