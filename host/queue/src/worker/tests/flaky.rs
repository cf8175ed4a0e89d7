//! A store that loses answers, refuses calls and garbles tasks when it is told to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{DecodeError, Lane, Name, Schedule, SessionId, Task, TaskId, Timestamp, Token};
use omniq_store::memory::MemoryTasks;
use omniq_store::*;
use tokio::sync::Notify;

#[derive(Debug)]
pub struct Flaky {
    pub inner: MemoryTasks,
    /// No heartbeat gets through.
    pub is_deaf: AtomicBool,
    /// So many answers of claims and finishes are lost after the store did what they asked for.
    pub lost_claims: AtomicU32,
    pub lost_finishes: AtomicU32,
    /// So many claims are answered; those after them hang.
    pub answered_claims: AtomicU32,
    /// So many claims that gave something are answered late: when [`Self::answers`] is notified.
    pub late_claims: AtomicU32,
    pub answers: Notify,
    /// Heartbeats that were told of the session's death.
    pub deaths: AtomicU32,
    /// So many calls of finish are refused before anything is done.
    pub refused_finishes: AtomicU32,
    /// The same of sessions to be opened.
    pub refused_sessions: AtomicU32,
    /// Tasks come out of claims unreadable.
    pub is_garbled: AtomicBool,
    /// No call gets through: each fails, or none ever ends.
    pub is_down: AtomicBool,
    pub is_hung: AtomicBool,
    /// Ends are told to nobody.
    pub is_mute: AtomicBool,
    /// The call that panics.
    pub broken: Mutex<&'static str>,
    /// Calls for lanes that hang.
    hung: AtomicU32,
    /// Claims that were asked for so far, pages of lanes, and calls of get.
    pub claims: AtomicU32,
    pub looks: AtomicU32,
    pub gets: AtomicU32,
}

impl Flaky {
    pub fn new(inner: MemoryTasks) -> Self {
        Self {
            inner,
            is_deaf: AtomicBool::new(false),
            lost_claims: AtomicU32::new(0),
            lost_finishes: AtomicU32::new(0),
            answered_claims: AtomicU32::new(u32::MAX),
            late_claims: AtomicU32::new(0),
            answers: Notify::new(),
            deaths: AtomicU32::new(0),
            refused_finishes: AtomicU32::new(0),
            refused_sessions: AtomicU32::new(0),
            is_garbled: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            is_hung: AtomicBool::new(false),
            is_mute: AtomicBool::new(false),
            broken: Mutex::new(""),
            hung: AtomicU32::new(0),
            claims: AtomicU32::new(0),
            looks: AtomicU32::new(0),
            gets: AtomicU32::new(0),
        }
    }

