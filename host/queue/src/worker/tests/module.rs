//! Modules that are missing, damaged or no modules.

use std::time::Duration;

use omniq_model::{Module, State, Timestamp};
use omniq_store::ModuleStore;

use super::kit::*;
use crate::worker::WorkerOptions;

#[tokio::test]
async fn a_task_whose_module_is_missing_waits_uncounted_and_runs_once_it_is_there() {
    let (kit, clock) = Kit::manual();
    let options = WorkerOptions { lease: Duration::from_secs(3600), ..thread() };
    let worker = kit.start(options).await;
    let bytes = component(ADD, ADD_TYPE);
    let id = kit.enqueue(kit.task(&reference(&bytes), &[0x82, 5, 10])).await;
    let info = kit.until(id, |info| info.head.state == State::Scheduled).await;
    let error = info.head.error.unwrap();
    assert_eq!((info.head.attempt, &*error.kind), (0, "not-found"));
    assert!(error.message.contains("is not in the module store; push it"), "{}", error.message);
    kit.push(bytes).await;
    // The worker's own patience is by its own clock; the task's is by the store's.
    while kit.info(id).await.head.state != State::Succeeded {
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(kit.info(id).await.head.attempt, 1);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn tasks_of_other_modules_do_not_wait_behind_a_missing_one() {
    let kit = Kit::new();
    let worker = kit.start(thread()).await;
    let missing = reference(&component(TRAP, NUMBER_TYPE));
    for _ in 0..100 {
        kit.enqueue(kit.task(&missing, &[0x80])).await;
    }
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    assert_eq!(inline(&kit.result(id).await), [15]);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_is_no_component_fails_its_tasks_for_good() {
    let kit = Kit::new();
    let worker = kit.start(thread()).await;
    let garbage = kit.push(b"\0asm garbage".to_vec()).await;
    let id = kit.enqueue(kit.task(&garbage, &[0x80])).await;
    assert_eq!(kind(&kit.result(id).await), "invalid-component");
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let mut task = kit.task(&add, &[0x80]);
    task.function = "subtract".into();
    let result = kit.result(kit.enqueue(task).await).await;
    assert_eq!(kind(&result), "not-found");
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn bytes_that_are_not_those_that_were_pushed_are_never_run() {
    let kit = Kit::new();
    let worker = kit.start(thread()).await;
    let reference = reference(&component(ADD, ADD_TYPE));
    let forged = Module {
        name: reference.name.clone(),
        version: reference.version.clone(),
        digest: reference.digest,
        size: 1,
        functions: Vec::new(),
        command: false,
        capabilities: Vec::new(),
        pushed: Timestamp::default(),
        unknown: Default::default(),
    };
    kit.modules.push(forged, component(SPIN, NUMBER_TYPE)).await.unwrap();
    let id = kit.enqueue(kit.task(&reference, &[0x82, 1, 1])).await;
    let info = kit.until(id, |info| info.head.state == State::Scheduled).await;
    assert!(info.head.error.unwrap().message.contains("damaged"));
    worker.stop(Duration::ZERO).await;
}
