//! One call with its arguments, made to the state machine and to a store alike, and an answer that can be compared.

use std::time::Duration;

use omniq_model::{Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};
use omniq_store::core::Core;
use omniq_store::{
    Beat, Counts, Due, End, Enqueued, Filter, Finished, Fire, Fired, Held, Info, Lease, Moved,
    Outcome, Page, Result, Select, Session, TaskStore, Want, WorkerInfo,
};

/// A call of a store.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Enqueue(Vec<Task>),
    OpenSession(SessionId, Duration),
    CloseSession(Session),
    Claim(Session, Vec<Want>),
    Heartbeat(Session, Held),
    Cancels(Session),
    Reconcile(Session, Vec<(TaskId, Token)>),
    Finish(Session, Vec<End>),
    Cancel(Select),
    Retry(Select),
    Remove(Select),
    Pause(Lane, bool),
    Promote(usize),
    Reclaim(usize),
    Restored,
    Expire(usize),
    Purge(usize),
    PutSchedules(Vec<Schedule>),
    RemoveSchedules(Vec<(Name, Name)>),
    Schedules,
    DueSchedules,
    Fire(Vec<Fire>),
    Get(Vec<TaskId>),
    List(Filter, Option<u64>, usize),
    Count(Filter),
    Ended((Timestamp, TaskId), usize),
    ReadyLanes(Option<Lane>, usize),
}

/// What a call answered. Whatever promises no order is sorted.
#[derive(Debug)]
#[expect(dead_code, reason = "most are only compared, by how they print")]
pub(super) enum Answer {
    Enqueued(Vec<Enqueued>),
    Session(Session),
    Moved(Vec<Moved>),
    Leases(Vec<Lease>),
    Beat(Beat),
    Tokens(Vec<(TaskId, Token)>),
    Finished(Vec<Finished>),
    Outcome(Outcome),
    Done,
    Lanes(Vec<Lane>),
    Due(Due),
    Number(usize),
    Versions(Vec<Option<u64>>),
    Removed(Vec<bool>),
    Schedules(Vec<Schedule>),
    Fired(Vec<Fired>),
    Found(Vec<Option<Info>>),
    Page(Page),
    Counts(Counts),
    Infos(Vec<Info>),
}

fn by_id(mut moved: Vec<Moved>) -> Vec<Moved> {
    moved.sort_by_key(|moved| moved.id);
    moved
}

fn sorted(mut tokens: Vec<(TaskId, Token)>) -> Vec<(TaskId, Token)> {
    tokens.sort_unstable();
    tokens
}

fn beat(beat: Beat) -> Beat {
    match beat {
        Beat::Alive { matches, cancel } => Beat::Alive { matches, cancel: sorted(cancel) },
        Beat::Dead => Beat::Dead,
    }
}

impl Call {
    /// What the state machine answers.
    pub(super) fn on_core(&self, core: &mut Core, now: Timestamp) -> Answer {
        match self.clone() {
            Self::Enqueue(tasks) => Answer::Enqueued(core.enqueue(now, tasks)),
            Self::OpenSession(id, lease) => Answer::Session(core.open_session(now, id, lease)),
            Self::CloseSession(session) => Answer::Moved(by_id(core.close_session(now, &session))),
            Self::Claim(session, wants) => Answer::Leases(core.claim(now, &session, &wants)),
            Self::Heartbeat(session, held) => {
                Answer::Beat(beat(core.heartbeat(now, &session, held)))
            }
            Self::Cancels(session) => Answer::Tokens(sorted(core.cancels(&session))),
            Self::Reconcile(session, held) => {
                Answer::Moved(by_id(core.reconcile(now, &session, &held)))
            }
            Self::Finish(_, ends) => Answer::Finished(core.finish(now, ends)),
            Self::Cancel(select) => Answer::Outcome(core.cancel(now, &select)),
            Self::Retry(select) => Answer::Outcome(core.retry(now, &select)),
            Self::Remove(select) => Answer::Outcome(core.remove(&select)),
            Self::Pause(lane, paused) => {
                core.pause(&lane, paused);
                Answer::Done
            }
            Self::Promote(max) => Answer::Due(core.promote(now, max)),
            Self::Reclaim(max) => Answer::Moved(core.reclaim(now, max)),
            Self::Restored => Answer::Moved(by_id(core.restored(now))),
            Self::Expire(max) => Answer::Moved(core.expire(now, max)),
            Self::Purge(max) => Answer::Number(core.purge(now, max)),
            Self::PutSchedules(schedules) => Answer::Versions(core.put_schedules(schedules)),
            Self::RemoveSchedules(names) => Answer::Removed(core.remove_schedules(&names)),
            Self::Schedules => Answer::Schedules(core.schedules(None)),
            Self::DueSchedules => Answer::Schedules(core.due_schedules(now, 100)),
            Self::Fire(fires) => Answer::Fired(core.fire(now, fires)),
            Self::Get(ids) => Answer::Found(core.get(&ids)),
            Self::List(filter, before, max) => Answer::Page(core.list(&filter, before, max)),
            Self::Count(filter) => Answer::Counts(core.count(&filter)),
            Self::Ended(after, max) => Answer::Infos(core.ended(after, max)),
            Self::ReadyLanes(after, max) => Answer::Lanes(core.ready_lanes(after.as_ref(), max)),
        }
    }

