//! How attempts end, and what follows.

use std::time::{Duration, Instant};

use omniq_model::{Format, Head, Payload, Pool, Span, State, Value};
use omniq_store::memory::MemoryResults;
use omniq_store::{ResultKey, ResultStore, SystemClock};

use super::kit::*;
use crate::worker::{Worker, WorkerOptions};

#[tokio::test]
async fn both_pools_give_the_same_results() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let fail = kit.push(component(FAIL, FAIL_TYPE)).await;
    let trap = kit.push(component(TRAP, NUMBER_TYPE)).await;
    let worker = kit.start(options(Pool::Async)).await;
    let mut fuel = Vec::new();
    for pool in [Pool::Async, Pool::Thread] {
        let task = |module, args: &[u8]| {
            let mut task = kit.task(module, args);
            task.pool = Some(pool);
            task.retry.attempts = 1;
            task
        };
        let id = kit.enqueue(task(&add, &[0x82, 5, 10])).await;
        let result = kit.result(id).await;
        assert_eq!(inline(&result), [15]);
        assert_eq!(result.usage.engine, omniq_sandbox::ENGINE_VERSION);
        fuel.push(result.usage.fuel);

        let id = kit.enqueue(task(&fail, &[0x80])).await;
        let result = kit.result(id).await;
        let error = result.error.as_ref().unwrap();
        assert_eq!((kind(&result), &error.value), ("err-result", &Some(Payload::cbor([7]))));

        let id = kit.enqueue(task(&trap, &[0x80])).await;
        let result = kit.result(id).await;
        assert_eq!(kind(&result), "trap");
        assert!(!result.error.unwrap().backtrace.is_empty());
        assert_eq!(kit.info(id).await.head.state, State::Failed);
    }
    assert_eq!(fuel[0], fuel[1]);
    let stats = worker.stop(Duration::from_secs(5)).await;
    assert_eq!((stats.claimed, stats.succeeded, stats.failed), (6, 2, 4));
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_with_a_growing_pause_until_the_budget_is_used_up() {
    let (kit, clock) = Kit::manual();
    let fail = kit.push(component(FAIL, FAIL_TYPE)).await;
    // A seed, so that no roll is so small that there is no pause at all.
    let lease = Duration::from_secs(3600);
    let worker = kit.start(WorkerOptions { lease, seed: Some(1), ..thread() }).await;
    let id = kit.enqueue(kit.task(&fail, &[0x80])).await;
    for (attempt, most) in [(1, 1), (2, 2)] {
        let has_failed = |head: &Head| head.state == State::Scheduled && head.attempt == attempt;
        let info = kit.until(id, |info| has_failed(&info.head)).await;
        assert_eq!(info.head.error.as_ref().unwrap().kind, "err-result");
        let pause = info.head.run_at.unwrap().since(info.head.started.unwrap());
        assert!(pause <= Duration::from_secs(most), "{pause:?} before attempt {}", attempt + 1);
        clock.advance(Duration::from_secs(most));
    }
    let ended = kit.end(id).await;
    assert_eq!(ended.state, State::Failed);
    assert_eq!(kit.info(id).await.head.attempt, 3);
    assert_eq!(worker.stop(Duration::ZERO).await.retried, 2);
}

