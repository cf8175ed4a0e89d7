//! PostgreSQL against the state machine: the same random calls, the same answers.
#![cfg(feature = "postgres")]

#[path = "place/postgres.rs"]
mod place;

/// Not one wait for the disk: what survives a loss of power is not asked here, and thousands of commits are made.
#[test]
fn postgres_answers_as_the_state_machine_does() {
    let url = omniq_services::postgres().url().to_owned();
    let postgres = place::Postgres { url, durability: omniq_store::Durability::None };
    omniq_conformance::check_model(&postgres, 32, 60, "tests/model_postgres.seeds");
}
