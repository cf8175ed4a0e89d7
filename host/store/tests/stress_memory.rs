//! Many clients on the memory backend at once, with lost calls and answers.

#[path = "place/memory.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_keeps_its_promises_under_stress() {
    for seed in 1..=5 {
        let run = Stress { seed, clients: 8, steps: 800, faults: 50 };
        stress(&place::Memory, run).await.assert_clean();
    }
}
