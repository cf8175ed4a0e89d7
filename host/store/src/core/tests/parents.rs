use omniq_model::{OnParentFailure, Span};

use super::*;

fn after(name: &str, parents: &[&str]) -> Task {
    with(name, |task| task.after = ids(parents))
}

fn after_all_the_same(name: &str, parents: &[&str]) -> Task {
    with(name, |task| {
        task.after = ids(parents);
        task.on_parent_failure = OnParentFailure::Run;
    })
}

/// Claims the oldest ready task and ends it so.
fn end_next(kit: &mut Kit, how: How) {
    let session = kit.session();
    let lease = kit.claim(&session, 1).remove(0);
    kit.finish(&lease, how);
}

#[test]
fn a_child_starts_when_its_last_parent_has_ended() {
    let mut kit = Kit::of(vec![task("a"), task("b"), after("child", &["a", "b", "a"])]);
    end_next(&mut kit, succeeded());
    assert_eq!(kit.state("child"), State::Blocked);
    end_next(&mut kit, succeeded());
    assert_eq!(kit.state("child"), State::Ready);
}

#[test]
fn a_child_still_waits_for_its_own_time() {
    let delayed = with("child", |task| {
        task.after = ids(&["a"]);
        task.delay = Span::from_secs(5);
    });
    let mut kit = Kit::of(vec![task("a"), delayed]);
    let starts = kit.now + 5 * SECOND;
    kit.advance(SECOND);
    end_next(&mut kit, succeeded());
    let head = kit.head("child");
    assert_eq!((head.state, head.run_at), (State::Scheduled, Some(starts)));
}

#[test]
fn a_parent_that_did_not_succeed_cancels_down_the_line_or_is_overlooked() {
    let check = |how: How| {
        let mut kit = Kit::of(vec![
            task("a"),
            task("b"),
            after("child", &["a", "b"]),
            after("grandchild", &["child"]),
            after_all_the_same("hardy", &["a"]),
            after_all_the_same("patient", &["a", "b"]),
            after_all_the_same("after-child", &["child"]),
        ]);
        kit.core.take_changed();
        end_next(&mut kit, how);
        for (name, state) in [
            ("child", State::Cancelled),
            ("grandchild", State::Cancelled),
            ("hardy", State::Ready),
            ("patient", State::Blocked),
            ("after-child", State::Ready),
        ] {
            assert_eq!(kit.state(name), state, "{name}");
        }
        assert_eq!(kit.kind("child"), Some(Kind::ParentFailed));
        let message = kit.head("grandchild").error.unwrap().message;
        assert!(message.contains(&id("child").to_string()), "{message}");
        assert_eq!(kit.core.ended((Timestamp::from_millis(0), id("a")), 9).len(), 3);
    };
    check(failed());
    check(cancelled());
}

#[test]
fn expiry_and_cancel_and_crash_settle_children_too() {
    let check = |end: &dyn Fn(&mut Kit)| {
        let parent = with("a", |task| {
            task.ttl = Some(Span::from_secs(1));
            task.retry.crashes = 0;
        });
        let mut kit = Kit::of(vec![parent, after("child", &["a"])]);
        end(&mut kit);
        assert_eq!(kit.state("child"), State::Cancelled);
        assert_eq!(kit.kind("child"), Some(Kind::ParentFailed));
    };
    check(&|kit| {
        kit.advance(SECOND);
        kit.call(|core, now| core.expire(now, 1));
    });
    check(&|kit| {
        kit.call(|core, now| core.cancel(now, &these(&["a"])));
    });
    check(&|kit| {
        let session = kit.session();
        kit.claim_one(&session);
        kit.advance(2 * LEASE);
        kit.call(|core, now| core.reclaim(now, 1));
    });
}

#[test]
fn an_ended_parent_counts_as_it_ended() {
    let mut kit = Kit::of(vec![task("good"), task("bad")]);
    end_next(&mut kit, succeeded());
    end_next(&mut kit, failed());
    let created = kit.enqueue(vec![
        after("free", &["good"]),
        after("lost", &["good", "bad"]),
        after_all_the_same("hardy", &["bad"]),
        after("of-lost", &["lost"]),
    ]);
    assert_eq!(created, vec![Enqueued::Created; 4]);
    for (name, state) in [
        ("free", State::Ready),
        ("lost", State::Cancelled),
        ("hardy", State::Ready),
        ("of-lost", State::Cancelled),
    ] {
        assert_eq!(kit.state(name), state, "{name}");
    }
}

#[test]
fn a_cancelled_child_leaves_its_parents_alone() {
    let mut kit = Kit::of(vec![task("a"), after("child", &["a"])]);
    kit.call(|core, now| core.cancel(now, &these(&["child"])));
    kit.call(|core, _| core.remove(&these(&["child"])));
    kit.enqueue(vec![task("new-in-its-place")]);
    end_next(&mut kit, failed());
    assert_eq!(kit.state("new-in-its-place"), State::Ready);
}

#[test]
fn a_child_retried_by_hand_waits_for_nobody() {
    let mut kit = Kit::of(vec![task("a"), task("b"), after("child", &["a", "b"])]);
    end_next(&mut kit, failed());
    kit.call(|core, now| core.retry(now, &these(&["child"])));
    assert_eq!(kit.state("child"), State::Ready);
    end_next(&mut kit, failed());
    assert_eq!(kit.state("child"), State::Ready);
}

#[test]
fn a_long_chain_falls_without_recursion() {
    const LENGTH: usize = 20_000;
    let name = |index: usize| format!("link-{index}");
    let mut tasks = vec![task(&name(0))];
    tasks.extend((1..LENGTH).map(|index| after(&name(index), &[&name(index - 1)])));
    let mut kit = Kit::of(tasks);
    end_next(&mut kit, failed());
    assert_eq!(kit.state(&name(LENGTH - 1)), State::Cancelled);
}
