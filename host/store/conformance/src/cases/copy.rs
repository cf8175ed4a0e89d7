//! Copying: what was in one store is in the other, and no old lease means anything any more.

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{OnParentFailure, Scope, Span, State, Task, TaskId, Unique};
use omniq_store::memory::MemoryTasks;
use omniq_store::{Enqueued, FENCE_STEP, Finished, Imported, TaskCopy};

use crate::kit::{Kit, LEASE, TICK, WHILE, again, failure, lane, release, select, success};

/// Another store, in memory, with the same clock.
fn other(kit: &Kit) -> Kit {
    kit.with_store(Arc::new(MemoryTasks::new(Arc::new(kit.clock.clone()))))
}

/// All there is in a store, as it is exported, page by page.
async fn exported(kit: &Kit, max: usize) -> Vec<TaskCopy> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = kit.admin().export(after, max).await.unwrap();
        assert!(page.items.len() <= max, "a page is bounded");
        for copy in &page.items {
            let is_mortal = copy.info.task.as_ref().is_ok_and(|task| task.ttl.is_some());
            assert!(is_mortal || copy.expires.is_none(), "what has no time to live never expires");
        }
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// Copies everything; all of it is new there.
async fn copy(from: &Kit, to: &Kit) {
    for answer in to.admin().import(exported(from, 7).await).await.unwrap() {
        assert_eq!(answer, Imported::Created);
    }
}

/// What must be the same on both sides: all but the place in the order, of which the order itself is left.
fn essence(copies: Vec<TaskCopy>) -> Vec<String> {
    let essence = |mut copy: TaskCopy| {
        copy.info.head.seq = 0;
        let expires = copy.expires.filter(|_| !copy.info.head.state.is_terminal());
        let task = copy.info.task.expect("it is readable").encode();
        let (id, lane, head) = (copy.info.id, copy.info.lane, copy.info.head);
        format!("{id} {lane:?} {head:?} {expires:?} {} {task:02x?}", copy.holds_key)
    };
    copies.into_iter().map(essence).collect()
}

async fn check_same(from: &Kit, to: &Kit) {
    let landed = exported(from, 100).await.into_iter().map(TaskCopy::landed).collect();
    assert_eq!(essence(exported(to, 100).await), essence(landed));
    assert_eq!(
        to.counts().await.values().sum::<u64>(),
        from.counts().await.values().sum::<u64>(),
        "the counts follow"
    );
}

fn keyed(kit: &Kit, key: &str, scope: Scope) -> Task {
    kit.task_with(|task| {
        let window = if scope == Scope::Window { Span::from(WHILE) } else { Span::ZERO };
        task.unique = Some(Unique { key: key.into(), scope, window, unknown: Default::default() });
    })
}

/// Fills a store with tasks in every state, and with much that can be said about one.
pub(crate) async fn fill(kit: &Kit) {
    let session = kit.session().await;
    let ends = [success(b"15"), failure(), again(WHILE), release(Duration::ZERO)];
    for how in ends {
        kit.enqueue_with(|task| {
            task.labels.insert("customer".into(), "acme".into());
            task.ttl = Some(Span::from(WHILE));
        })
        .await;
        let lease = kit.claim_one(&session).await;
        kit.advance(TICK);
        kit.finish(&session, &lease, how).await;
    }
    let parent = kit.enqueue_plain().await;
    let running = kit.claim(&session, 2).await; // the one that was released, and this
    assert_eq!(running.last().map(|lease| lease.id), Some(parent));
    for policy in [OnParentFailure::Cancel, OnParentFailure::Run] {
        kit.enqueue_with(|task| {
            task.after = vec![parent, parent];
            task.on_parent_failure = policy;
            task.delay = Span::from(WHILE);
        })
        .await;
    }
    kit.enqueue_with(|task| task.run_at = Some(kit.now() + WHILE)).await;
    let called_off = kit.enqueue_plain().await;
    kit.cancel(&[called_off, parent]).await;
    kit.enqueue_with(|task| task.ttl = Some(Span::from(TICK))).await;
    kit.advance(TICK);
    assert_eq!(kit.store.expire(10).await.unwrap().len(), 1);
    let again = kit.enqueue_with(|task| task.ttl = Some(Span::from(WHILE))).await;
    kit.cancel(&[again]).await;
    kit.advance(TICK);
    kit.retry(&[again]).await;
    let mut urgent = keyed(kit, "a", Scope::UntilFinished);
    urgent.lane = lane("acme", "mail");
    kit.enqueue(urgent).await;
    kit.enqueue(keyed(kit, "b", Scope::UntilStarted)).await;
    kit.enqueue(keyed(kit, "c", Scope::Window)).await;
    let states: Vec<State> = kit.counts().await.into_keys().collect();
    assert_eq!(states.len(), State::ALL.len(), "every state is there: {states:?}");
}

