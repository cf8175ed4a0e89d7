//! A7. A read sees what was committed before it, in a fixed order, page by page.

use std::time::Duration;

use omniq_model::{Payload, State, TaskId, Timestamp};
use omniq_store::{Filter, Info};

use crate::kit::{Kit, TICK, WHILE, dump_ended, lane, module, name};

async fn ids_of(kit: &Kit, filter: Filter) -> Vec<TaskId> {
    let page = kit.store.list(&filter, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.items.iter().map(|info| info.id).collect()
}

pub(crate) async fn get_answers_in_the_order_of_its_question(kit: &Kit) {
    let (first, second, nobody) =
        (kit.enqueue_plain().await, kit.enqueue_plain().await, kit.task().id);
    let ids = [second, nobody, first, second];
    let got = kit.store.get(&ids).await.unwrap();
    let got: Vec<_> = got.iter().map(|info| info.as_ref().map(|info| info.id)).collect();
    assert_eq!(got, [Some(second), None, Some(first), Some(second)]);
    assert!(kit.store.get(&[]).await.unwrap().is_empty());
}

pub(crate) async fn pages_hold_still_while_tasks_arrive(kit: &Kit) {
    let mut expected = Vec::new();
    for _ in 0..10 {
        expected.insert(0, kit.enqueue_plain().await);
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = kit.store.list(&Filter::default(), before, 3).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|info| info.id));
        kit.enqueue_plain().await; // newer than what was listed: on no later page
        let Some(next) = page.next else { break };
        before = Some(next);
    }
    assert_eq!(seen, expected);
}

pub(crate) async fn a_full_last_page_says_that_it_is_the_last_or_an_empty_one_follows(kit: &Kit) {
    for _ in 0..4 {
        kit.enqueue_plain().await;
    }
    let page = kit.store.list(&Filter::default(), None, 4).await.unwrap();
    assert_eq!(page.items.len(), 4);
    if let Some(next) = page.next {
        let rest = kit.store.list(&Filter::default(), Some(next), 4).await.unwrap();
        assert!(rest.items.is_empty() && rest.next.is_none());
    }
}

pub(crate) async fn each_part_of_a_filter_filters(kit: &Kit) {
    let arrived = kit.now();
    let plain = kit.enqueue_plain().await;
    let tenant = kit.enqueue_with(|task| task.lane = lane("acme", "default")).await;
    let queue = kit.enqueue_with(|task| task.lane = lane("default", "media")).await;
    let code = kit.enqueue_with(|task| task.module = module("resize")).await;
    let function = kit.enqueue_with(|task| task.function = "a:b/c@1.0.0#thumb".into()).await;
    let label = kit
        .enqueue_with(|task| {
            task.labels =
                [("size".into(), "xl".into()), ("kind".into(), "it's %_\"".into())].into();
        })
        .await;
    kit.advance(WHILE);
    let late = kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    let one = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let any = Filter::default;
    for (filter, expected) in [
        (Filter { ids: vec![plain, late], ..any() }, vec![late, plain]),
        (Filter { states: vec![State::Scheduled], ..any() }, vec![late]),
        (Filter { states: vec![State::Running, State::Failed], ..any() }, vec![]),
        (Filter { tenant: Some(name("acme")), ..any() }, vec![tenant]),
        (Filter { queue: Some(name("media")), ..any() }, vec![queue]),
        (Filter { module: Some(name("resize")), ..any() }, vec![code]),
        (Filter { function: Some("a:b/c@1.0.0#thumb".into()), ..any() }, vec![function]),
        (Filter { function: Some("thumb".into()), ..any() }, vec![]),
        (Filter { labels: one(&[("size", "xl")]), ..any() }, vec![label]),
        (Filter { labels: one(&[("size", "xl"), ("kind", "it's %_\"")]), ..any() }, vec![label]),
        (Filter { labels: one(&[("size", "xl"), ("kind", "it's %x\"")]), ..any() }, vec![]),
        (Filter { labels: one(&[("xl", "size")]), ..any() }, vec![]),
        (Filter { created_from: Some(arrived + TICK), ..any() }, vec![late]),
        (Filter { created_from: Some(arrived + WHILE), ..any() }, vec![late]),
        (
            Filter { created_from: Some(arrived), created_to: Some(arrived + WHILE), ..any() },
            vec![label, function, code, queue, tenant, plain],
        ),
        (Filter { created_to: Some(arrived), ..any() }, vec![]),
        (Filter { tenant: Some(name("acme")), queue: Some(name("media")), ..any() }, vec![]),
    ] {
        let counts = kit.store.count(&filter).await.unwrap();
        assert_eq!(counts.values().sum::<u64>(), expected.len() as u64, "count: {filter:?}");
        assert_eq!(ids_of(kit, filter.clone()).await, expected, "{filter:?}");
    }
}