    /// Until somebody asks for lanes and gets no answer.
    pub async fn until_asked(&self) {
        while self.hung.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Where every call goes through.
    async fn gate(&self, call: &str) -> Result<()> {
        let broken = *self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(call != broken, "a mistake in `{call}`");
        if self.is_hung.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        let is_refused = call == "open_session" && is_due(&self.refused_sessions);
        if is_refused || self.is_down.load(Ordering::Acquire) {
            return Err(cut("do anything"));
        }
        Ok(())
    }
}

fn cut(action: &'static str) -> Error {
    Error::unavailable("flaky", action, std::io::Error::other("the connection was cut"))
}

/// Whether this is one of the next so many.
fn is_due(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
}

macro_rules! pass {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)+) => {
        #[async_trait]
        impl TaskStore for Flaky {
            $(async fn $name(&self, $($arg: $ty),*) -> Result<$out> {
                self.gate(stringify!($name)).await?;
                self.inner.$name($($arg),*).await
            })+

            async fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Result<Vec<Lane>> {
                self.hung.fetch_add(u32::from(self.is_hung.load(Ordering::Acquire)), Ordering::AcqRel);
                self.gate("ready_lanes").await?;
                self.looks.fetch_add(1, Ordering::AcqRel);
                self.inner.ready_lanes(after, max).await
            }

            async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<Info>>> {
                self.gate("get").await?;
                let infos = self.inner.get(ids).await;
                self.gets.fetch_add(1, Ordering::AcqRel);
                infos
            }

            async fn claim(&self, session: &Session, wants: &[Want]) -> Result<Vec<Lease>> {
                self.gate("claim").await?;
                if !is_due(&self.answered_claims) {
                    std::future::pending::<()>().await;
                }
                self.claims.fetch_add(1, Ordering::AcqRel);
                let mut leases = self.inner.claim(session, wants).await?;
                if !leases.is_empty() && is_due(&self.lost_claims) {
                    return Err(cut("claim tasks"));
                }
                if !leases.is_empty() && is_due(&self.late_claims) {
                    self.answers.notified().await;
                }
                if self.is_garbled.load(Ordering::Acquire) {
                    for lease in &mut leases {
                        lease.task = Err(DecodeError { what: "task", reason: "garbled".into() });
                    }
                }
                Ok(leases)
            }

            async fn finish(&self, session: &Session, ends: Vec<End>) -> Result<Vec<Finished>> {
                self.gate("finish").await?;
                if is_due(&self.refused_finishes) {
                    return Err(cut("finish tasks"));
                }
                let finished = self.inner.finish(session, ends).await?;
                if is_due(&self.lost_finishes) { Err(cut("finish tasks")) } else { Ok(finished) }
            }

            async fn heartbeat(&self, session: &Session, held: Held) -> Result<Beat> {
                self.gate("heartbeat").await?;
                if self.is_deaf.load(Ordering::Acquire) {
                    return Err(cut("keep the session alive"));
                }
                let beat = self.inner.heartbeat(session, held).await?;
                self.deaths.fetch_add(u32::from(beat == Beat::Dead), Ordering::AcqRel);
                Ok(beat)
            }

            fn caps(&self) -> Caps {
                self.inner.caps()
            }

            fn changes(&self, interest: Interest) -> Changes {
                if interest == Interest::Ends && self.is_mute.load(Ordering::Acquire) {
                    return Changes(0);
                }
                self.inner.changes(interest)
            }

            async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
                if interest == Interest::Ends && self.is_mute.load(Ordering::Acquire) {
                    tokio::time::sleep(timeout).await;
                    return seen;
                }
                self.inner.changed(interest, seen, timeout).await
            }
        }
    };
}

pass! {
    fn now() -> Timestamp;
    fn enqueue(tasks: Vec<Task>) -> Vec<Enqueued>;
    fn open_session(id: SessionId, worker: &WorkerInfo, lease: Duration) -> Session;
    fn close_session(session: &Session) -> Vec<Moved>;
    fn cancels(session: &Session) -> Vec<(TaskId, Token)>;
    fn reconcile(session: &Session, held: &[(TaskId, Token)]) -> Vec<Moved>;
    fn cancel(select: &Select) -> Outcome;
    fn retry(select: &Select) -> Outcome;
    fn remove(select: &Select) -> Outcome;
    fn pause(lane: &Lane, paused: bool) -> ();
    fn promote(max: usize) -> Due;
    fn reclaim(max: usize) -> Vec<Moved>;
    fn expire(max: usize) -> Vec<Moved>;
    fn purge(max: usize) -> usize;
    fn put_schedules(schedules: Vec<Schedule>) -> Vec<Option<u64>>;
    fn remove_schedules(names: &[(Name, Name)]) -> Vec<bool>;
    fn schedules(tenant: Option<&Name>) -> Vec<Schedule>;
    fn due_schedules(max: usize) -> Vec<Schedule>;
    fn fire(fires: Vec<Fire>) -> Vec<Fired>;
    fn list(filter: &Filter, before: Option<u64>, max: usize) -> Page;
    fn count(filter: &Filter) -> Counts;
    fn ended(after: (Timestamp, TaskId), max: usize) -> Vec<Info>;
    fn close() -> ();
}