    /// What a store answers.
    pub(super) async fn on_store(&self, store: &dyn TaskStore) -> Result<Answer> {
        Ok(match self.clone() {
            Self::Enqueue(tasks) => Answer::Enqueued(store.enqueue(tasks).await?),
            Self::OpenSession(id, lease) => {
                Answer::Session(store.open_session(id, &WorkerInfo::default(), lease).await?)
            }
            Self::CloseSession(session) => {
                Answer::Moved(by_id(store.close_session(&session).await?))
            }
            Self::Claim(session, wants) => Answer::Leases(store.claim(&session, &wants).await?),
            Self::Heartbeat(session, held) => {
                Answer::Beat(beat(store.heartbeat(&session, held).await?))
            }
            Self::Cancels(session) => Answer::Tokens(sorted(store.cancels(&session).await?)),
            Self::Reconcile(session, held) => {
                Answer::Moved(by_id(store.reconcile(&session, &held).await?))
            }
            Self::Finish(session, ends) => Answer::Finished(store.finish(&session, ends).await?),
            Self::Cancel(select) => Answer::Outcome(store.cancel(&select).await?),
            Self::Retry(select) => Answer::Outcome(store.retry(&select).await?),
            Self::Remove(select) => Answer::Outcome(store.remove(&select).await?),
            Self::Pause(lane, paused) => {
                store.pause(&lane, paused).await?;
                Answer::Done
            }
            Self::Promote(max) => Answer::Due(store.promote(max).await?),
            Self::Reclaim(max) => Answer::Moved(store.reclaim(max).await?),
            Self::Restored => {
                let admin = store.admin().expect("every backend can be administered");
                Answer::Moved(by_id(admin.restored().await?.moved))
            }
            Self::Expire(max) => Answer::Moved(store.expire(max).await?),
            Self::Purge(max) => Answer::Number(store.purge(max).await?),
            Self::PutSchedules(schedules) => {
                Answer::Versions(store.put_schedules(schedules).await?)
            }
            Self::RemoveSchedules(names) => Answer::Removed(store.remove_schedules(&names).await?),
            Self::Schedules => Answer::Schedules(store.schedules(None).await?),
            Self::DueSchedules => Answer::Schedules(store.due_schedules(100).await?),
            Self::Fire(fires) => Answer::Fired(store.fire(fires).await?),
            Self::Get(ids) => Answer::Found(store.get(&ids).await?),
            Self::List(filter, before, max) => {
                Answer::Page(store.list(&filter, before, max).await?)
            }
            Self::Count(filter) => Answer::Counts(store.count(&filter).await?),
            Self::Ended(after, max) => Answer::Infos(store.ended(after, max).await?),
            Self::ReadyLanes(after, max) => {
                Answer::Lanes(store.ready_lanes(after.as_ref(), max).await?)
            }
        })
    }
}
