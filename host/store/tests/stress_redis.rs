//! Many clients on Redis at once, with lost calls and answers.
#![cfg(feature = "redis")]

#[path = "place/redis.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_its_promises_under_stress() {
    let redis = place::Redis { url: omniq_services::redis().url().to_owned() };
    let run = Stress { seed: 1, clients: 8, steps: 500, faults: 50 };
    stress(&redis, run).await.assert_clean();
}
