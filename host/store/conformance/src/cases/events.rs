//! The store of events: what happened, once each, in the order of time.

use std::time::Duration;

use omniq_model::{EventKind, SessionId, TaskEvent, TaskId, Timestamp};
use omniq_store::EventFilter;

use crate::kit::{Kit, START, TICK, WHILE, error, lane};

fn event(task: TaskId, fence: u64, kind: EventKind, at: Timestamp) -> TaskEvent {
    TaskEvent {
        task,
        fence,
        kind,
        at,
        lane: lane("acme", "media"),
        attempt: 1,
        session: Some(SessionId::new(7)),
        error: Some(Box::new(error("it trapped"))),
        micros: 1500,
        missing: 0,
        what: "resize.thumb".into(),
        began: None,
        unknown: Default::default(),
    }
}

async fn query(kit: &Kit, filter: &EventFilter) -> Vec<TaskEvent> {
    let found = kit.events().query(filter, None, 1000).await.unwrap();
    found.into_iter().map(|(_, event)| event).collect()
}

pub(crate) async fn events_come_back_whole_and_in_the_order_of_time(kit: &Kit) {
    let (first, second) = (kit.task().id, kit.task().id);
    let late = event(first, 1, EventKind::Succeeded, START + WHILE);
    let early = event(second, 0, EventKind::Enqueued, START);
    kit.events().append(vec![late.clone()]).await.unwrap();
    kit.events().append(vec![early.clone()]).await.unwrap();
    assert_eq!(query(kit, &EventFilter::default()).await, [early, late]);
}

pub(crate) async fn the_same_event_is_kept_once(kit: &Kit) {
    let first = event(kit.task().id, 1, EventKind::Started, START);
    let mut again = first.clone();
    (again.at, again.attempt) = (START + TICK, 9);
    kit.events().append(vec![first.clone(), first.clone()]).await.unwrap();
    kit.events().append(vec![again]).await.unwrap();
    assert_eq!(
        query(kit, &EventFilter::default()).await,
        std::slice::from_ref(&first),
        "as it was first"
    );
    let mut next = first.clone();
    next.fence = 2;
    kit.events().append(vec![next.clone()]).await.unwrap();
    assert_eq!(query(kit, &EventFilter::default()).await, [first, next]);
}

pub(crate) async fn events_are_filtered(kit: &Kit) {
    let (mine, theirs) = (kit.task().id, kit.task().id);
    let all = [
        event(mine, 0, EventKind::Enqueued, START),
        event(theirs, 0, EventKind::Enqueued, START + TICK),
        event(mine, 1, EventKind::Started, START + TICK * 2),
        event(mine, 1, EventKind::Failed, START + TICK * 3),
    ];
    kit.events().append(all.to_vec()).await.unwrap();
    let any = EventFilter::default;
    for (filter, expected) in [
        (any(), vec![0, 1, 2, 3]),
        (EventFilter { task: Some(mine), ..any() }, vec![0, 2, 3]),
        (EventFilter { kinds: vec![EventKind::Enqueued], ..any() }, vec![0, 1]),
        (EventFilter { kinds: vec![EventKind::Failed, EventKind::Started], ..any() }, vec![2, 3]),
        (EventFilter { from: Some(START + TICK), ..any() }, vec![1, 2, 3]),
        (EventFilter { to: Some(START + TICK), ..any() }, vec![0]),
        (
            EventFilter {
                task: Some(mine),
                from: Some(START + TICK),
                to: Some(START + TICK * 3),
                ..any()
            },
            vec![2],
        ),
        (EventFilter { task: Some(kit.task().id), ..any() }, vec![]),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|index: usize| all[index].clone()).collect();
        assert_eq!(query(kit, &filter).await, expected, "{filter:?}");
    }
}

pub(crate) async fn events_are_read_page_by_page(kit: &Kit) {
    let all: Vec<_> = (0..10)
        .map(|index| event(kit.task().id, 0, EventKind::Enqueued, START + TICK * (index / 3)))
        .collect();
    kit.events().append(all.clone()).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = kit.events().query(&EventFilter::default(), after, 4).await.unwrap();
        let Some((position, _)) = page.last() else { break };
        assert!(page.len() <= 4);
        after = Some(*position);
        seen.extend(page.into_iter().map(|(_, event)| event));
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.is_sorted_by_key(|event| event.at));
    assert!(all.iter().all(|event| seen.contains(event)));
}

