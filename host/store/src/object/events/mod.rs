//! The event store: lines of JSON in folders by hour, to be read with anything that reads lines of JSON.
//!
//! `events/dt=2026-11-25/h=16/UUID-NODE-COUNT.ndjson` is what one process wrote of one hour within a few seconds; it is
//! created once and never changed. The same event may have been written several times, by a repair or after a lost
//! answer: readers take the one that was written first. Whole hours are forgotten at once.
//!
//! An append is answered when its events are in this process's memory; they are written after a few seconds, when they
//! are many, before anything is read here, and when the store is closed. What is lost with a process is what it did in
//! that time, but for ends of tasks: those are repaired from the tasks, and the mark of that repair is only moved once
//! all before it is written.

#[cfg(feature = "duckdb")]
mod duckdb;
mod hour;
mod line;
mod mark;
mod read;
mod segment;
#[cfg(any(feature = "sqlite", feature = "duckdb"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(any(feature = "sqlite", feature = "duckdb"))]
pub use sql::{Answer, Cell, Engine, Question};

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use omniq_model::{TaskEvent, TaskId, Timestamp};

use self::hour::Hour;
use self::line::{Identity, identity};
use self::read::Reader;
use super::Root;
use super::objects::{NAME, Objects};
use crate::{Clock, EventFilter, EventStore, Result, SystemClock, failpoint};

/// Events that are written at once, at most and at least where they are many.
const FLUSH: usize = 10_000;
/// Events that may wait to be written; an append that finds so many waits for them to be.
const ROOM: usize = 50_000;
/// The least and the most time between two tries to write.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How events are kept as objects.
#[derive(Debug, Clone)]
pub struct EventOptions {
    /// How long events wait in memory for others, to be written together. Default: 5 s in a bucket, 1 s in a folder.
    pub window: Duration,
    /// The most bytes of memory that events may take when they are read: those of one hour, or those that a question in
    /// SQL is about. Default: 256 MiB.
    pub memory: usize,
    /// How long SQLite may think about a question once its events are loaded. Default: 10 s.
    pub patience: Duration,
}

