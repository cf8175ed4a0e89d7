use omniq_model::{Scope, Span, Unique};

use super::*;

pub(super) fn key(key: &str, scope: Scope) -> Unique {
    Unique { key: key.to_owned(), scope, window: Span::from_secs(60), unknown: Default::default() }
}

fn keyed(name: &str, scope: Scope) -> Task {
    with(name, |task| task.unique = Some(key("k", scope)))
}

fn is_taken(kit: &mut Kit, by: &str) -> bool {
    // A probe that leaves nothing behind: it is refused for its parent when the key is free.
    let probe = with("probe", |task| {
        task.unique = Some(key("k", Scope::UntilFinished));
        task.after = ids(&["nobody"]);
    });
    match kit.enqueue(vec![probe]).remove(0) {
        Enqueued::Duplicate { id: holder, state } => {
            assert_eq!((holder, state), (id(by), kit.state(by)));
            true
        }
        Enqueued::Refused(_) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_taken_for_as_long_as_its_scope_says() {
    let check = |scope: Scope, running: bool, again: bool, ended: bool| {
        let mut kit = Kit::of(vec![keyed("t", scope)]);
        assert!(is_taken(&mut kit, "t"));
        let session = kit.session();
        let lease = kit.claim_one(&session);
        assert_eq!(is_taken(&mut kit, "t"), running, "{scope} running");
        kit.finish(&lease, retry(Duration::ZERO));
        assert_eq!(is_taken(&mut kit, "t"), again, "{scope} ready again");
        let lease = kit.claim_one(&session);
        kit.finish(&lease, failed());
        assert_eq!(is_taken(&mut kit, "t"), ended, "{scope} ended");
    };
    check(Scope::UntilStarted, false, false, false);
    check(Scope::UntilFinished, true, true, false);
    check(Scope::Window, true, true, true);
    check(Scope::Other(9), true, true, false);
}

#[test]
fn a_window_counts_from_the_enqueue_however_the_task_fares() {
    let mut kit = Kit::of(vec![keyed("t", Scope::Window)]);
    let session = kit.session();
    let lease = kit.claim_one(&session);
    kit.advance(59 * SECOND);
    assert!(is_taken(&mut kit, "t"));
    kit.advance(SECOND);
    assert!(!is_taken(&mut kit, "t"));
    kit.enqueue(vec![keyed("next", Scope::Window)]);
    kit.finish(&lease, succeeded());
    assert!(is_taken(&mut kit, "next"), "the end of the first frees nothing of the second");
}

#[test]
fn a_window_ends_with_the_record_at_the_latest() {
    let brief = with("t", |task| {
        task.unique = Some(key("k", Scope::Window));
        task.result_ttl = Span::ZERO;
    });
    let mut kit = Kit::of(vec![brief]);
    let session = kit.session();
    let lease = kit.claim_one(&session);
    kit.finish(&lease, succeeded());
    assert!(is_taken(&mut kit, "t"));
    kit.call(|core, now| core.purge(now, 1));
    assert!(!is_taken(&mut kit, "t"));
}

#[test]
fn the_same_task_again_is_itself_before_its_key_is_asked_for() {
    let mut kit = Kit::of(vec![keyed("t", Scope::UntilFinished)]);
    let changed = with("t", |task| task.function = "g".into());
    let answers = kit.enqueue(vec![keyed("t", Scope::UntilFinished), changed]);
    assert_eq!(
        answers,
        [Enqueued::Duplicate { id: id("t"), state: State::Ready }, Enqueued::Conflict]
    );
}

#[test]
fn keys_of_one_batch_and_of_other_tenants() {
    let mut kit = Kit::new();
    let elsewhere = with("c", |task| {
        task.unique = Some(key("k", Scope::UntilFinished));
        task.lane.tenant = "acme".parse().unwrap();
    });
    let elsewhere_in_queue = with("d", |task| {
        task.unique = Some(key("k", Scope::UntilFinished));
        task.lane.queue = "other".parse().unwrap();
    });
    let tasks = vec![
        keyed("a", Scope::UntilFinished),
        keyed("b", Scope::UntilFinished),
        elsewhere,
        elsewhere_in_queue,
    ];
    let taken = Enqueued::Duplicate { id: id("a"), state: State::Ready };
    assert_eq!(kit.enqueue(tasks), [Enqueued::Created, taken.clone(), Enqueued::Created, taken]);
    assert!(!kit.exists("b"));
}

#[test]
fn a_retry_by_hand_takes_the_key_again_or_is_skipped() {
    let mut kit = Kit::of(vec![keyed("a", Scope::UntilFinished)]);
    kit.call(|core, now| core.cancel(now, &these(&["a"])));
    kit.enqueue(vec![keyed("b", Scope::UntilFinished)]);
    let outcome = kit.call(|core, now| core.retry(now, &these(&["a"])));
    assert_eq!(outcome.skipped, [(id("a"), State::Cancelled)]);
    kit.call(|core, now| core.cancel(now, &these(&["b"])));
    let outcome = kit.call(|core, now| core.retry(now, &these(&["a", "b"])));
    assert_eq!(outcome.moved.len(), 1);
    assert_eq!(outcome.skipped, [(id("b"), State::Cancelled)]);
    assert!(is_taken(&mut kit, "a"));
}