/// What an attempt's worker tells: when it began, and how it ended.
fn attempt(task: TaskId, fence: u64, from: Timestamp, to: Timestamp) -> [TaskEvent; 2] {
    let end = event(task, fence, EventKind::Failed, to);
    [TaskEvent { kind: EventKind::Started, at: from, error: None, micros: 0, ..end.clone() }, end]
}

/// Both told by the end.
fn told_by_its_end([begin, end]: [TaskEvent; 2]) -> TaskEvent {
    TaskEvent { began: Some(begin.at), ..end }
}

/// Some stores keep both in one row.
pub(crate) async fn an_attempt_that_is_told_at_once_is_two_events(kit: &Kit) {
    let (mine, theirs) = (kit.task().id, kit.task().id);
    let [first, last] = attempt(mine, 1, START, START + TICK * 4);
    let [second, third] = attempt(theirs, 1, START + TICK, START + TICK * 2);
    let retried = event(mine, 1, EventKind::Retried, START + TICK * 3);
    let all = [first, second, third, retried, last].to_vec();
    // In any order, in one event or in two, in one call or in two.
    let whole = told_by_its_end([all[0].clone(), all[4].clone()]);
    let mut told = vec![whole.clone()];
    told.extend([1, 3, 2, 1].map(|index: usize| all[index].clone()));
    told.push(whole);
    kit.events().append(told).await.unwrap();
    assert_eq!(query(kit, &EventFilter::default()).await, all);
    kit.events().append(all.clone()).await.unwrap();
    assert_eq!(query(kit, &EventFilter::default()).await, all);
    for most in 1..=4 {
        let (mut seen, mut after) = (Vec::new(), None);
        while let Some((position, _)) = {
            let page = kit.events().query(&EventFilter::default(), after, most).await.unwrap();
            assert!(page.len() <= most);
            seen.extend(page.iter().map(|(_, event)| event.clone()));
            page.into_iter().next_back()
        } {
            after = Some(position);
        }
        assert_eq!(seen, all, "{most} a page");
    }
    let any = EventFilter::default;
    for (filter, expected) in [
        (EventFilter { kinds: vec![EventKind::Started], ..any() }, vec![0, 1]),
        (EventFilter { kinds: vec![EventKind::Failed], ..any() }, vec![2, 4]),
        (EventFilter { task: Some(mine), ..any() }, vec![0, 3, 4]),
        (EventFilter { from: Some(START + TICK), ..any() }, vec![1, 2, 3, 4]),
        (EventFilter { to: Some(START + TICK * 2), ..any() }, vec![0, 1]),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|index: usize| all[index].clone()).collect();
        assert_eq!(query(kit, &filter).await, expected, "{filter:?}");
    }
}

/// Whichever of them came before.
pub(crate) async fn an_attempt_that_is_told_again_is_kept_once(kit: &Kit) {
    let mut all = Vec::new();
    // The beginning, the end, and both told by the end.
    let ways: [(&[usize], &[usize]); 8] = [
        (&[0], &[0, 1]),
        (&[1], &[0, 1]),
        (&[0, 1], &[0, 1]),
        (&[2], &[0, 1]),
        (&[0], &[2]),
        (&[1], &[2]),
        (&[0, 1], &[2]),
        (&[2], &[2, 2]),
    ];
    for (at, (known, told)) in (0..).step_by(10).zip(ways) {
        let from = START + TICK * at;
        let both = attempt(kit.task().id, 1, from, from + TICK);
        let [begin, end] = both.clone();
        let forms = [begin, end, told_by_its_end(both.clone())];
        let of = |which: &[usize]| which.iter().map(|form| forms[*form].clone()).collect();
        kit.events().append(of(known)).await.unwrap();
        kit.events().append(of(told)).await.unwrap();
        all.extend(both);
        assert_eq!(query(kit, &EventFilter::default()).await, all, "once: {known:?}, {told:?}");
        // Each of them once more, alone and as if it were another.
        for mut again in forms {
            again.at = again.at + TICK * 2;
            again.began = again.began.map(|at| at + TICK * 2);
            kit.events().append(vec![again]).await.unwrap();
        }
        assert_eq!(query(kit, &EventFilter::default()).await, all, "as it was first");
    }
}