/// Events as objects. Clones are the same store.
#[derive(Debug, Clone)]
pub struct ObjectEvents(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: Objects,
    options: EventOptions,
    node: String,
    clock: SystemClock,
    buffer: Mutex<Buffer>,
    /// Whoever writes holds it, so that nothing is written twice at once.
    writing: tokio::sync::Mutex<()>,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Buffer {
    events: Vec<TaskEvent>,
    /// Of [`Buffer::events`]: the same event may come again before it is written.
    known: HashSet<Identity>,
    /// The time of the last segment that was made.
    cut: Timestamp,
    /// Segments whose writing failed or has no answer yet: they keep their names.
    segments: VecDeque<(String, Bytes)>,
    /// Somebody waits to write what is here, or tries to.
    scheduled: bool,
}

impl EventOptions {
    /// The defaults for a root.
    pub fn of(root: &Root) -> Self {
        let window = if root.folder.is_some() { 1 } else { 5 };
        Self {
            window: Duration::from_secs(window),
            memory: 256 << 20,
            patience: Duration::from_secs(10),
        }
    }
}

impl ObjectEvents {
    /// The events under a root, by the defaults of [`EventOptions`].
    pub fn new(root: Root) -> Self {
        let options = EventOptions::of(&root);
        Self::with_options(root, options)
    }

    /// The events under a root.
    pub fn with_options(root: Root, options: EventOptions) -> Self {
        Self(Arc::new(Inner {
            objects: Objects::new(root),
            options,
            node: segment::node(),
            clock: SystemClock::default(),
            buffer: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    /// The same, shared with whoever has the place open in this process: all see what any of them appended.
    pub(crate) fn shared(root: Root) -> Self {
        static OPEN: LazyLock<Mutex<HashMap<String, Weak<Inner>>>> = LazyLock::new(Mutex::default);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = open.get(&root.shown).and_then(Weak::upgrade) {
            return Self(inner);
        }
        open.retain(|_, inner| inner.strong_count() > 0);
        let shown = root.shown.clone();
        let store = Self::new(root);
        open.insert(shown, Arc::downgrade(&store.0));
        store
    }
}

impl Inner {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes events; tells whether there are so many that they are to be written now.
    fn take(self: &Arc<Self>, events: Vec<TaskEvent>) -> bool {
        let mut buffer = self.buffer();
        for event in events {
            let (began, event) = event.apart();
            for event in began.into_iter().chain([event]) {
                if buffer.known.insert(identity(&event)) {
                    buffer.events.push(event);
                }
            }
        }
        if !buffer.scheduled {
            buffer.scheduled = true;
            tokio::spawn(write_later(Arc::clone(self)));
        }
        buffer.events.len() >= FLUSH
    }

    /// Writes all that waits.
    async fn flush(&self) -> Result<()> {
        let _writing = self.writing.lock().await;
        loop {
            self.cut()?;
            // It stays where it is until it is written: whoever drops this future loses nothing.
            let Some((name, lines)) = self.buffer().segments.front().cloned() else {
                return Ok(());
            };
            failpoint::hit("object.events.before");
            // One that is there was written by an earlier try: nobody else has its name.
            self.objects.create(&name, lines, "keep events").await?;
            self.buffer().segments.pop_front();
        }
    }

    /// Makes segments of the events that wait.
    fn cut(&self) -> Result<()> {
        let mut buffer = self.buffer();
        if buffer.events.is_empty() {
            return Ok(());
        }
        // One after the other also where the clock has not moved: of the same event the first one counts.
        let now = self.clock.now().max(buffer.cut + Duration::from_millis(1));
        buffer.cut = now;
        let segments = segment::segments(now, &self.node, &buffer.events)?;
        buffer.segments.extend(segments.into_iter().map(|(name, lines)| (name, lines.into())));
        buffer.events.clear();
        buffer.known.clear();
        Ok(())
    }
}

/// Writes what waits when its time has come, however often that fails, until nothing waits. So one is enough: else each
/// window of an outage would add another one.
async fn write_later(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(inner.options.window).await;
        let mut pause = BACKOFF.0;
        while inner.flush().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
        let mut buffer = inner.buffer();
        // What came while it wrote waits for the next turn.
        if buffer.events.is_empty() {
            buffer.scheduled = false;
            return;
        }
    }
}

#[async_trait]
impl EventStore for ObjectEvents {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn append(&self, events: Vec<TaskEvent>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let waiting = {
            let buffer = self.0.buffer();
            buffer.events.len() + buffer.segments.len() * (FLUSH / 4)
        };
        if waiting >= ROOM {
            self.0.flush().await?;
        }
        if self.0.take(events) {
            // What fails here is tried again later, and the next append that finds no room tells.
            let _ = self.0.flush().await;
        }
        Ok(())
    }

    async fn query(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, TaskEvent)>> {
        self.0.flush().await?;
        let (objects, memory) = (&self.0.objects, self.0.options.memory);
        let mut reader = Reader::new(objects, filter, after.map(read::time_of), memory).await?;
        let (mut found, mut last) = (Vec::new(), None);
        while let Some(hour) = reader.next().await? {
            for event in hour.into_iter().map(|found| found.event) {
                if found.len() >= max {
                    return Ok(found);
                }
                let position = read::position(&event, last);
                last = Some(position);
                let fits = after.is_none_or(|after| position > after)
                    && filter.from.is_none_or(|from| event.at >= from)
                    && filter.to.is_none_or(|to| event.at < to);
                if fits {
                    found.push((position, event));
                }
            }
        }
        Ok(found)
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<usize> {
        const ACTION: &str = "forget events";
        self.0.flush().await?;
        let (first, last) = (Hour::of(Timestamp::from_millis(0)), Hour::of(before));
        let mut forgotten = 0;
        for hour in read::hours(&self.0.objects, first, last).await? {
            if hour.end() > before || forgotten >= max {
                break;
            }
            let segments = self.0.objects.list(&hour.folder(), ACTION).await?;
            forgotten += segments.iter().map(|name| segment::count(name)).sum::<usize>();
            self.0.objects.delete_all(segments, ACTION).await?;
        }
        Ok(forgotten)
    }

    async fn watermark(&self) -> Result<(Timestamp, TaskId)> {
        mark::read(&self.0.objects).await
    }

    async fn set_watermark(&self, mark: (Timestamp, TaskId)) -> Result<()> {
        // What is before the mark is never repaired again.
        self.0.flush().await?;
        mark::write(&self.0.objects, mark).await
    }

    /// Writes what waits.
    async fn close(&self) -> Result<()> {
        self.0.flush().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use omniq_model::{EventKind, Lane};

    use super::*;
    use crate::object::failing::Failing;

    fn event(of: u8) -> TaskEvent {
        TaskEvent {
            task: TaskId::derived(&[&[of]]),
            fence: 1,
            kind: EventKind::Failed,
            at: Timestamp::from_millis(1_700_000_000_000),
            lane: Lane::default(),
            attempt: 1,
            session: None,
            error: None,
            micros: 0,
            missing: 0,
            what: String::new(),
            began: None,
            unknown: Default::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_outage_only_one_waits_to_write() {
        let (place, objects) = Failing::place();
        let store = ObjectEvents::new(objects.root.clone());
        let window = store.0.options.window;
        let segments = async || objects.list("events", "test").await.unwrap().len();
        place.puts.store(usize::MAX, Ordering::Relaxed);
        for of in 0..20 {
            store.append(vec![event(of)]).await.unwrap();
            tokio::time::sleep(window).await;
        }
        assert_eq!((Arc::strong_count(&store.0), segments().await), (2, 0));

        place.puts.store(0, Ordering::Relaxed);
        tokio::time::sleep(BACKOFF.1 + window).await;
        let written = segments().await;
        assert_eq!((Arc::strong_count(&store.0), written > 0), (1, true));
        // It is not the last time.
        store.append(vec![event(99)]).await.unwrap();
        tokio::time::sleep(window * 2).await;
        assert_eq!((Arc::strong_count(&store.0), segments().await), (1, written + 1));
        let found = store.query(&EventFilter::default(), None, 100).await.unwrap();
        assert_eq!(found.len(), 21);
    }

    #[tokio::test]
    async fn what_was_written_several_times_takes_memory_once() {
        let (_, objects) = Failing::place();
        let options = EventOptions { memory: 1000, ..EventOptions::of(&objects.root) };
        let store = ObjectEvents::with_options(objects.root.clone(), options);
        let read = async || store.query(&EventFilter::default(), None, 100).await;
        for _ in 0..5 {
            store.append(vec![event(1)]).await.unwrap();
            assert_eq!(read().await.unwrap().len(), 1);
        }
        store.append(vec![event(2)]).await.unwrap();
        let error = read().await.unwrap_err().to_string();
        assert!(error.contains("MiB of memory"), "{error}");
    }
}
