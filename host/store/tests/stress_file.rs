//! Many clients on files at once, with lost calls and answers.
#![cfg(feature = "object")]

#[path = "place/file.rs"]
mod place;

use omniq_conformance::{Stress, stress};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_keep_their_promises_under_stress() {
    let files = place::Files(omniq_store::Durability::Disk);
    let run = Stress { seed: 1, clients: 8, steps: 500, faults: 50 };
    stress(&files, run).await.assert_clean();
}
