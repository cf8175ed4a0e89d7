//! Large tasks and many tasks: no commit of a store is without a bound, so that others have their turn in between.

use std::path::Path;

use omniq::{Filter, NewTask, Queue};

use crate::kit::MATH;

/// A component that takes bytes.
const TAKE: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "take") (param i32 i32)))
    (core instance $i (instantiate $m))
    (func (export "take") (param "bytes" (list u8)) (canon lift (core func $i "take")
        (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;

/// How many commits are in the log of a file: pages that name its size after them (sqlite.org/fileformat2.html, 4.1).
fn commits(file: &Path) -> usize {
    let log = std::fs::read(file.with_extension("db-wal")).expect("the log is there");
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes"));
    let frame = 24 + number(8) as usize;
    (32..log.len()).step_by(frame).filter(|at| number(at + 4) != 0).count()
}

#[tokio::test]
async fn large_tasks_are_handed_over_a_few_at_a_time() {
    const SIZE: u32 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("omniq.db");
    let queue = Queue::connect(format!("sqlite:{}", file.display())).await.unwrap();
    queue.push("take", TAKE).await.unwrap();
    let mut args = [&[0x81, 0x5a], &SIZE.to_be_bytes()[..]].concat();
    args.resize(args.len() + SIZE as usize, 7);
    let before = commits(&file);
    let tasks = (0..12).map(|_| NewTask::new("take", "take").args_cbor(args.clone()));
    let outcomes = queue.enqueue_many(tasks).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let commits = commits(&file) - before;
    assert_eq!(commits, 2, "after 8 MiB the next call begins");
}

#[tokio::test]
async fn many_tasks_are_forgotten_a_few_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("omniq.db");
    let queue = Queue::connect(format!("sqlite:{}", file.display())).await.unwrap();
    queue.push("math", MATH).await.unwrap();
    let outcomes =
        queue.enqueue_many((0..500).map(|number| NewTask::new("math", "add").args((number, 1))));
    let ids: Vec<_> = outcomes.await.into_iter().map(|outcome| outcome.unwrap().id()).collect();
    queue.cancel(&Filter::default()).await.unwrap();
    let named = Filter { ids: ids[..250].to_vec(), ..Filter::default() };
    for filter in [named, Filter::default()] {
        let before = commits(&file);
        assert_eq!(queue.remove(&filter).await.unwrap().changed.len(), 250);
        let commits = commits(&file) - before;
        assert!(commits >= 2, "250 tasks were forgotten in {commits} commits");
    }
    assert!(queue.count(&Filter::default()).await.unwrap().is_empty());
}
