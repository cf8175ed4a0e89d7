//! Many clients on SQLite at once, with lost calls and answers.
#![cfg(feature = "sqlite")]

#[path = "place/sqlite.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_its_promises_under_stress() {
    let sqlite = place::Sqlite(omniq_store::Durability::Disk);
    let run = Stress { seed: 1, clients: 8, steps: 500, faults: 50 };
    stress(&sqlite, run).await.assert_clean();
}