pub(crate) async fn every_state_comes_in_whole(kit: &Kit) {
    let source = other(kit);
    fill(&source).await;
    copy(&source, kit).await;
    check_same(&source, kit).await;
}

pub(crate) async fn every_state_goes_out_whole(kit: &Kit) {
    let target = other(kit);
    fill(kit).await;
    copy(kit, &target).await;
    check_same(kit, &target).await;
}

pub(crate) async fn copying_again_changes_nothing(kit: &Kit) {
    let source = other(kit);
    fill(&source).await;
    copy(&source, kit).await;
    let session = kit.session().await;
    kit.run_one(&session).await;
    let before = essence(exported(kit, 100).await);
    let answers = kit.admin().import(exported(&source, 100).await).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Imported::There), "{answers:?}");
    assert_eq!(essence(exported(kit, 100).await), before);
}

pub(crate) async fn one_batch_takes_an_id_once(kit: &Kit) {
    let source = other(kit);
    source.enqueue_plain().await;
    let one = exported(&source, 1).await;
    let answers = kit.admin().import([one.clone(), one].concat()).await.unwrap();
    assert_eq!(answers, [Imported::Created, Imported::There]);
}

pub(crate) async fn old_leases_are_void(kit: &Kit) {
    let source = other(kit);
    let session = source.session().await;
    let id = source.enqueue_plain().await;
    let old = source.claim_one(&session).await;
    copy(&source, kit).await;
    let late = kit.finish(&session, &old, success(b"late")).await;
    assert_eq!(late, Finished::Stale);
    assert_eq!(kit.state(id).await, State::Ready);
    let new = kit.claim_one(&kit.session().await).await;
    assert_eq!(new.token.fence, old.token.fence + FENCE_STEP + 1);
    assert_eq!(new.attempt, 1, "the attempt that was lost does not count");
    assert_eq!(kit.finish(&session, &old, success(b"late")).await, Finished::Stale);
}

pub(crate) async fn an_end_is_not_told_as_applied_before(kit: &Kit) {
    let source = other(kit);
    let session = source.session().await;
    source.enqueue_plain().await;
    let lease = source.claim_one(&session).await;
    source.finish(&session, &lease, success(b"done")).await;
    copy(&source, kit).await;
    // Whose end it was is not known here: what it led to is.
    assert_eq!(kit.finish(&session, &lease, failure()).await, Finished::Stale);
    assert_eq!(kit.state(lease.id).await, State::Succeeded);
}

pub(crate) async fn the_order_of_claims_is_kept(kit: &Kit) {
    let source = other(kit);
    let mut expected = Vec::new();
    for priority in [0, 5, 0, -3, 5] {
        let id = source
            .enqueue_with(|task| task.priority = omniq_model::Priority::new(priority).unwrap())
            .await;
        expected.push((-priority, expected.len(), id));
    }
    expected.sort_unstable();
    copy(&source, kit).await;
    let ids: Vec<TaskId> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(kit.claim_ids(&kit.session().await, 10).await, ids);
}

