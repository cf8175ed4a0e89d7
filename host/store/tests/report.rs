//! The suite as one function: what holds is reported as such, and what does not is found.

#[path = "place/memory.rs"]
mod place;

use std::sync::Arc;

use async_trait::async_trait;
use omniq_conformance::{CASES, Factory, Faulty, Place, Stores, run};
use omniq_store::ManualClock;

#[tokio::test]
async fn a_store_that_keeps_its_promises_is_reported_so() {
    let report = run(&place::Memory).await;
    assert!(report.failed.is_empty(), "{report}");
    assert_eq!(report.held.len() + report.skipped.len(), CASES.len());
    assert!(report.skipped.iter().all(|name| !report.held.contains(name)));
    assert!(!report.skipped.is_empty(), "memory cannot be opened anew");
}

/// A backend that answers nothing.
#[derive(Debug)]
struct Deaf;

#[async_trait]
impl Factory for Deaf {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let Stores { tasks, .. } = place::Memory.place(clock).await.open().await;
        let tasks = Arc::new(Faulty::random(tasks, 1, 1000, 0));
        Arc::new(Only(Stores { tasks, results: None, events: None, modules: None }))
    }
}

#[derive(Debug)]
struct Only(Stores);

#[async_trait]
impl Place for Only {
    async fn open(&self) -> Stores {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_store_that_does_not_is_found_in_every_case() {
    let report = run(&Deaf).await;
    assert!(report.held.is_empty(), "{report}");
    let why = |name: &str| report.failed.iter().find(|(failed, _)| *failed == name).unwrap();
    assert!(why("a3_finish::a_stale_token_changes_nothing").1.contains("Unavailable"));
    // A store that has gone away is no reason to skip what was not to be skipped.
    assert!(why("results::large_values_are_kept").1.contains("does not list it as skipped"));
}
