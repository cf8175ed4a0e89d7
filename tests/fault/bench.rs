//! `omniq bench --quick`: every part of the benchmark runs and gives a figure. What the figures are is for a release build
//! on a machine that does nothing else.

use serde_json::Value;

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
