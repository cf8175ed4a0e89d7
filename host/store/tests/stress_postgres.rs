//! Many clients on PostgreSQL at once, with lost calls and answers.
#![cfg(feature = "postgres")]

#[path = "place/postgres.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_its_promises_under_stress() {
    let url = omniq_services::postgres().url().to_owned();
    let postgres = place::Postgres { url, durability: omniq_store::Durability::Disk };
    let run = Stress { seed: 1, clients: 8, steps: 400, faults: 50 };
    stress(&postgres, run).await.assert_clean();
}
