//! The store of results: one value per claim, written once, kept for its time.

use omniq_model::{Payload, TaskId, Token};
use omniq_store::{ResultKey, StagedResult};

use crate::kit::{Kit, TICK, WHILE};

fn staged(task: TaskId, fence: u64, bytes: &[u8]) -> StagedResult {
    let key = ResultKey { task, token: Token { fence, nonce: fence * 7 } };
    StagedResult { key, value: Payload::raw(bytes), ttl: WHILE.into() }
}

async fn get(kit: &Kit, key: ResultKey) -> Option<Payload> {
    kit.results().get(&[key]).await.unwrap().pop().unwrap()
}

pub(crate) async fn a_value_is_read_as_it_was_written(kit: &Kit) {
    let task = kit.task().id;
    let mut all =
        vec![staged(task, 1, b"one"), staged(task, 2, b"two"), staged(kit.task().id, 1, b"")];
    all[1].value = Payload::cbor([0x0f]);
    kit.results().put(all.clone()).await.unwrap();
    let nobody = ResultKey { task, token: Token { fence: 9, nonce: 9 } };
    let keys = [all[2].key, nobody, all[0].key, all[1].key];
    let got = kit.results().get(&keys).await.unwrap();
    let value = |index: usize| Some(all[index].value.clone());
    assert_eq!(got, [value(2), None, value(0), value(1)]);
}

pub(crate) async fn the_first_value_of_a_claim_stands(kit: &Kit) {
    let first = staged(kit.task().id, 1, b"first");
    let mut second = first.clone();
    second.value = Payload::raw(*b"second");
    kit.results().put(vec![first.clone()]).await.unwrap();
    kit.results().put(vec![second]).await.unwrap();
    assert_eq!(get(kit, first.key).await, Some(first.value));
}

pub(crate) async fn the_nonce_is_part_of_the_key(kit: &Kit) {
    let mine = staged(kit.task().id, 1, b"mine");
    let mut theirs = mine.clone();
    theirs.key.token.nonce += 1;
    kit.results().put(vec![mine.clone()]).await.unwrap();
    assert_eq!(get(kit, theirs.key).await, None);
    theirs.value = Payload::raw(*b"theirs");
    kit.results().put(vec![theirs.clone()]).await.unwrap();
    assert_eq!(get(kit, mine.key).await, Some(mine.value));
    assert_eq!(get(kit, theirs.key).await, Some(theirs.value));
}

pub(crate) async fn values_go_with_their_task(kit: &Kit) {
    let (gone, kept) = (kit.task().id, kit.task().id);
    let all = vec![staged(gone, 1, b"1"), staged(gone, 2, b"2"), staged(kept, 1, b"3")];
    kit.results().put(all.clone()).await.unwrap();
    kit.results().remove(&[gone, kit.task().id]).await.unwrap();
    let keys: Vec<_> = all.iter().map(|staged| staged.key).collect();
    let got = kit.results().get(&keys).await.unwrap();
    assert_eq!(got, [None, None, Some(all[2].value.clone())]);
}

pub(crate) async fn values_are_kept_for_their_time(kit: &Kit) {
    let short = staged(kit.task().id, 1, b"short");
    let mut long = staged(kit.task().id, 1, b"long");
    long.ttl = (WHILE * 100).into();
    kit.results().put(vec![short.clone(), long.clone()]).await.unwrap();
    kit.advance(WHILE - TICK);
    assert_eq!(kit.results().purge(9).await.unwrap(), 0);
    assert_eq!(get(kit, short.key).await, Some(short.value), "at least so long");
    kit.advance(TICK * 2);
    assert_eq!(kit.results().purge(9).await.unwrap(), 1);
    assert_eq!(get(kit, short.key).await, None);
    assert_eq!(get(kit, long.key).await, Some(long.value));
}

pub(crate) async fn purging_values_is_bounded(kit: &Kit) {
    let all = (1..=5).map(|fence| staged(kit.task().id, fence, b"x")).collect();
    kit.results().put(all).await.unwrap();
    kit.advance(WHILE + TICK);
    for expected in [2, 2, 1, 0] {
        assert_eq!(kit.results().purge(2).await.unwrap(), expected);
    }
}

pub(crate) async fn large_values_are_kept(kit: &Kit) {
    let bytes: Vec<u8> = (0..4 << 20).map(|index: u32| (index % 251) as u8).collect();
    let large = staged(kit.task().id, 1, &bytes);
    kit.results().put(vec![large.clone()]).await.unwrap();
    assert!(get(kit, large.key).await == Some(large.value), "4 MiB come back as they were");
}

pub(crate) async fn values_survive_reopening(kit: &Kit) {
    let staged = staged(kit.task().id, 1, b"kept");
    kit.results().put(vec![staged.clone()]).await.unwrap();
    let kit = kit.reopen().await;
    assert_eq!(get(&kit, staged.key).await, Some(staged.value));
}
