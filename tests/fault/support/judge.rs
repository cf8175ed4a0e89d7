//! Looks into the stores of a place, beside the processes that work on them, and has the checker of histories say what is
//! wrong with what it finds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_conformance::history::{Entry, Verdict, check_events};
use omniq_model::{EventKind, Lane, State, TaskEvent, TaskId, Value};
use omniq_store::{
    EventFilter, EventStore, Filter, Info, Interest, Options, ResultKey, ResultStore, TaskStore,
    open_events, open_results, open_tasks,
};
use tokio::runtime::Runtime;

use super::place::Place;

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
        let (tasks, events, results) = runtime.block_on(async {
            let tasks = open_tasks(&place.url("omniq.db"), &options).await.expect("tasks open");
            let log = place.url("omniq-events.db");
            let events = open_events(&log, &options).await.expect("events open");
            let apart = place.path().join("results.db").exists();
            let url = place.url(if apart { "results.db" } else { "omniq.db" });
            let results = open_results(&url, &options).await.expect("results open");
            (tasks, events, results)
        });
        Self { runtime, tasks, events, results }
    }

    /// Waits until no task is left that has not ended.
    #[track_caller]
    pub fn drained(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let idle = self.runtime.block_on(async {
            loop {
                let seen = self.tasks.changes(Interest::Ends);
                if self.tasks.is_idle().await.expect("the store answers") {
                    return true;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                self.tasks.changed(Interest::Ends, seen, left.min(Duration::from_secs(1))).await;
            }
        });
        assert!(idle, "tasks are left after {within:?}: {:?}", self.states());
    }

    /// How many tasks stand in each state.
    pub fn states(&self) -> BTreeMap<State, u64> {
        self.runtime.block_on(self.tasks.count(&Filter::default())).expect("the store answers")
    }

    /// One task.
    #[track_caller]
    pub fn info(&self, id: TaskId) -> Info {
        let mut got = self.runtime.block_on(self.tasks.get(&[id])).expect("the store answers");
        got.remove(0).unwrap_or_else(|| panic!("task {id} is not in the store"))
    }

    /// Fails if one of these tasks is not in the store.
    ///
    /// # Panics
    /// One is not.
    #[track_caller]
    pub fn expect_all(&self, ids: &BTreeSet<TaskId>) {
        let ids: Vec<_> = ids.iter().copied().collect();
        let found = self.runtime.block_on(self.tasks.get(&ids)).expect("the store answers");
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
            tokio::time::timeout(Duration::from_millis(500), self.tasks.pause(&lane, false)).await
        };
        self.runtime.block_on(write).is_ok_and(|written| written.is_ok())
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
        self.runtime.block_on(async {
            let (mut all, mut before) = (Vec::new(), None);
            loop {
                let page = self.tasks.list(&Filter::default(), before, PAGE).await;
                let page = page.expect("the store answers");
                all.extend(page.items);
                before = page.next;
                if before.is_none() {
                    return all;
                }
            }
        })
    }

    /// All events.
    pub fn events(&self) -> Vec<TaskEvent> {
        self.runtime.block_on(async {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = self.events.query(&EventFilter::default(), after, PAGE).await;
                let page = page.expect("the log answers");
                let Some((last, _)) = page.last() else { return all };
                after = Some(*last);
                all.extend(page.into_iter().map(|(_, event)| event));
            }
        })
    }

    /// Whether an event of that kind is in the log.
    pub fn has_event(&self, task: TaskId, kind: EventKind) -> bool {
        let filter = EventFilter { task: Some(task), kinds: vec![kind], ..EventFilter::default() };
        let found = self.runtime.block_on(self.events.query(&filter, None, 1));
        !found.expect("the log answers").is_empty()
    }

    /// The bytes a task ended with; `None` when it has none, or they are gone.
    pub fn value(&self, info: &Info) -> Option<Vec<u8>> {
        match info.head.result.as_ref()?.value.as_ref()? {
            Value::Inline(payload) => Some(payload.bytes.to_vec()),
            Value::Stored(stored) => {
                let key = ResultKey { task: info.id, token: stored.token };
                let got = self.runtime.block_on(self.results.get(&[key]));
                got.expect("the results answer").remove(0).map(|payload| payload.bytes.to_vec())
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

    /// What the checker says of all that is there, given what producers offered.
    pub fn verdict(&self, offers: &[Entry]) -> Verdict {
        check_events(offers, &self.events(), &self.infos())
    }
}
