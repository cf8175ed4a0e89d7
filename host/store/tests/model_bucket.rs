//! A bucket against the state machine: the same random calls, the same answers.
#![cfg(feature = "object")]

#[path = "place/bucket.rs"]
mod place;

#[test]
fn a_bucket_answers_as_the_state_machine_does() {
    omniq_conformance::check_model(&place::Buckets::Memory, 32, 60, "tests/model_bucket.seeds");
}
