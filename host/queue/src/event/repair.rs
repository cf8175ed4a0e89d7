//! Puts ends into the log that did not make it there: those of processes that died before they wrote them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use omniq_model::{EventKind, TaskEvent, TaskId, Timestamp};
use omniq_store::{EventStore, Info, Result, TaskStore};

use super::sink::{brief, event};

/// Tasks that are looked at by one call.
const BATCH: usize = 1000;
/// How far behind the watermark a repair begins: ends that were committed at the same time may come out of order. Ends
/// before it were all written by the repair that set it, whoever should have written them.
const OVERLAP: Duration = Duration::from_secs(10);

/// Compares the event log with the task store.
#[derive(Debug)]
pub struct Repair {
    tasks: Arc<dyn TaskStore>,
    events: Arc<dyn EventStore>,
    /// Ends that this repair has given to the log and will meet again, since they lie in its overlap: not every log drops
    /// what it has.
    told: Mutex<HashMap<(TaskId, u64), Timestamp>>,
}

impl Repair {
    /// How often it is to run.
    pub const EVERY: Duration = Duration::from_secs(60);

    /// A repair of `events` from `tasks`.
    pub fn new(tasks: Arc<dyn TaskStore>, events: Arc<dyn EventStore>) -> Self {
        Self { tasks, events, told: Mutex::default() }
    }

    /// Appends every end since the last repair; those that are there stay as they are. Returns how many it looked at.
    ///
    /// Dropping the future is safe: what it did not come to is done by the next one.
    ///
    /// # Errors
    /// As the stores'.
    pub async fn run(&self) -> Result<usize> {
        let (mark, _) = self.events.watermark().await?;
        let mut after = (mark - OVERLAP, TaskId::from_bytes([0; 16]));
        self.told().retain(|_, at| *at >= after.0);
        // What ends from here on is the next repair's: on a busy queue this one would never come to an end.
        let until = self.tasks.now().await?;
        let mut seen = 0;
        while after.0 <= until {
            let ended = self.tasks.ended(after, BATCH).await?;
            let Some(last) = ended.last() else { break };
            after = (last.head.finished.unwrap_or(after.0), last.id);
            seen += ended.len();
            let events: Vec<_> = ended.iter().filter_map(of_end).collect();
            let events = self.new_ones(events);
            if events.is_empty() {
                continue;
            }
            let told: Vec<_> =
                events.iter().map(|event| ((event.task, event.fence), event.at)).collect();
            self.events.append(events).await?;
            self.events.set_watermark(after).await?;
            let mut all = self.told();
            all.retain(|_, at| *at >= after.0 - OVERLAP);
            all.extend(told);
        }
        Ok(seen)
    }

    /// As [`Self::run`], unless somebody has done it since [`Self::EVERY`].
    ///
    /// # Errors
    /// As the stores'.
    pub async fn run_if_due(&self) -> Result<usize> {
        let (mark, _) = self.events.watermark().await?;
        let is_due = mark + Self::EVERY <= self.tasks.now().await?;
        if is_due { self.run().await } else { Ok(0) }
    }

    fn told(&self) -> MutexGuard<'_, HashMap<(TaskId, u64), Timestamp>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that it has not given to the log.
    fn new_ones(&self, mut events: Vec<TaskEvent>) -> Vec<TaskEvent> {
        let told = self.told();
        events.retain(|event| !told.contains_key(&(event.task, event.fence)));
        events
    }
}

/// The event of a task's end, as whoever committed it would have written it.
pub(crate) fn of_end(info: &Info) -> Option<TaskEvent> {
    let kind = EventKind::of_end(info.head.state)?;
    let at = info.head.finished.unwrap_or_default();
    let result = info.head.result.as_ref();
    Some(TaskEvent {
        lane: info.lane.clone(),
        attempt: info.head.attempt,
        error: result.and_then(|result| result.error.as_ref()).map(brief).map(Box::new),
        micros: result.map_or(0, |result| result.usage.wall_micros),
        what: info.task.as_ref().map(|task| what(task)).unwrap_or_default(),
        ..event(info.id, info.head.fence, kind, at)
    })
}

/// What a task runs, for people.
pub(crate) fn what(task: &omniq_model::Task) -> String {
    let name = task.module.name.as_str();
    match task.function.rsplit(['#', '/']).next() {
        None | Some("") => name.to_owned(),
        Some(function) => format!("{name}.{function}"),
    }
}