pub(crate) async fn what_waits_goes_on_waiting(kit: &Kit) {
    let source = other(kit);
    let parent = source.enqueue_plain().await;
    let child = source.enqueue_with(|task| task.after = vec![parent]).await;
    let later = source.enqueue_with(|task| task.delay = Span::from(WHILE)).await;
    let short = source.enqueue_with(|task| task.ttl = Some(Span::from(WHILE))).await;
    copy(&source, kit).await;
    assert_eq!(
        kit.states(&[parent, child, later, short]).await,
        [State::Ready, State::Blocked, State::Scheduled, State::Ready]
    );
    assert_eq!(kit.store.promote(10).await.unwrap().next, Some(WHILE));
    let session = kit.session().await;
    assert_eq!(kit.run_one(&session).await, parent);
    assert_eq!(kit.state(child).await, State::Ready);
    kit.advance(WHILE);
    assert_eq!(kit.store.promote(10).await.unwrap().promoted, 1);
    let expired = kit.store.expire(10).await.unwrap();
    assert_eq!(expired.iter().map(|moved| moved.id).collect::<Vec<_>>(), [short]);
    assert_eq!(kit.state(later).await, State::Ready);
}

pub(crate) async fn a_child_whose_parents_are_not_there_is_let_go(kit: &Kit) {
    let source = other(kit);
    let parent = source.enqueue_plain().await;
    let child = source.enqueue_with(|task| task.after = vec![parent]).await;
    let copies = exported(&source, 10).await;
    let of_child = copies.into_iter().filter(|copy| copy.info.id == child).collect();
    assert_eq!(kit.admin().import(of_child).await.unwrap(), [Imported::Created]);
    assert_eq!(kit.state(child).await, State::Ready);
}

pub(crate) async fn keys_come_along(kit: &Kit) {
    let source = other(kit);
    let session = source.session().await;
    let held = source.enqueue(keyed(kit, "held", Scope::UntilFinished)).await;
    let started = source.enqueue(keyed(kit, "started", Scope::UntilStarted)).await;
    let leases = source.claim(&session, 2).await;
    for lease in &leases {
        source.finish(&session, lease, release(Duration::ZERO)).await;
    }
    let waits = source.enqueue(keyed(kit, "waits", Scope::UntilStarted)).await;
    let window = source.enqueue(keyed(kit, "window", Scope::Window)).await;
    source.cancel(&[window]).await;
    copy(&source, kit).await;
    let offers = [
        ("held", Some((held, State::Ready))),
        ("started", None),
        ("waits", Some((waits, State::Ready))),
        ("window", Some((window, State::Cancelled))),
    ];
    for (key, holder) in offers {
        let answer = kit.offer(keyed(kit, key, Scope::UntilFinished)).await;
        let expected =
            holder.map_or(Enqueued::Created, |(id, state)| Enqueued::Duplicate { id, state });
        assert_eq!(answer, expected, "{key}");
    }
    assert_eq!(kit.state(started).await, State::Ready);
    kit.advance(WHILE);
    assert_eq!(kit.offer(keyed(kit, "window", Scope::UntilFinished)).await, Enqueued::Created);
}

pub(crate) async fn a_key_that_is_taken_keeps_its_task_out(kit: &Kit) {
    let source = other(kit);
    let task = source.enqueue(keyed(kit, "k", Scope::UntilFinished)).await;
    let holder = kit.enqueue(keyed(kit, "k", Scope::UntilFinished)).await;
    let answers = kit.admin().import(exported(&source, 10).await).await.unwrap();
    assert_eq!(answers, [Imported::KeyTaken(holder)]);
    assert!(kit.find(task).await.is_none());
    let session = kit.session().await;
    assert_eq!(kit.run_one(&session).await, holder);
    copy(&source, kit).await;
    assert_eq!(kit.state(task).await, State::Ready);
}

pub(crate) async fn history_is_forgotten_at_its_time(kit: &Kit) {
    let source = other(kit);
    let id = source.enqueue_with(|task| task.result_ttl = Span::from(WHILE)).await;
    source.cancel(&[id]).await;
    kit.advance(WHILE - TICK);
    copy(&source, kit).await;
    assert_eq!(kit.store.purge(10).await.unwrap(), 0);
    kit.advance(TICK);
    assert_eq!(kit.store.purge(10).await.unwrap(), 1);
}

