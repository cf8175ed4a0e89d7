//! Files against the state machine: the same random calls, the same answers.
#![cfg(feature = "object")]

#[path = "place/file.rs"]
mod place;

/// Not one wait for the disk: what survives a loss of power is not asked here, and thousands of commits are made.
#[test]
fn files_answer_as_the_state_machine_does() {
    let files = place::Files(omniq_store::Durability::None);
    omniq_conformance::check_model(&files, 100, 60, "tests/model_file.seeds");
}
