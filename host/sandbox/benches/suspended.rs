//! How much room a guest takes that waits: ten thousand of them, asleep in the host, in one process.
//!
//! `cargo bench -p omniq-sandbox --bench suspended [-- COUNT]`

use std::time::{Duration, Instant};

use omniq_sandbox::{Allocation, Call, Cancel, Sandbox};

/// Sleeps for an hour, in a call to the host.
fn sleeper() -> Vec<u8> {
    let text = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
          (export "pollable" (type $pollable (sub resource)))
          (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
          (alias outer 1 $pollable (type $inner))
          (export "pollable" (type $same (eq $inner)))
          (export "subscribe-duration" (func (param "when" u64) (result (own $same))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $code
          (import "" "subscribe" (func $subscribe (param i64) (result i32)))
          (import "" "block" (func $block (param i32)))
          (memory 1)
          (func (export "run")
            (i32.store (i32.const 64) (i32.const 1))
            (call $block (call $subscribe (i64.const 3_600_000_000_000)))))
        (core instance $code (instantiate $code (with "" (instance
          (export "subscribe" (func $subscribe))
          (export "block" (func $block))))))
        (func (export "run") (canon lift (core func $code "run"))))"#;
    wat::parse_str(text).expect("the text of a guest is right")
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux says");
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux says").count()
}

fn main() {
    // `cargo bench` passes `--bench`, `cargo test` does not and wants to see it run once; a number is ours.
    let has = |option: &str| std::env::args().any(|word| word == option);
    let count = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let count: u32 = count.unwrap_or(if has("--bench") && !has("--test") { 10_000 } else { 100 });
    let allocation = Allocation::Pooled { instances: count };
    let sandbox = Sandbox::builder().allocation(allocation).open().expect("the engine runs here");
    assert_eq!(sandbox.allocation(), allocation, "the pool fits");
    let run = sandbox.load(&sleeper()).expect("loads").function("run").expect("is there");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("starts");
    runtime.block_on(async {
        let cancel = Cancel::new();
        let (before, started) = (resident(), Instant::now());
        let calls: Vec<_> = (0..count)
            .map(|_| {
                let (run, cancel) = (run.clone(), cancel.clone());
                tokio::spawn(async move {
                    let mut call = Call { cancel, ..Call::default() };
                    call.limits.timeout = Duration::from_secs(3600);
                    run.call(b"\x80", call).await
                })
            })
            .collect();
        while sandbox.free_slots() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The last ones to be admitted may still be on their way into the host.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let each = (resident() - before) / u64::from(count);
        println!(
            "{count} guests asleep after {:.1?}: {:.1} KiB of resident memory each (bar: 25 KiB), {} threads",
            started.elapsed(),
            each as f64 / 1024.0,
            threads()
        );
        let stopping = Instant::now();
        cancel.cancel();
        for call in calls {
            call.await.expect("does not panic").result.expect_err("was stopped");
        }
        println!("all stopped after {:.1?}, of which {:?} are their time to notice", stopping.elapsed(), Cancel::GRACE);
    });
}
