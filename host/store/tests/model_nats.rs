//! NATS against the state machine: the same random calls, the same answers.
#![cfg(feature = "nats")]

#[path = "place/nats.rs"]
mod place;

/// With small values in the log, as they mostly are, and images taken now and then.
#[test]
fn nats_answers_as_the_state_machine_does() {
    let nats = place::Nats { inline: 64, image_every: 8 << 10, ..place::Nats::here() };
    omniq_conformance::check_model(&nats, 32, 60, "tests/model_nats.seeds");
}
