//! Which lanes are claimed from when there are very many of others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use omniq_model::{Lane, State, Task};
use omniq_store::TaskStore;

use super::kit::*;
use crate::worker::WorkerOptions;

/// Enqueues a task of its own lane for each.
async fn enqueue_in(kit: &Kit, task: &Task, lanes: impl Iterator<Item = Lane>) {
    let tasks = lanes.map(|lane| Task { lane, ..kit.task(&task.module, &task.args.bytes) });
    kit.tasks.enqueue(tasks.collect()).await.unwrap();
}

fn lane(tenant: &str, queue: &str) -> Lane {
    Lane { tenant: tenant.parse().unwrap(), queue: queue.parse().unwrap() }
}

async fn runs_soon(others: impl Iterator<Item = Lane>, own: Lane, most_looks: u32) {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let mut task = kit.task(&add, &[0x82, 5, 10]);
    enqueue_in(&kit, &task, others).await;
    task.lane = own;
    let queues = vec![task.lane.queue.clone()];
    let id = kit.enqueue(task).await;
    let worker = kit.start(WorkerOptions { queues, keeper: false, ..thread() }).await;
    let ended = tokio::time::timeout(Duration::from_secs(4), kit.end(id)).await;
    let looks = kit.tasks.looks.load(Ordering::Acquire);
    assert_eq!(ended.expect("it is found before the store is asked anew").state, State::Succeeded);
    assert!(looks <= most_looks, "{looks} looks");
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn very_many_queues_of_a_tenant_are_passed_by_a_few_looks() {
    let others = || (0..5000).map(|number| lane("default", &format!("mail-{number}")));
    runs_soon(others(), lane("default", "media"), 10).await;
    runs_soon(others(), lane("default", "a"), 10).await;
    runs_soon(others(), lane("other", "mail"), 10).await;
}

#[tokio::test]
async fn lanes_of_very_many_tenants_are_looked_through_to_the_end() {
    let others = (0..5000).map(|number| lane(&format!("tenant-{number}"), "mail"));
    runs_soon(others, lane("zoo", "media"), 300).await;
}
