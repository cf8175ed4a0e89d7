//! Many clients on NATS at once, with lost calls and answers.
#![cfg(feature = "nats")]

#[path = "place/nats.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nats_keeps_its_promises_under_stress() {
    let nats = place::Nats { inline: 64, image_every: 8 << 10, ..place::Nats::here() };
    let run = Stress { seed: 1, clients: 8, steps: 500, faults: 50 };
    stress(&nats, run).await.assert_clean();
}