pub(crate) async fn counts_are_by_state(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..6 {
        kit.enqueue_plain().await;
    }
    kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    kit.run_one(&session).await;
    kit.run_one(&session).await;
    kit.fail_one(&session).await;
    kit.claim_one(&session).await;
    let expected = [
        (State::Scheduled, 1),
        (State::Ready, 2),
        (State::Running, 1),
        (State::Succeeded, 2),
        (State::Failed, 1),
    ];
    assert_eq!(kit.counts().await, expected.into());
}

pub(crate) async fn ended_tasks_come_in_the_order_of_their_end(kit: &Kit) {
    let session = kit.session().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(kit.enqueue_plain().await);
    }
    let leases = kit.claim(&session, 3).await;
    let end = |index: usize| kit.finish(&session, &leases[index], crate::kit::success(b"done"));
    end(2).await;
    kit.advance(TICK);
    end(0).await;
    kit.cancel(&[ids[3]]).await; // at the same instant: by id
    kit.advance(TICK);
    end(1).await;
    let mut same = [ids[0], ids[3]];
    same.sort_unstable();
    let expected = [ids[2], same[0], same[1], ids[1]];
    let got = |infos: Vec<Info>| infos.iter().map(|info| info.id).collect::<Vec<_>>();
    assert_eq!(got(dump_ended(&*kit.store).await), expected);
    let start = (kit.now() - Duration::from_millis(2), TaskId::from_bytes([0xff; 16]));
    assert_eq!(got(kit.store.ended(start, 2).await.unwrap()), expected[1..3], "after and at most");
    let last = (kit.now(), ids[1]);
    assert!(kit.store.ended(last, 9).await.unwrap().is_empty());
}

pub(crate) async fn idle_means_that_nothing_is_left(kit: &Kit) {
    assert!(kit.store.is_idle().await.unwrap());
    let session = kit.session().await;
    kit.enqueue_plain().await;
    assert!(!kit.store.is_idle().await.unwrap());
    let lease = kit.claim_one(&session).await;
    assert!(!kit.store.is_idle().await.unwrap());
    kit.finish(&session, &lease, crate::kit::again(WHILE)).await;
    assert!(!kit.store.is_idle().await.unwrap());
    kit.cancel(&[lease.id]).await;
    assert!(kit.store.is_idle().await.unwrap());
}

pub(crate) async fn the_stores_clock_is_the_one_that_counts(kit: &Kit) {
    assert_eq!(kit.store.now().await.unwrap(), kit.now());
    kit.advance(WHILE);
    assert_eq!(kit.store.now().await.unwrap(), kit.now());
    let id = kit.enqueue_plain().await;
    assert_eq!(kit.head(id).await.created, kit.now());
}

pub(crate) async fn another_process_sees_what_was_committed(kit: &Kit) {
    let beside = kit.beside().await;
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    assert_eq!(beside.state(id).await, State::Ready);
    kit.run_one(&session).await;
    assert_eq!(beside.state(id).await, State::Succeeded);
    assert_eq!(format!("{:?}", beside.dump().await), format!("{:?}", kit.dump().await));
}

pub(crate) async fn a_closed_store_says_so(kit: &Kit) {
    kit.enqueue_plain().await;
    let beside = kit.reopen().await; // closes the first
    let error = kit.store.enqueue(vec![kit.task()]).await.unwrap_err();
    assert_eq!(error.kind(), omniq_store::ErrorKind::Closed, "{error}");
    let error = kit.store.get(&[]).await.err();
    assert!(error.is_none_or(|error| error.kind() == omniq_store::ErrorKind::Closed));
    kit.store.close().await.unwrap(); // once more is fine
    assert_eq!(beside.dump().await.len(), 1);
}

pub(crate) async fn large_tasks_are_read_a_few_at_a_time(kit: &Kit) {
    const COUNT: usize = 40;
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        ids.push(kit.enqueue_with(|task| task.args = Payload::raw(vec![7; 1 << 20])).await);
    }
    kit.cancel(&ids).await;
    // About 16 MiB: one that does not fit in any more may come along, and records have bytes of their own.
    let check = |count: usize, all: usize| assert!(count > 0 && all <= COUNT && count <= 18);
    let start = (Timestamp::from_millis(0), TaskId::from_bytes([0; 16]));
    let (mut after, mut ended) = (start, Vec::new());
    loop {
        let page = kit.store.ended(after, 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = (last.head.finished.unwrap(), last.id);
        ended.extend(page.iter().map(|info| info.id));
        check(page.len(), ended.len());
    }
    ended.sort_unstable();
    let (mut after, mut exported) = (None, Vec::new());
    loop {
        let page = kit.admin().export(after, 1000).await.unwrap();
        exported.extend(page.items.iter().map(|copy| copy.info.id));
        check(page.items.len(), exported.len());
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!(exported, ids, "in the order of arrival");
    ids.sort_unstable();
    assert_eq!(ended, ids, "each once");
}
