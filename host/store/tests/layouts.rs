//! Layouts of databases, once committed, never change: whoever has one has it under its number, and its release reads it so.
//! What is to be different comes as another step.

use std::path::Path;

use omniq_model::Digest;
use sha2::{Digest as _, Sha256};

/// Every step, by the digest of its text.
const STEPS: [(&str, &str); 8] = [
    (
        "sqlite/schema/0001_tasks.sql",
        "1b94f0c57a4d52261e28ede9123baa0250d46f3890eeb261464d00326bfc9d56",
    ),
    (
        "sqlite/schema/events_0001.sql",
        "441c929f100a0bf7f2fffa8ff4522046fa5def9c53438df1fe063214679c0592",
    ),
    (
        "sqlite/schema/events_0002.sql",
        "9024a2b1de56cb36fd469bf25895ba007e198b85fc769e3c978a7b77acd9446c",
    ),
    (
        "postgres/schema/0001_tables.sql",
        "458bf70ea5e3b7e97c520cf6853ccf200280d0253a42b56117195fe779b1a2ce",
    ),
    (
        "postgres/schema/0002_functions.sql",
        "b0ab8e974e790954be79ab04ca3d34c9ad9f1674ef33a37bfa4ba513a22d1791",
    ),
    (
        "postgres/schema/0003_enqueue.sql",
        "7fec422e0f58b53845f7fbb9d67d3e4290d08825ee7f83488bc3e9a4e113a521",
    ),
    (
        "postgres/schema/0004_days.sql",
        "c529bb77471962416aae92a2b615d514ec6f9def9d9cc241ed3b37f243cd6bd8",
    ),
    (
        "postgres/schema/0005_expiry.sql",
        "65722e59a4345b78394b91b94e93631bdd2bfbdeff03d2b395fba47b7e33e841",
    ),
];

#[test]
fn no_step_of_a_layout_changes() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for folder in ["sqlite/schema", "postgres/schema"] {
        for file in std::fs::read_dir(source.join(folder)).unwrap() {
            let name = file.unwrap().file_name();
            let step = format!("{folder}/{}", name.to_str().unwrap());
            let text = std::fs::read(source.join(&step)).unwrap();
            let digest = Digest::from_sha256(Sha256::digest(text).into());
            found.push((step, digest.to_hex()));
        }
    }
    found.sort();
    let mut known = STEPS.map(|(step, digest)| (step.to_owned(), digest.to_owned()));
    known.sort();
    assert_eq!(
        found, known,
        "a new step is to be written down here; one that is there stays as it is"
    );
}
