//! Takes events from everybody and writes them in batches.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use omniq_model::{EventKind, SessionId, Task, TaskError, TaskEvent, TaskId, Timestamp};
use omniq_store::{Clock, EventStore, SystemClock, chain};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::what;

/// Events that wait to be written; one more is dropped.
const ROOM: usize = 65_536;
/// Events that are written at once.
const BATCH: usize = 8192;
/// How long an event waits for others at most.
const GATHER: Duration = Duration::from_millis(200);
/// How long closing waits for what is not written yet.
const FAREWELL: Duration = Duration::from_secs(2);
/// The least and the most time between two tries to write.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Where events go. Clones are the same sink; one without a store swallows everything at the cost of a branch.
#[derive(Debug, Clone, Default)]
pub struct Sink(Option<Arc<Hold>>);

/// What all clones of a sink hold. With the last one the flusher ends, once it has written what waits.
#[derive(Debug)]
struct Hold(Arc<Shared>);

impl Deref for Hold {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.buffer().closing = true;
        self.0.wake.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    buffer: Mutex<Buffer>,
    /// There is something to do for the flusher.
    wake: Notify,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Buffer {
    events: Vec<TaskEvent>,
    /// Events that are being written.
    in_flight: u64,
    /// Dropped since the last gap was written.
    missing: u64,
    /// Dropped in all.
    lost: u64,
    /// Written in all.
    written: u64,
    closing: bool,
}

impl Sink {
    /// A sink that keeps nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// A sink that writes to `store`, by a task of the runtime it is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(store: Option<Arc<dyn EventStore>>) -> Self {
        Self::start_with_clock(store, Arc::new(SystemClock::default()))
    }

    /// As [`Self::start`], with a clock of the caller's.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with_clock(store: Option<Arc<dyn EventStore>>, clock: Arc<dyn Clock>) -> Self {
        let Some(store) = store else { return Self::none() };
        let shared = Arc::new(Shared {
            store,
            clock,
            buffer: Mutex::default(),
            wake: Notify::new(),
            flusher: Mutex::default(),
        });
        let flusher = tokio::spawn(flush(Arc::clone(&shared)));
        *shared.flusher.lock().unwrap_or_else(PoisonError::into_inner) = Some(flusher);
        Self(Some(Arc::new(Hold(shared))))
    }

    /// Whether events are kept at all; where not, they need not be made.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The time to write into events.
    pub fn now(&self) -> Timestamp {
        self.0.as_ref().map_or_else(Timestamp::default, |shared| shared.clock.now())
    }

    /// Takes an event; never waits. Where there is no room for it, it is dropped and counted.
    pub fn emit(&self, event: TaskEvent) {
        self.emit_all([event]);
    }

    /// Takes several.
    pub fn emit_all(&self, events: impl IntoIterator<Item = TaskEvent>) {
        let Some(shared) = &self.0 else { return };
        let events = events.into_iter();
        let mut buffer = shared.buffer();
        let before = buffer.events.len();
        buffer.events.reserve(events.size_hint().0.min(ROOM));
        for event in events {
            if buffer.closing || buffer.events.len() >= ROOM {
                buffer.missing += told(&event);
                buffer.lost += told(&event);
            } else {
                buffer.events.push(event);
            }
        }
        let after = buffer.events.len();
        drop(buffer);
        if (before == 0 && after > 0) || (before < BATCH && after >= BATCH) {
            shared.wake.notify_one();
        }
    }

    /// How many events were written, and how many were dropped.
    pub fn counts(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |shared| {
            let buffer = shared.buffer();
            (buffer.written, buffer.lost)
        })
    }

    /// Writes what waits, for two seconds at most, and takes nothing more.
    pub async fn close(&self) {
        let Some(shared) = &self.0 else { return };
        shared.buffer().closing = true;
        shared.wake.notify_one();
        let flusher = shared.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut flusher) = flusher else { return };
        if tokio::time::timeout(FAREWELL, &mut flusher).await.is_err() {
            flusher.abort();
            let lost = shared.give_up();
            tracing::warn!(lost, "the event store did not take the last events in time");
        }
    }
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is not written as lost; returns how many that are.
    fn give_up(&self) -> u64 {
        let mut buffer = self.buffer();
        let waiting: u64 = std::mem::take(&mut buffer.events).iter().map(told).sum();
        let lost = waiting + std::mem::take(&mut buffer.in_flight);
        buffer.lost += lost;
        lost
    }
}

