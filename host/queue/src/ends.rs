//! Who in this process waits for which task to end, and how they hear of it.
//!
//! However many wait, one watcher asks the store: when something ended, it fetches the tasks that are waited for in one
//! batch. A worker of the same process tells what it has committed directly, so that path needs no question at all.
//! Whoever waits registers first and is looked up after, so no end falls between; a task that was just enqueued here is not
//! looked up while nothing has ended since.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use omniq_model::{State, TaskId, TaskResult};
use omniq_store::{Changes, Info, Interest, TaskStore, chain};
use tokio::sync::{Notify, oneshot};

/// Tasks that are fetched by one call.
const CHUNK: usize = 500;
/// The least and the most time between two looks at the store while tasks end that nobody here waits for.
const PACE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// How long the store may be silent before it is asked without a reason.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The state it ended in.
    pub state: State,
    /// Its result, if it is at hand; else the store has it.
    pub result: Option<TaskResult>,
}

/// The hub between those who wait for ends and those who see them. Clones are the same hub.
#[derive(Clone, Default)]
pub struct Ends(Arc<Hub>);

#[derive(Default)]
struct Hub {
    waiting: Mutex<Waiting>,
    registered: Notify,
}

/// Each with its number.
type Waiters = Vec<(u64, oneshot::Sender<Option<Ended>>)>;

#[derive(Default)]
struct Waiting {
    by_task: HashMap<TaskId, Waiters>,
    /// Registered, and not looked up yet; with the changes as of which it was not even in the store, where that is known.
    fresh: Vec<(TaskId, Option<Changes>)>,
    next: u64,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("waiting", &self.waiting().by_task.len()).finish()
    }
}

impl Ends {
    /// A hub where nobody waits yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a task that is in the store. The wait begins with this call, not with the first poll.
    ///
    /// Gives `None` when the store has no such task, or has it no more. Ends only while somebody runs [`Self::watch`].
    pub fn wait(&self, id: TaskId) -> Wait {
        self.register(id, None)
    }

    /// As [`Self::wait`], for a task that was not in the store before it told of those changes: as long as it tells of no
    /// others it cannot have ended, so nobody has to look.
    pub fn wait_new(&self, id: TaskId, before: Changes) -> Wait {
        self.register(id, Some(before))
    }

    fn register(&self, id: TaskId, before: Option<Changes>) -> Wait {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_task.entry(id).or_default().push((number, sender));
        waiting.fresh.push((id, before));
        drop(waiting);
        self.0.registered.notify_one();
        Wait { ends: self.clone(), id, number, receiver }
    }

    /// Tells those who wait about states that are committed; those that are no end are passed over.
    pub fn publish(&self, ended: impl IntoIterator<Item = (TaskId, State)>) {
        self.publish_with(ended, |_| None);
    }

    /// As [`Self::publish`]; `result` gives the result of the item at that place, and is asked only where somebody waits.
    pub fn publish_with(
        &self,
        ended: impl IntoIterator<Item = (TaskId, State)>,
        mut result: impl FnMut(usize) -> Option<TaskResult>,
    ) {
        let mut waiting = self.waiting();
        if waiting.by_task.is_empty() {
            return;
        }
        for (index, (id, state)) in ended.into_iter().enumerate() {
            if state.is_terminal()
                && let Some(waiters) = waiting.by_task.remove(&id)
            {
                deliver(waiters, Some(Ended { state, result: result(index) }));
            }
        }
    }

