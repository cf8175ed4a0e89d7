//! Redis against the state machine: the same random calls, the same answers.
#![cfg(feature = "redis")]

#[path = "place/redis.rs"]
mod place;

#[test]
fn redis_answers_as_the_state_machine_does() {
    let redis = place::Redis { url: omniq_services::redis().url().to_owned() };
    omniq_conformance::check_model(&redis, 32, 60, "tests/model_redis.seeds");
}
