//! Looking at many tasks, and acting on all that fit a filter.

use omniq_model::{EventKind, State, TaskEvent, TaskId};
use omniq_store::{Counts, Filter, Info, Moved, Outcome, Page, Select};

use super::Queue;
use crate::error::{Error, Result};
use crate::event::event;

/// Tasks that are acted on by one call of the store.
const CHUNK: usize = 1000;
/// Tasks that are forgotten by one call: they may be large, and others wait meanwhile.
const FORGOTTEN: usize = 200;

/// What a call did to the tasks of a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bulk {
    /// Tasks it changed.
    pub changed: Vec<TaskId>,
    /// Running tasks that will be stopped by their worker.
    pub requested: Vec<TaskId>,
    /// Tasks that were asked for by id and are in no state to be changed so.
    pub skipped: Vec<(TaskId, State)>,
}

impl Bulk {
    /// Whether no task was found at all.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.requested.is_empty() && self.skipped.is_empty()
    }
}

impl Queue {
    /// The task with all that happened to it; `None` if there is no such task, or no more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn get(&self, id: TaskId) -> Result<Option<Info>> {
        let found = self.shared().stores.tasks.get(&[id]).await;
        Ok(found.map_err(|error| Error::from(error).about(id))?.into_iter().next().flatten())
    }

    /// Tasks that fit, the newest first, at most `max`; `before` is [`Page::next`] of the page before.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        Ok(self.shared().stores.tasks.list(filter, before, max).await?)
    }

    /// The dead letter queue: tasks that fit and have failed for good, the newest first, as [`list`](Self::list).
    ///
    /// # Errors
    /// The store failed.
    pub async fn dlq(&self, filter: &Filter, before: Option<u64>, max: usize) -> Result<Page> {
        let filter = Filter { states: vec![State::Failed], ..filter.clone() };
        self.list(&filter, before, max).await
    }

    /// How many tasks that fit stand in each state.
    ///
    /// # Errors
    /// The store failed.
    pub async fn count(&self, filter: &Filter) -> Result<Counts> {
        Ok(self.shared().stores.tasks.count(filter).await?)
    }

    /// Calls off all tasks that fit: what waits is cancelled at once, what runs is asked to stop. Tasks that come after
    /// the call began are left alone.
    ///
    /// # Errors
    /// The store failed; some tasks may be called off by then, and calling again goes on with the others.
    pub async fn cancel(&self, filter: &Filter) -> Result<Bulk> {
        self.each_chunk(Action::Cancel, filter).await
    }

    /// Makes all tasks ready again that fit and have failed, were cancelled or expired, with fresh budgets.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn retry(&self, filter: &Filter) -> Result<Bulk> {
        self.each_chunk(Action::Retry, filter).await
    }

    /// Forgets all tasks that fit and have ended, with their results.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn remove(&self, filter: &Filter) -> Result<Bulk> {
        self.each_chunk(Action::Remove, filter).await
    }

    /// Bounded steps, so that no call holds up the others of the store for long.
    async fn each_chunk(&self, action: Action, filter: &Filter) -> Result<Bulk> {
        let mut bulk = Bulk::default();
        let max = if action == Action::Remove { FORGOTTEN } else { CHUNK };
        let mut select = Select { filter: filter.clone(), max };
        if action == Action::Retry && filter.ids.is_empty() {
            return self.retry_all(filter, max).await;
        }
        if filter.ids.is_empty() {
            // What arrives from now on is not meant, or it might never end.
            let now = self.shared().stores.tasks.now().await? + std::time::Duration::from_millis(1);
            select.filter.created_to = Some(filter.created_to.map_or(now, |to| to.min(now)));
            while self.step(action, &select, &mut bulk).await? {}
            return Ok(bulk);
        }
        for ids in filter.ids.chunks(max) {
            select.filter.ids = ids.to_vec();
            self.step(action, &select, &mut bulk).await?;
        }
        Ok(bulk)
    }

    /// Each task once, the newest first: one that fails again meanwhile is not meant, or it might never end.
    async fn retry_all(&self, filter: &Filter, max: usize) -> Result<Bulk> {
        let mut filter = filter.clone();
        if filter.states.is_empty() {
            filter.states = vec![State::Failed, State::Cancelled, State::Expired];
        }
        let (mut bulk, mut before) = (Bulk::default(), None);
        loop {
            let page = self.shared().stores.tasks.list(&filter, before, max).await?;
            let ids: Vec<_> = page.items.iter().map(|info| info.id).collect();
            if !ids.is_empty() {
                // The rest of the filter still counts: somebody else may have retried it by now.
                let select = Select { filter: Filter { ids, ..filter.clone() }, max };
                self.step(Action::Retry, &select, &mut bulk).await?;
            }
            before = page.next;
            if before.is_none() {
                bulk.skipped.clear(); // nobody asked for those by their ids
                return Ok(bulk);
            }
        }
    }

    /// One step; tells whether it changed anything.
    async fn step(&self, action: Action, select: &Select, bulk: &mut Bulk) -> Result<bool> {
        let tasks = &self.shared().stores.tasks;
        let Outcome { moved, requested, skipped } = match action {
            Action::Cancel => tasks.cancel(select).await?,
            Action::Retry => tasks.retry(select).await?,
            Action::Remove => tasks.remove(select).await?,
        };
        self.tell(action, &moved, &requested);
        let ids: Vec<_> = moved.iter().map(|moved| moved.id).collect();
        if let (Action::Remove, Some(results), false) =
            (action, &self.shared().stores.results, ids.is_empty())
        {
            results.remove(&ids).await?;
        }
        let changed = !ids.is_empty() || !requested.is_empty();
        bulk.changed.extend(ids);
        bulk.requested.extend(requested);
        bulk.skipped.extend(skipped);
        Ok(changed)
    }

    /// Lets those hear of it who wait for ends or read the log.
    fn tell(&self, action: Action, moved: &[Moved], requested: &[TaskId]) {
        let shared = self.shared();
        let kind = match action {
            Action::Cancel => EventKind::Cancelled,
            Action::Retry => EventKind::Retried,
            Action::Remove => return,
        };
        shared.ends.publish(moved.iter().map(|moved| (moved.id, moved.to)));
        if !shared.events.is_on() {
            return;
        }
        let now = shared.events.now();
        let moved = moved.iter().map(|moved| TaskEvent {
            lane: moved.lane.clone(),
            attempt: moved.attempt,
            ..event(moved.id, moved.fence, kind, now)
        });
        let requested = requested.iter().map(|id| event(*id, 0, EventKind::CancelRequested, now));
        shared.events.emit_all(moved.chain(requested));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Cancel,
    Retry,
    Remove,
}
