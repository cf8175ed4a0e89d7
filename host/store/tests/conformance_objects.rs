//! Results, events and modules as objects, held to what every store of them promises.
#![cfg(all(feature = "object", feature = "sqlite"))]

#[path = "place/object.rs"]
mod place;

use omniq_conformance::{CASES, Factory, Passed, run_case};

/// Runs the cases about everything but tasks, each on a fresh place.
async fn hold(factory: &dyn Factory) {
    let groups = ["results::", "events::", "modules::"];
    let cases = CASES.iter().filter(|case| groups.iter().any(|group| case.name.starts_with(group)));
    let mut failed = Vec::new();
    for case in cases {
        match run_case(factory, case.name).await {
            Ok(Passed::Held) => {}
            other => failed.push(format!("{}: {other:?}", case.name)),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn files_keep_what_stores_promise() {
    hold(&place::Objects::Folder).await;
}

#[tokio::test]
async fn objects_in_memory_keep_what_stores_promise() {
    hold(&place::Objects::Memory).await;
}
