//! What the tests of the library share.

use std::sync::atomic::{AtomicU32, Ordering};

use omniq::{Queue, State, TaskHandle};

/// A component that adds, greets, and fails when it is asked to.
pub const MATH: &str = r#"(component
    (core module $m
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
        (func (export "spin") (loop (br 0))))
    (core instance $i (instantiate $m))
    (func (export "add") (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add")))
    (func (export "div") (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "div")))
    (func (export "spin") (canon lift (core func $i "spin"))))"#;

/// A queue in memory that no other test sees, with the module `math`.
pub async fn queue() -> Queue {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let queue =
        Queue::connect(format!("memory:api-{}-{number}", std::process::id())).await.expect("opens");
    queue.push("math", MATH).version("1").await.expect("is a component");
    queue
}

/// Where a task stands.
pub async fn state(handle: &TaskHandle) -> State {
    handle.status().await.expect("is there")
}