pub(crate) async fn what_failed_before_the_copy_can_be_tried_again(kit: &Kit) {
    let source = other(kit);
    let session = source.session().await;
    let id = source.enqueue_plain().await;
    source.fail_one(&session).await;
    copy(&source, kit).await;
    let again = kit.store.retry(&select(&[id])).await.unwrap();
    assert_eq!(again.moved.len(), 1);
    let lease = kit.claim_one(&kit.session().await).await;
    assert_eq!((lease.id, lease.attempt, lease.token.fence), (id, 1, 2));
}

pub(crate) async fn a_walk_gives_each_task_once_whatever_happens(kit: &Kit) {
    let session = kit.session().await;
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(kit.enqueue_plain().await);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = kit.admin().export(after, 2).await.unwrap();
        seen.extend(page.items.iter().map(|copy| copy.info.id));
        // Tasks end, go back and come again behind and before the walk.
        let leases = kit.claim(&session, 3).await;
        for (lease, how) in leases.iter().zip([success(b"1"), failure(), again(TICK)]) {
            kit.finish(&session, lease, how).await;
        }
        kit.store.retry(&select(&ids)).await.unwrap();
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!(seen, ids);
}

pub(crate) async fn a_large_batch_goes_over(kit: &Kit) {
    const COUNT: usize = 1000;
    let source = other(kit);
    let tasks: Vec<Task> = (0..COUNT).map(|_| source.task()).collect();
    source.store.enqueue(tasks).await.unwrap();
    for page in exported(&source, 250).await.chunks(500) {
        let answers = kit.admin().import(page.to_vec()).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Imported::Created));
    }
    check_same(&source, kit).await;
}

pub(crate) async fn what_was_copied_survives_reopening(kit: &Kit) {
    let source = other(kit);
    fill(&source).await;
    copy(&source, kit).await;
    let kit = kit.reopen().await;
    check_same(&source, &kit).await;
}

pub(crate) async fn it_says_what_it_is(kit: &Kit) {
    let report = kit.admin().check().await.unwrap();
    assert!(!report.version.is_empty());
    let durable = kit.store.caps().durable;
    assert_eq!(report.durability != omniq_store::Durability::None, durable);
    assert!(durable || !report.weaker.is_empty(), "what is weaker than disk is told");
    if let Some(layout) = report.layout {
        assert!(layout.oldest <= layout.schema && layout.schema <= layout.newest, "{layout:?}");
        assert!(layout.min_writer <= layout.newest && !layout.incarnation.is_empty());
        let finished = kit.admin().finish_migration().await.unwrap();
        assert_eq!((finished.schema, finished.min_writer), (layout.schema, layout.schema));
        assert_eq!(finished.incarnation, layout.incarnation, "it is the same store");
    }
}

pub(crate) async fn it_says_how_much_there_is(kit: &Kit) {
    let empty = kit.admin().stats().await.unwrap();
    assert!(empty.counts.is_empty() && empty.workers.is_empty() && empty.paused.is_empty());
    assert_eq!((empty.oldest_ready, empty.history), (None, None));
    let session = kit.session().await;
    kit.enqueue_plain().await;
    kit.advance(TICK);
    let first = kit.now();
    kit.run_one(&session).await;
    kit.advance(TICK);
    kit.enqueue_plain().await;
    kit.run_one(&session).await;
    let last = kit.now();
    kit.enqueue_plain().await;
    let held = kit.claim_one(&session).await;
    kit.advance(TICK);
    let oldest = kit.now();
    kit.enqueue_plain().await;
    kit.advance(TICK);
    kit.enqueue_plain().await;
    kit.store.pause(&lane("acme", "mail"), true).await.unwrap();
    let stats = kit.admin().stats().await.unwrap();
    assert_eq!(stats.counts, kit.counts().await);
    assert_eq!((stats.oldest_ready, stats.history), (Some(oldest), Some((first, last))));
    assert_eq!(stats.paused, [lane("acme", "mail")]);
    let workers: Vec<_> = stats.workers.iter().map(|seen| (seen.session, seen.holds)).collect();
    assert_eq!(workers, [(session.id, 1)]);
    assert!(stats.workers[0].until > kit.now());
    kit.finish(&session, &held, success(b"1")).await;
    kit.advance(LEASE + TICK);
    assert_eq!(kit.admin().stats().await.unwrap().workers, [], "the dead are not told");
}
