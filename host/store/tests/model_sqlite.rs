//! SQLite against the state machine: the same random calls, the same answers.
#![cfg(feature = "sqlite")]

#[path = "place/sqlite.rs"]
mod place;

/// Not one wait for the disk: what survives a loss of power is not asked here, and thousands of commits are made.
#[test]
fn sqlite_answers_as_the_state_machine_does() {
    let sqlite = place::Sqlite(omniq_store::Durability::None);
    omniq_conformance::check_model(&sqlite, 100, 60, "tests/model_sqlite.seeds");
}
