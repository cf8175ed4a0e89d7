//! The memory backend against the state machine: the same random calls, the same answers.

#[path = "place/memory.rs"]
mod place;

#[test]
fn memory_answers_as_the_state_machine_does() {
    omniq_conformance::check_model(&place::Memory, 256, 60, "tests/model_memory.seeds");
}
