//! `omniq bench --quick`: every part of the benchmark runs and gives a figure. What the figures are is for a release build
//! on a machine that does nothing else.

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::place::Place;

#[test]
fn every_part_gives_a_figure() {
    let place = Place::new();
    let text = place.says("bench --quick -o json");
    let rows: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
    for part in [
        "the sandbox alone",
        "memory: enqueue, run and result",
        "SQLite: bulk enqueue",
        "SQLite: 64 callers",
        "SQLite: drain, sandbox included",
        "SQLite: drain, 500 waiting",
        "SQLite: drain, 5000 waiting",
        "SQLite: drain, 5000 in history",
        "idle: enqueue to result, one process, p50",
        "idle: enqueue to result, two processes, p99",
        "idle worker: share of one processor",
    ] {
        let is_it = |row: &&Value| row["what"].as_str().is_some_and(|what| what.starts_with(part));
        let row = rows.iter().find(is_it).unwrap_or_else(|| panic!("no `{part}` in {text}"));
        let measured = row["measured"].as_f64().unwrap_or_default();
        assert!(measured.is_finite() && measured > 0.0, "{row}");
    }
    let left: Vec<_> = std::fs::read_dir(place.path())
        .expect("the place is there")
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("omniq-bench"))
        .collect();
    assert!(left.is_empty(), "its files are removed: {left:?}");
}

/// The loops over a backend's client say themselves when they did not claim and finish all they inserted.
#[test]
fn every_backend_is_held_against_its_own_loops() {
    for (backend, loops) in [
        (Backend::File, &["tasks", "rows"][..]),
        (Backend::Postgres, &["tasks", "rows"]),
        (Backend::Redis, &["tasks", "rows"]),
        (Backend::Valkey, &["tasks", "rows"]),
        (Backend::Nats, &["rows"]),
    ] {
        let place = Place::new();
        let server = backend.shared().map(|server| server.url()).unwrap_or_default();
        let url = backend.url(server, place.path(), "bench");
        let text = place.says(&format!("bench drain --quick -o json --url {url}"));
        let rows: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
        for keeps in loops {
            let floor = format!("raw claim and finish of {keeps}");
            let row = rows.iter().find(|row| row["floor_is"] == floor.as_str());
            let row = row.unwrap_or_else(|| panic!("no `{floor}` in {text}"));
            assert!(row["floor"].as_f64().is_some_and(|rate| rate > 0.0), "{row}");
        }
    }
}
