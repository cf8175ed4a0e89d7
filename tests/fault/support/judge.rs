//! Looks into the stores of a place, beside the processes that work on them, and has the checker of histories say what is
//! wrong with what it finds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_conformance::history::{Entry, Verdict, check_events};
use omniq_model::{EventKind, Lane, State, TaskEvent, TaskId, Timestamp, Value};
use omniq_store::{
    EventFilter, EventStore, Filter, Info, Interest, Options, Result, ResultKey, ResultStore,
    TaskStore, WorkerSeen, open_events, open_results, open_tasks,
};
use tokio::runtime::Runtime;

use super::place::Place;
use super::process::PATIENCE;

/// Rows of one page.
const PAGE: usize = 5000;

/// The stores of a place, seen from the test.
#[derive(Debug)]
pub struct Judge {
    runtime: Runtime,
    tasks: Arc<dyn TaskStore>,
    events: Arc<dyn EventStore>,
    results: Arc<dyn ResultStore>,
}

impl Judge {
    /// Opens the stores of that place.
    pub fn new(place: &Place) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
        let options = Options::default();
        let urls = place.urls();
        let tasks = answered(&runtime, async || open_tasks(&urls.tasks, &options).await);
        let events = answered(&runtime, async || open_events(&urls.events, &options).await);
        let results = answered(&runtime, async || open_results(&urls.results, &options).await);
        Self { runtime, tasks, events, results }
    }

    /// The tasks, for [`Judge::ask`].
    pub fn tasks(&self) -> &dyn TaskStore {
        &*self.tasks
    }

    /// Asks a store, again and again while it cannot be reached: a test may have seen to that.
    #[track_caller]
    pub fn ask<T>(&self, call: impl AsyncFn() -> Result<T>) -> T {
        answered(&self.runtime, call)
    }

    /// Waits until no task is left that has not ended.
    #[track_caller]
    pub fn drained(&self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.tasks.changes(Interest::Ends);
            if self.ask(async || self.tasks.is_idle().await) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "tasks are left after {within:?}: {:?}", self.states());
            let wait = left.min(Duration::from_secs(1));
            self.runtime.block_on(self.tasks.changed(Interest::Ends, seen, wait));
        }
    }

    /// How many tasks stand in each state.
    pub fn states(&self) -> BTreeMap<State, u64> {
        self.ask(async || self.tasks.count(&Filter::default()).await)
    }

    /// The workers whose sessions live, and how long those do by the store's clock.
    #[track_caller]
    pub fn workers(&self) -> Vec<WorkerSeen> {
        let admin = self.tasks.admin().expect("every store of the tests has one");
        self.ask(async || admin.stats().await).workers
    }

    /// One task.
    #[track_caller]
    pub fn info(&self, id: TaskId) -> Info {
        let mut got = self.ask(async || self.tasks.get(&[id]).await);
        got.remove(0).unwrap_or_else(|| panic!("task {id} is not in the store"))
    }

    /// Fails if one of these tasks is not in the store.
    ///
    /// # Panics
    /// One is not.
    #[track_caller]
    pub fn expect_all(&self, ids: &BTreeSet<TaskId>) {
        let ids: Vec<_> = ids.iter().copied().collect();
        let found = self.ask(async || self.tasks.get(&ids).await);
        let missing = ids.iter().zip(found).filter(|(_, info)| info.is_none());
        let missing: Vec<_> = missing.map(|(id, _)| *id).collect();
        assert!(missing.is_empty(), "acknowledged and not there: {missing:?}");
    }

    /// Whether a write comes through now: a process that stands still in the midst of a transaction keeps others from
    /// writing, whatever they do.
    pub fn can_write(&self) -> bool {
        let elsewhere = "elsewhere".parse().expect("it is a name");
        let lane = Lane { queue: elsewhere, ..Lane::default() };
        let write = async {
            self.tasks.pause(&lane, false).await?;
            // Forgets nothing, and writes to the log all the same.
            self.events.purge(Timestamp::default(), 1).await
        };
        let soon = async { tokio::time::timeout(Duration::from_millis(500), write).await };
        self.runtime.block_on(soon).is_ok_and(|written| written.is_ok())
    }

    /// Waits until the task fits.
    #[track_caller]
    pub fn until(&self, id: TaskId, within: Duration, fits: impl Fn(&Info) -> bool) -> Info {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.tasks.changes(Interest::Ends);
            let info = self.info(id);
            if fits(&info) {
                return info;
            }
            assert!(Instant::now() < deadline, "not within {within:?}; task {id}: {:?}", info.head);
            // A claim is no end: look again soon.
            let soon = Duration::from_millis(10);
            self.runtime.block_on(self.tasks.changed(Interest::Ends, seen, soon));
        }
    }

    /// All tasks.
    pub fn infos(&self) -> Vec<Info> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = self.ask(async || self.tasks.list(&Filter::default(), before, PAGE).await);
            all.extend(page.items);
            before = page.next;
            if before.is_none() {
                return all;
            }
        }
    }

    /// All events.
    pub fn events(&self) -> Vec<TaskEvent> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let filter = EventFilter::default();
            let page = self.ask(async || self.events.query(&filter, after, PAGE).await);
            let Some((last, _)) = page.last() else { return all };
            after = Some(*last);
            all.extend(page.into_iter().map(|(_, event)| event));
        }
    }

    /// Whether an event of that kind is in the log.
    pub fn has_event(&self, task: TaskId, kind: EventKind) -> bool {
        let filter = EventFilter { task: Some(task), kinds: vec![kind], ..EventFilter::default() };
        !self.ask(async || self.events.query(&filter, None, 1).await).is_empty()
    }

    /// The bytes a task ended with; `None` when it has none, or they are gone.
    pub fn value(&self, info: &Info) -> Option<Vec<u8>> {
        match info.head.result.as_ref()?.value.as_ref()? {
            Value::Inline(payload) => Some(payload.bytes.to_vec()),
            Value::Stored(stored) => {
                let key = ResultKey { task: info.id, token: stored.token };
                let mut got = self.ask(async || self.results.get(&[key]).await);
                got.remove(0).map(|payload| payload.bytes.to_vec())
            }
        }
    }

    /// Waits until the end of every task that has ended is in the event log: a worker's repair brings that about.
    #[track_caller]
    pub fn reconciled(&self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let told: HashSet<_> =
                self.events().into_iter().map(|event| (event.task, event.kind)).collect();
            let missing = |info: &Info| {
                EventKind::of_end(info.head.state)
                    .is_some_and(|end| !told.contains(&(info.id, end)))
            };
            let missing = self.infos().iter().filter(|info| missing(info)).count();
            if missing == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{missing} ends are in no event after {within:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Lets go of the stores at once: a process of the test may want to be the one that owns them.
    fn close(&self) {
        self.runtime.block_on(async {
            // Whoever failed to close has nothing to keep.
            let _ = self.tasks.close().await;
            let _ = self.events.close().await;
            let _ = self.results.close().await;
        });
    }

    /// What the checker says of all that is there, given what producers offered.
    pub fn verdict(&self, offers: &[Entry]) -> Verdict {
        check_events(offers, &self.events(), &self.infos())
    }
}

/// What a store answers, asked again and again while it cannot be reached.
#[track_caller]
fn answered<T>(runtime: &Runtime, call: impl AsyncFn() -> Result<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let answer = runtime.block_on(async {
        loop {
            match call().await {
                Err(error) if error.kind().is_passing() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return answer,
            }
        }
    });
    answer.unwrap_or_else(|error| panic!("a store does not answer the test: {error:?}"))
}

impl Drop for Judge {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
    }
}
