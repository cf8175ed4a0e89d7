//! The SQLite backend against the state machine: the same random calls, the same answers.

#![cfg(feature = "sqlite")]

#[path = "place/sqlite.rs"]
mod place;

#[test]
fn sqlite_answers_as_the_state_machine_does() {
    omniq_conformance::check_model(&place::Sqlite, 64, 60, "tests/model_sqlite.seeds");
}
