//! What holds for a store at any time, whatever was done to it. Runs after every case and every random run.

use std::collections::BTreeMap;

use omniq_model::State;
use omniq_store::{Counts, Filter, Info, TaskStore};

use crate::kit::{dump, dump_ended};

/// Reads the whole store and holds its answers against each other.
///
/// # Panics
/// When they do not fit together; the message names the task.
pub async fn audit(store: &dyn TaskStore) {
    let all = dump(store).await;
    assert!(
        all.windows(2).all(|pair| pair[0].head.seq > pair[1].head.seq),
        "a list is in the order of arrival, the newest first, and no place is given twice"
    );
    for info in &all {
        audit_task(info);
    }
    audit_gets(store, &all).await;
    audit_counts(store, &all).await;
    audit_ended(store, &all).await;
    audit_lanes(store, &all).await;
}

fn audit_task(info: &Info) {
    let Info { id, head, .. } = info;
    let holds = |law: bool, what: &str| assert!(law, "task {id}: {what}: {head:?}");
    let ended = head.state.is_terminal();
    holds(
        (head.state == State::Running) == head.lease.is_some(),
        "what runs is leased, and only that",
    );
    holds(
        head.lease.is_none_or(|(_, token)| token.fence == head.fence),
        "a lease carries the latest fence",
    );
    holds(ended == head.finished.is_some(), "what has ended has a time of its end, and only that");
    holds(ended == head.result.is_some(), "what has ended has a result, and only that");
    holds(
        (head.state == State::Scheduled) == head.run_at.is_some(),
        "what waits for a time says until when, and only that",
    );
    holds(
        (head.fence > 0) == head.started.is_some(),
        "what was claimed has started, and only that",
    );
    holds(u64::from(head.attempt) <= head.fence, "each attempt had a claim");
    holds(u64::from(head.crashes) <= head.fence, "each crash had a claim");
    holds(head.state != State::Running || head.attempt > 0, "what runs is counted as an attempt");
    let error = head.result.as_ref().and_then(|result| result.error.as_ref());
    holds(!ended || head.error.as_ref() == error, "at the end the error is the result's");
    let value = head.result.as_ref().is_some_and(|result| result.value.is_some());
    holds((head.state == State::Succeeded) == value, "what succeeded has a value, and only that");
    holds(head.finished.is_none_or(|at| at >= head.created), "nothing ends before it arrives");
}

async fn audit_gets(store: &dyn TaskStore, all: &[Info]) {
    for chunk in all.chunks(500) {
        let ids: Vec<_> = chunk.iter().map(|info| info.id).collect();
        let got = store.get(&ids).await.unwrap();
        assert_eq!(got.len(), ids.len());
        for (listed, got) in chunk.iter().zip(got) {
            let got = got.unwrap_or_else(|| panic!("task {} is listed but not there", listed.id));
            assert_eq!(format!("{listed:?}"), format!("{got:?}"), "list and get say the same");
        }
    }
}

async fn audit_counts(store: &dyn TaskStore, all: &[Info]) {
    let mut expected = Counts::new();
    for info in all {
        *expected.entry(info.head.state).or_default() += 1;
    }
    let counted = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counted, expected, "the counts are those of the list");
    let live = all.iter().any(|info| !info.head.state.is_terminal());
    assert_eq!(store.is_idle().await.unwrap(), !live, "idle means that nothing is left to do");
}

async fn audit_ended(store: &dyn TaskStore, all: &[Info]) {
    let mut expected: Vec<_> =
        all.iter().filter_map(|info| info.head.finished.map(|at| (at, info.id))).collect();
    expected.sort_unstable();
    let ended = dump_ended(store).await;
    let got: Vec<_> = ended.iter().map(|info| (info.head.finished.unwrap(), info.id)).collect();
    assert_eq!(got, expected, "the ended tasks come in the order of their end");
}

async fn audit_lanes(store: &dyn TaskStore, all: &[Info]) {
    let mut ready = BTreeMap::new();
    for info in all.iter().filter(|info| info.head.state == State::Ready) {
        *ready.entry(info.lane.clone()).or_insert(0) += 1;
    }
    let lanes = store.ready_lanes(None, 10_000).await.unwrap();
    assert!(lanes.is_sorted_by(|a, b| a < b), "lanes come by name, each once: {lanes:?}");
    for lane in lanes {
        assert!(ready.contains_key(&lane), "{lane:?} has no ready task");
    }
}