#[tokio::test]
async fn a_task_beyond_its_time_is_stopped() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let worker = kit.start(thread()).await;
    for pool in [Pool::Async, Pool::Thread] {
        let mut task = kit.task(&spin, &[0x80]);
        task.limits.timeout = Some(Span::from_millis(50));
        task.retry.attempts = 1;
        task.pool = Some(pool);
        let result = kit.result(kit.enqueue(task).await).await;
        assert_eq!(kind(&result), "timeout");
    }
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn an_endless_loop_that_is_called_off_ends_within_a_second() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let worker = kit.start(thread()).await;
    for pool in [Pool::Async, Pool::Thread] {
        let mut best = Duration::MAX;
        // Where others keep the processors busy one try may take longer than the worker needs.
        for _ in 0..3 {
            let mut task = kit.task(&spin, &[0x80]);
            task.pool = Some(pool);
            let id = kit.enqueue(task).await;
            kit.until(id, |info| info.head.state == State::Running).await;
            let asked = Instant::now();
            kit.cancel(id).await;
            assert_eq!(kit.end(id).await.state, State::Cancelled);
            best = best.min(asked.elapsed());
            assert_eq!(kind(&kit.result(id).await), "cancelled");
            if best < Duration::from_secs(1) {
                break;
            }
        }
        assert!(best < Duration::from_secs(1), "{best:?} in {pool}");
    }
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_large_value_is_in_the_result_store_before_its_task_has_ended() {
    let mut kit = Kit::new();
    let results = MemoryResults::new(std::sync::Arc::new(SystemClock::default()));
    kit.stores.results = Some(std::sync::Arc::new(results.clone()));
    kit.stores.inline_max = 100;
    let bytes = kit.push(component(BYTES, BYTES_TYPE)).await;
    let worker = kit.start(thread()).await;
    let small = kit.enqueue(kit.task(&bytes, &[0x81, 10])).await;
    assert_eq!(inline(&kit.result(small).await).len(), 11);
    let large = kit.enqueue(kit.task(&bytes, &[0x81, 0x18, 200])).await;
    let Some(Value::Stored(stored)) = kit.result(large).await.value else { panic!("is stored") };
    assert_eq!(stored.size, 202);
    let key = ResultKey { task: large, token: stored.token };
    let value = results.get(&[key]).await.unwrap().remove(0).unwrap();
    assert_eq!((value.format, value.bytes.len()), (Format::Cbor, 202));
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_program_is_a_task_too() {
    let kit = Kit::new();
    let program = wat::parse_str(
        r#"(component
             (core module $code (func (export "run") (result i32) (i32.const 0)))
             (core instance $code (instantiate $code))
             (func $run (result (result)) (canon lift (core func $code "run")))
             (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#,
    );
    let program = kit.push(program.unwrap()).await;
    let worker = kit.start(thread()).await;
    let mut task = kit.task(&program, &[0xa0]);
    task.function = String::new();
    let result = kit.result(kit.enqueue(task).await).await;
    assert_eq!(inline(&result), b"");
    let mut task = kit.task(&program, &[0xff]);
    task.function = String::new();
    assert_eq!(kind(&kit.result(kit.enqueue(task).await).await), "undecodable");
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_pool_that_is_not_there_is_said_at_once() {
    let kit = Kit::new();
    let options = options(Pool::Process);
    let (ends, sink) = (kit.ends.clone(), kit.sink.clone());
    let refused = Worker::start(kit.stores.clone(), sandbox(), options, ends, sink).await;
    assert!(refused.unwrap_err().to_string().contains("no pool `process`"));
    for threads in [0, 100_000] {
        let options = WorkerOptions { threads, ..thread() };
        let (ends, sink) = (kit.ends.clone(), kit.sink.clone());
        let refused = Worker::start(kit.stores.clone(), sandbox(), options, ends, sink).await;
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, format!("a worker's pool has 1 to 4096 threads, got {threads}"));
    }
    let lease = |lease| WorkerOptions { lease, ..thread() };
    for (options, says) in [
        (WorkerOptions { slots: 0, ..thread() }, "1 to 65536 slots, got 0"),
        (WorkerOptions { batch: 0, ..thread() }, "1 to 1000 tasks in one go, got 0"),
        (WorkerOptions { claim_bytes: 0, ..thread() }, "1 byte of arguments, got 0"),
        (lease(Duration::from_millis(5)), "100 ms to 30 days, got 5ms"),
        (lease(Duration::MAX), "100 ms to 30 days, got 1844674"),
    ] {
        let (ends, sink) = (kit.ends.clone(), kit.sink.clone());
        let refused = Worker::start(kit.stores.clone(), sandbox(), options, ends, sink).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }

    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let worker = kit.start(thread()).await;
    let mut task = kit.task(&add, &[0x82, 1, 2]);
    task.pool = Some(Pool::Green);
    let id = kit.enqueue(task).await;
    let info = kit.until(id, |info| info.head.state == State::Scheduled).await;
    assert_eq!(info.head.attempt, 0);
    assert!(info.head.error.unwrap().message.contains("no pool `green`"));
    worker.stop(Duration::ZERO).await;
}
