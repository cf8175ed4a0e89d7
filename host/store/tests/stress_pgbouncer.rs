//! Many clients on PostgreSQL at once through PgBouncer in transaction mode, with lost calls and answers: more connections than
//! it has to the server.
#![cfg(feature = "postgres")]

#[path = "place/postgres.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_its_promises_under_stress_behind_a_pooler() {
    let url = format!("{}?pgbouncer=true", omniq_services::pgbouncer().url());
    let postgres = place::Postgres { url, durability: omniq_store::Durability::Disk };
    let run = Stress { seed: 2, clients: 8, steps: 200, faults: 50 };
    stress(&postgres, run).await.assert_clean();
}