/// How many events it tells of: an end that says when its attempt began tells of two, a gap of those that were counted when
/// they were dropped.
fn told(event: &TaskEvent) -> u64 {
    match event.kind {
        EventKind::Gap => 0,
        _ => 1 + u64::from(event.began.is_some()),
    }
}

/// Writes events until the sink is closed and all are written.
async fn flush(shared: Arc<Shared>) {
    let mut gaps = 0;
    loop {
        let (len, closing) = {
            let buffer = shared.buffer();
            (buffer.events.len(), buffer.closing)
        };
        if len == 0 {
            if closing {
                return;
            }
            shared.wake.notified().await;
            continue;
        }
        if len < BATCH && !closing {
            // Woken early by a full batch or by the end.
            let _ = tokio::time::timeout(GATHER, shared.wake.notified()).await;
        }
        let batch = take(&shared, &mut gaps);
        if !append(&shared, batch).await {
            return;
        }
        let mut buffer = shared.buffer();
        buffer.written += std::mem::take(&mut buffer.in_flight);
    }
}

/// The oldest events that wait; behind them a gap if some were dropped.
fn take(shared: &Shared, gaps: &mut u64) -> Vec<TaskEvent> {
    let mut buffer = shared.buffer();
    let end = buffer.events.len().min(BATCH);
    let rest = buffer.events.split_off(end);
    let mut batch = std::mem::replace(&mut buffer.events, rest);
    buffer.in_flight = batch.iter().map(told).sum();
    // The newest are dropped, so the gap belongs behind everything that waits.
    if buffer.events.is_empty() && buffer.missing > 0 {
        *gaps += 1;
        batch.push(gap(shared, *gaps, std::mem::take(&mut buffer.missing)));
    }
    batch
}

fn gap(shared: &Shared, number: u64, missing: u64) -> TaskEvent {
    let at = shared.clock.now();
    // Belongs to no task; the process and the number keep two gaps apart.
    let process = std::process::id().to_be_bytes();
    let task = TaskId::derived(&[b"gap", &process, &at.as_millis().to_be_bytes()]);
    TaskEvent { missing, ..event(task, number, EventKind::Gap, at) }
}

/// Writes a batch, however long it takes; `false` when it was given up, since nobody is left who holds the sink.
async fn append(shared: &Shared, batch: Vec<TaskEvent>) -> bool {
    let mut pause = BACKOFF.0;
    let began = Instant::now();
    loop {
        omniq_store::failpoint::hit("worker.events.before");
        match shared.store.append(batch.clone()).await {
            Ok(()) => return true,
            Err(error) if shared.buffer().closing && began.elapsed() > FAREWELL => {
                let lost = shared.give_up();
                tracing::warn!(error = %chain(&error), lost, "the event store did not take the last events in time");
                return false;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), events = batch.len(), "could not write events");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    }
}

/// What the log says of an error. The rest stands in the task's record: what a guest gives back may be large, and
/// thousands of events wait in memory.
pub(crate) fn brief(error: &TaskError) -> TaskError {
    const LONGEST: usize = 1000;
    let end = error.message.floor_char_boundary(LONGEST);
    let cut = if end < error.message.len() { "…" } else { "" };
    TaskError {
        kind: error.kind.clone(),
        message: format!("{}{cut}", &error.message[..end]),
        value: None,
        backtrace: Vec::new(),
        hint: error.hint.clone(),
        denials: error.denials.first().cloned().into_iter().collect(),
        unknown: Default::default(),
    }
}

/// An event of an attempt: which one, whose, and of what.
pub(crate) fn of_attempt(
    event: TaskEvent,
    number: u32,
    session: SessionId,
    task: Option<&Task>,
) -> TaskEvent {
    TaskEvent {
        lane: task.map(|task| task.lane.clone()).unwrap_or_default(),
        attempt: number,
        session: Some(session),
        what: task.map(what).unwrap_or_default(),
        ..event
    }
}

