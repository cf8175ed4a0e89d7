//! A task that is told from others by a number, where nothing else about it matters.

use omniq_model::{Digest, ModuleRef, Payload, Task, TaskId};

pub fn task(number: u64) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    Task::new(TaskId::derived(&[&number.to_be_bytes()]), module, "f", Payload::cbor([0xa0]))
}
