//! What no crash does, and people do: an older file is put back, a file is deleted.

use std::fs;

use omniq_model::State;

use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::PATIENCE;
use crate::support::story::{self, Batch, every_kind};

/// Results lie in a file of their own, so that it can be lost alone.
fn place() -> Place {
    let place = Place::new()
        .results_apart()
        .with("OMNIQ_RETRY_DELAY", "50ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "50ms");
    place.says(&format!("push {STEPS}"));
    place
}

/// Tasks that had ended since run again under the same fences and other nonces: results of the two lives do not meet.
#[test]
fn an_older_file_is_put_back() {
    let place = place();
    let batches = every_kind();
    batches.iter().for_each(|batch| batch.enqueue(&place));
    let backup = fs::read(place.database()).expect("the file is closed, so it is whole");
    place.says("worker --drain");
    let first = Judge::new(&place);
    let bulk = batches.iter().find(|batch| batch.has_bytes()).expect("there are large results");
    let before: Vec<_> = bulk.ids().into_iter().map(|id| first.info(id).head).collect();
    drop(first);

    for log in ["omniq.db-wal", "omniq.db-shm"] {
        let _ = fs::remove_file(place.path().join(log));
    }
    fs::write(place.database(), backup).expect("it can be put back");
    place.says("worker --drain");
    let judge = Judge::new(&place);
    story::check(&judge, &batches);
    for (id, before) in bulk.ids().into_iter().zip(before) {
        let after = judge.info(id).head;
        assert_eq!((after.state, after.fence), (State::Succeeded, before.fence), "{after:?}");
        assert_ne!(after.result, before.result, "its value lies under another token");
    }
}

/// A result that should be there and is not is an error that says so, and never an empty answer.
#[test]
fn results_are_deleted() {
    let place = place();
    let batch = Batch::new("bulk", "bulk", ["[20000]"]);
    batch.enqueue(&place);
    place.says("worker --drain");
    let id = batch.ids()[0];
    place.says(&format!("result {id}"));
    for file in ["results.db", "results.db-wal", "results.db-shm"] {
        let _ = fs::remove_file(place.path().join(file));
    }
    let mut process = place.start("result", ["result", &id.to_string()]);
    let status = process.wait(PATIENCE);
    assert!(!status.success() && process.stdout().is_empty(), "{}", process.said());
    let stderr = process.stderr();
    assert!(stderr.contains("lost") && stderr.contains(&id.to_string()), "{stderr}");
}