/// An event with nothing but what it must have.
pub(crate) fn event(task: TaskId, fence: u64, kind: EventKind, at: Timestamp) -> TaskEvent {
    TaskEvent {
        task,
        fence,
        kind,
        at,
        lane: Default::default(),
        attempt: 0,
        session: None,
        error: None,
        micros: 0,
        missing: 0,
        what: String::new(),
        began: None,
        unknown: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use omniq_store::memory::MemoryEvents;
    use omniq_store::{Error, EventFilter};

    use super::*;

    /// Takes nothing: it fails, or never answers.
    #[derive(Debug)]
    struct Full {
        hangs: bool,
    }

    #[async_trait]
    impl EventStore for Full {
        fn name(&self) -> &'static str {
            "full"
        }

        async fn append(&self, _: Vec<TaskEvent>) -> omniq_store::Result<()> {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Err(Error::unavailable("full", "keep events", "it is full"))
        }

        async fn query(
            &self,
            _: &EventFilter,
            _: Option<u64>,
            _: usize,
        ) -> omniq_store::Result<Vec<(u64, TaskEvent)>> {
            Ok(Vec::new())
        }

        async fn purge(&self, _: Timestamp, _: usize) -> omniq_store::Result<usize> {
            Ok(0)
        }

        async fn watermark(&self) -> omniq_store::Result<(Timestamp, TaskId)> {
            Ok((Timestamp::default(), TaskId::derived(&[])))
        }

        async fn set_watermark(&self, _: (Timestamp, TaskId)) -> omniq_store::Result<()> {
            Ok(())
        }

        async fn close(&self) -> omniq_store::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_given_up_at_the_end_is_counted() {
        for hangs in [false, true] {
            let sink = Sink::start(Some(Arc::new(Full { hangs })));
            let task = TaskId::derived(&[b"t"]);
            let event = |fence| event(task, fence, EventKind::Started, sink.now());
            sink.emit_all((0..20_000).map(event));
            sink.close().await;
            assert_eq!(sink.counts(), (0, 20_000), "hangs: {hangs}");
        }
    }

    #[tokio::test]
    async fn what_has_no_room_is_counted_and_leaves_a_gap() {
        let store = MemoryEvents::new();
        let sink = Sink::start(Some(Arc::new(store.clone())));
        let task = TaskId::derived(&[b"t"]);
        // Nothing is awaited here, so that nothing is written meanwhile.
        let fences = 1..=ROOM as u64 + 10;
        sink.emit_all(fences.map(|fence| event(task, fence, EventKind::Started, sink.now())));
        assert_eq!(sink.counts(), (0, 10));
        let end = event(task, 1, EventKind::Succeeded, sink.now());
        sink.emit(TaskEvent { began: Some(end.at), ..end });
        assert_eq!(sink.counts(), (0, 12), "it tells of two");
        sink.close().await;
        let gaps = EventFilter { kinds: vec![EventKind::Gap], ..EventFilter::default() };
        let gaps = store.query(&gaps, None, 10).await.unwrap();
        assert_eq!(gaps.iter().map(|(_, gap)| gap.missing).collect::<Vec<_>>(), [12]);
        let all = EventFilter { task: Some(task), ..EventFilter::default() };
        assert_eq!(store.query(&all, None, ROOM * 2).await.unwrap().len(), ROOM);
        sink.emit(event(task, 0, EventKind::Enqueued, sink.now()));
        assert_eq!(sink.counts().1, 13, "a closed sink takes nothing");
    }

    #[tokio::test]
    async fn a_sink_without_a_store_swallows_everything() {
        let sink = Sink::start(None);
        assert!(!sink.is_on());
        sink.emit(event(TaskId::derived(&[]), 0, EventKind::Enqueued, sink.now()));
        sink.close().await;
        assert_eq!(sink.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_sink_that_is_dropped_writes_what_it_has_and_lets_go_of_its_store() {
        let store: Arc<dyn EventStore> = Arc::new(MemoryEvents::new());
        let sink = Sink::start(Some(Arc::clone(&store)));
        let other = sink.clone();
        drop(sink);
        other.emit(event(TaskId::derived(&[b"t"]), 1, EventKind::Started, other.now()));
        drop(other);
        let let_go = async {
            while Arc::strong_count(&store) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), let_go).await.expect("the flusher ends");
        assert_eq!(store.query(&EventFilter::default(), None, 10).await.unwrap().len(), 1);
    }
}
