//! A6. What waits is called off at once; what runs is asked to stop, and its end decides.

use std::sync::Arc;

use omniq_model::{Kind, State};
use omniq_store::{Filter, Outcome, Select, TaskStore as _};

use crate::faulty::Faulty;
use crate::kit::{Kit, LEASE, TICK, WHILE, lane, select, success};

pub(crate) async fn what_waits_is_cancelled_at_once(kit: &Kit) {
    let ready = kit.enqueue_plain().await;
    let scheduled = kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    let blocked = kit.enqueue_with(|task| task.after = vec![scheduled]).await;
    for (id, from) in
        [(blocked, State::Blocked), (ready, State::Ready), (scheduled, State::Scheduled)]
    {
        let outcome = kit.cancel(&[id]).await;
        let moved = &outcome.moved[0];
        assert_eq!((moved.id, moved.from, moved.to), (id, from, State::Cancelled));
        assert_eq!((outcome.requested, outcome.skipped), (vec![], vec![]));
        assert_eq!(kit.end_kind(id).await, Some(Kind::Cancelled));
        assert_eq!(kit.head(id).await.finished, Some(kit.now()));
    }
    kit.advance(WHILE);
    kit.store.promote(9).await.unwrap();
    assert!(kit.claim(&kit.session().await, 9).await.is_empty());
}

pub(crate) async fn what_runs_is_asked_to_stop(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    let outcome = kit.cancel(&[id]).await;
    assert_eq!(outcome, Outcome { requested: vec![id], ..Outcome::default() });
    let head = kit.head(id).await;
    assert_eq!((head.state, head.cancel_requested), (State::Running, true));
    let finished = kit.finish(&session, &lease, crate::kit::called_off()).await;
    assert_eq!(finished, omniq_store::Finished::Applied(State::Cancelled));
}

pub(crate) async fn what_has_ended_is_skipped(kit: &Kit) {
    let session = kit.session().await;
    let (done, failed) = (kit.enqueue_plain().await, kit.enqueue_plain().await);
    kit.run_one(&session).await;
    kit.fail_one(&session).await;
    let before = kit.head(done).await;
    let outcome = kit.cancel(&[done, failed]).await;
    let skipped = vec![(done, State::Succeeded), (failed, State::Failed)];
    assert_eq!(outcome, Outcome { skipped, ..Outcome::default() });
    assert_eq!(kit.head(done).await, before);
    let unknown = kit.cancel(&[kit.task().id]).await;
    assert_eq!(unknown, Outcome::default(), "what does not exist is in no list");
}

pub(crate) async fn calling_off_twice_changes_nothing(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let session = kit.session().await;
    let running = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    let waiting = kit.enqueue_plain().await;
    let both = select(&[running, waiting]);
    faulty.lose_answer("cancel");
    faulty.cancel(&both).await.unwrap_err();
    let again = faulty.cancel(&both).await.unwrap();
    assert_eq!(again.moved, []);
    assert_eq!(again.requested, [running], "it is named again, since its id was asked for");
    assert_eq!(again.skipped, [(waiting, State::Cancelled)]);
}

pub(crate) async fn a_bulk_is_bounded_and_begins_with_the_oldest(kit: &Kit) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(kit.enqueue_plain().await);
    }
    kit.cancel(&[ids[1]]).await;
    let bulk = Select { filter: Filter::default(), max: 2 };
    for expected in [vec![ids[0], ids[2]], vec![ids[3], ids[4]], vec![]] {
        let outcome = kit.store.cancel(&bulk).await.unwrap();
        let moved: Vec<_> = outcome.moved.iter().map(|moved| moved.id).collect();
        assert_eq!(moved, expected, "what has ended does not count");
        assert_eq!(outcome.skipped, []);
    }
}

pub(crate) async fn a_bulk_over_running_tasks_comes_to_an_end(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..3 {
        kit.enqueue_plain().await;
    }
    kit.claim(&session, 3).await;
    let bulk = Select { filter: Filter::default(), max: 2 };
    let mut requested = Vec::new();
    loop {
        let outcome = kit.store.cancel(&bulk).await.unwrap();
        if outcome.requested.is_empty() {
            break;
        }
        requested.extend(outcome.requested);
        assert!(requested.len() <= 3, "each is named once");
    }
    assert_eq!(requested.len(), 3);
}

pub(crate) async fn a_bulk_means_what_its_filter_says(kit: &Kit) {
    let media = kit.enqueue_with(|task| task.lane = lane("acme", "media")).await;
    let mail = kit.enqueue_with(|task| task.lane = lane("acme", "mail")).await;
    let filter = Filter { queue: Some(crate::kit::name("media")), ..Filter::default() };
    let outcome = kit.store.cancel(&Select { filter, max: 100 }).await.unwrap();
    assert_eq!(outcome.moved.len(), 1);
    assert_eq!(outcome.moved[0].lane, lane("acme", "media"));
    assert_eq!(kit.states(&[media, mail]).await, [State::Cancelled, State::Ready]);
}

pub(crate) async fn a_worker_that_dies_does_not_save_what_was_called_off(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    kit.cancel(&[id]).await;
    kit.advance(LEASE + TICK);
    kit.reclaim().await;
    assert_eq!(kit.state(id).await, State::Cancelled);
    assert_eq!(kit.end_kind(id).await, Some(Kind::Cancelled));
}

pub(crate) async fn end_and_cancel_at_once_agree(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..20 {
        let id = kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        let ending = {
            let kit = kit.clone();
            tokio::spawn(async move { kit.finish(&session, &lease, success(b"done")).await })
        };
        let outcome = kit.cancel(&[id]).await;
        let finished = ending.await.unwrap();
        assert_eq!(finished, omniq_store::Finished::Applied(State::Succeeded));
        let told = outcome.requested == [id] || outcome.skipped == [(id, State::Succeeded)];
        assert!(told, "{outcome:?}");
        assert_eq!(kit.state(id).await, State::Succeeded);
    }
}