/// An end that says other things than what it began with: nothing of either is lost.
pub(crate) async fn an_end_may_say_other_things_than_the_beginning(kit: &Kit) {
    let task = kit.task().id;
    let [begin, end] = attempt(task, 1, START, START + TICK);
    let other = TaskEvent { session: None, what: "other".into(), ..end };
    kit.events().append(vec![begin.clone(), other.clone()]).await.unwrap();
    let [late, early] = attempt(task, 2, START + WHILE, START + TICK * 2);
    kit.events().append(vec![told_by_its_end([late.clone(), early.clone()])]).await.unwrap();
    assert_eq!(query(kit, &EventFilter::default()).await, [begin, other, early, late]);
}

/// By days, as below.
pub(crate) async fn the_beginning_of_an_attempt_is_forgotten_before_its_end(kit: &Kit) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let [begin, end] = attempt(kit.task().id, 1, START, START + DAY);
    kit.events().append(vec![told_by_its_end([begin, end.clone()])]).await.unwrap();
    assert_eq!(kit.events().purge(START + DAY, 10).await.unwrap(), 1);
    assert_eq!(query(kit, &EventFilter::default()).await, [end]);
    assert_eq!(kit.events().purge(START + DAY * 2, 10).await.unwrap(), 1);
    let both = attempt(kit.task().id, 1, START, START + TICK);
    kit.events().append(vec![told_by_its_end(both)]).await.unwrap();
    assert_eq!(kit.events().purge(START + DAY, 10).await.unwrap(), 2);
    assert_eq!(query(kit, &EventFilter::default()).await, []);
}

/// By days: some stores forget by the hour or by the day.
pub(crate) async fn old_events_are_forgotten(kit: &Kit) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for index in 0..5 {
        let event = event(kit.task().id, 0, EventKind::Enqueued, START + DAY * index);
        kit.events().append(vec![event]).await.unwrap();
    }
    for expected in [2, 1, 0] {
        assert_eq!(kit.events().purge(START + DAY * 3, 2).await.unwrap(), expected);
    }
    let left = query(kit, &EventFilter::default()).await;
    assert_eq!(
        left.iter().map(|event| event.at).collect::<Vec<_>>(),
        [START + DAY * 3, START + DAY * 4]
    );
}

pub(crate) async fn the_watermark_never_goes_back(kit: &Kit) {
    let events = kit.events();
    let (low, high) = (TaskId::from_bytes([1; 16]), TaskId::from_bytes([2; 16]));
    let first = events.watermark().await.unwrap();
    assert!(first.0 <= START);
    events.set_watermark((START, low)).await.unwrap();
    assert_eq!(events.watermark().await.unwrap(), (START, low));
    events.set_watermark((START, high)).await.unwrap();
    for back in [(START, low), (START - TICK, high), first] {
        events.set_watermark(back).await.unwrap();
        assert_eq!(events.watermark().await.unwrap(), (START, high));
    }
    events.set_watermark((START + TICK, low)).await.unwrap();
    assert_eq!(events.watermark().await.unwrap(), (START + TICK, low));
}

pub(crate) async fn events_survive_reopening(kit: &Kit) {
    let event = event(kit.task().id, 1, EventKind::Succeeded, START);
    kit.events().append(vec![event.clone()]).await.unwrap();
    kit.events().set_watermark((START, event.task)).await.unwrap();
    let kit = kit.reopen().await;
    assert_eq!(query(&kit, &EventFilter::default()).await, std::slice::from_ref(&event));
    assert_eq!(kit.events().watermark().await.unwrap(), (START, event.task));
    kit.events().append(vec![event.clone()]).await.unwrap();
    assert_eq!(query(&kit, &EventFilter::default()).await, [event], "it is known still");
}