    /// Looks after those who wait until it is dropped: to be run once per process and store.
    pub async fn watch(&self, tasks: Arc<dyn TaskStore>) {
        let mut seen = tasks.changes(Interest::Ends);
        let mut pace = PACE.0;
        let mut rested = Instant::now();
        let mut looked = Instant::now();
        let mut is_first = true;
        loop {
            let now = tasks.changes(Interest::Ends);
            let asked = Instant::now();
            if is_first {
                // Nobody waited before, so that nobody has missed what happened before.
                (seen, looked) = (now, asked);
            }
            let is_for_all = asked >= rested && (now != seen || looked.elapsed() >= PATIENCE);
            let found = if is_for_all {
                (seen, looked) = (now, asked);
                self.look(&tasks, &self.all()).await
            } else {
                self.look(&tasks, &self.fresh(now)).await
            };
            match found {
                Ok(_) if !is_for_all => {}
                Ok(found) => {
                    pace = if found { PACE.0 } else { (pace * 2).min(PACE.1) };
                    // Many who wait for slow tasks beside a busy queue must not keep the store busy with questions.
                    rested = Instant::now() + pace.max(asked.elapsed() * 4);
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "could not look for ended tasks");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    self.0.registered.notify_one(); // they are registered again
                }
            }
            is_first = self.idle(&*tasks, seen, rested).await;
        }
    }

    /// Until something was registered, or ended while somebody waits; the latter not before `rested`. Tells whether nobody
    /// waited when it began.
    async fn idle(&self, tasks: &dyn TaskStore, seen: Changes, rested: Instant) -> bool {
        if self.waiting().by_task.is_empty() {
            self.0.registered.notified().await;
            return true;
        }
        let ended = async {
            let rest = tokio::time::sleep_until(rested.into());
            tokio::join!(rest, tasks.changed(Interest::Ends, seen, PATIENCE));
        };
        tokio::select! {
            () = self.0.registered.notified() => {}
            () = ended => {}
        }
        false
    }

    /// Those that were registered and may have ended before `now`.
    fn fresh(&self, now: Changes) -> Vec<TaskId> {
        let mut waiting = self.waiting();
        let fresh = std::mem::take(&mut waiting.fresh).into_iter();
        let may_have_ended = |(id, before): &(TaskId, Option<Changes>)| {
            *before != Some(now) && waiting.by_task.contains_key(id)
        };
        fresh.filter(may_have_ended).map(|(id, _)| id).collect()
    }

    fn all(&self) -> Vec<TaskId> {
        let mut waiting = self.waiting();
        waiting.fresh.clear();
        waiting.by_task.keys().copied().collect()
    }

    /// Looks these up, and tells whether one of them has ended.
    async fn look(&self, tasks: &Arc<dyn TaskStore>, ids: &[TaskId]) -> omniq_store::Result<bool> {
        let mut found = false;
        for chunk in ids.chunks(CHUNK) {
            let before = self.waiting().next;
            let infos = match tasks.get(chunk).await {
                Ok(infos) => infos,
                Err(error) => {
                    self.waiting().fresh.extend(ids.iter().map(|id| (*id, None)));
                    return Err(error);
                }
            };
            for (id, info) in chunk.iter().zip(infos) {
                found |= self.settle(*id, info, before);
            }
        }
        Ok(found)
    }

    /// Tells those who waited before the look. Who came later may wait for the end of another try, and is looked up itself.
    fn settle(&self, id: TaskId, info: Option<Info>, before: u64) -> bool {
        let ended = match info {
            None => None,
            Some(info) if info.head.state.is_terminal() => {
                Some(Ended { state: info.head.state, result: info.head.result })
            }
            Some(_) => return false,
        };
        let mut waiting = self.waiting();
        let Some(waiters) = waiting.by_task.remove(&id) else { return true };
        let (told, later): (Waiters, Waiters) =
            waiters.into_iter().partition(|(number, _)| *number < before);
        if !later.is_empty() {
            waiting.by_task.insert(id, later);
        }
        drop(waiting);
        deliver(told, ended);
        true
    }
}

fn deliver(mut waiters: Waiters, ended: Option<Ended>) {
    let last = waiters.pop();
    for (_, waiter) in waiters {
        // Who has given up does not listen.
        let _ = waiter.send(ended.clone());
    }
    if let Some((_, waiter)) = last {
        let _ = waiter.send(ended);
    }
}

/// Gives how the task ended. Dropping it gives up the wait.
#[derive(Debug)]
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait {
    ends: Ends,
    id: TaskId,
    number: u64,
    receiver: oneshot::Receiver<Option<Ended>>,
}

impl Future for Wait {
    type Output = Option<Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender lives as long as the hub does not know the end, and this holds the hub.
        Pin::new(&mut self.receiver).poll(context).map(|ended| ended.unwrap_or_default())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waiting = self.ends.waiting();
        if let Some(waiters) = waiting.by_task.get_mut(&self.id) {
            waiters.retain(|(number, _)| *number != self.number);
            if waiters.is_empty() {
                waiting.by_task.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TaskId {
        TaskId::derived(&[text.as_bytes()])
    }

    #[tokio::test]
    async fn everybody_who_waits_hears_of_an_end_once() {
        let ends = Ends::new();
        let (first, second, other) = (ends.wait(id("a")), ends.wait(id("a")), ends.wait(id("b")));
        ends.publish([(id("a"), State::Ready)]);
        ends.publish_with([(id("a"), State::Succeeded)], |_| Some(TaskResult::default()));
        let ended = Some(Ended { state: State::Succeeded, result: Some(TaskResult::default()) });
        assert_eq!((first.await, second.await), (ended.clone(), ended));
        assert_eq!(ends.waiting().by_task.len(), 1);
        drop(other);
        assert!(ends.waiting().by_task.is_empty(), "who gives up is forgotten");
    }

    #[tokio::test]
    async fn who_came_during_a_look_is_not_told_what_it_saw() {
        let ends = Ends::new();
        let first = ends.wait(id("a"));
        let before = ends.waiting().next;
        let mut later = ends.wait(id("a"));
        assert!(ends.settle(id("a"), None, before));
        assert_eq!(first.await, None);
        assert!(tokio::time::timeout(Duration::ZERO, &mut later).await.is_err());
        let before = ends.waiting().next;
        assert!(ends.settle(id("a"), None, before));
        assert_eq!(later.await, None);
    }
}
