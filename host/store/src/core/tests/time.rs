use omniq_model::Span;

use super::*;
use crate::Due;

#[test]
fn tasks_become_ready_when_their_time_comes_a_bounded_number_at_once() {
    let delayed = |name: &str, secs| with(name, |task| task.delay = Span::from_secs(secs));
    let mut kit = Kit::of(vec![delayed("a", 3), delayed("b", 1), delayed("c", 1), delayed("d", 1)]);
    let promote = |kit: &mut Kit, max| kit.call(|core, now| core.promote(now, max));
    assert_eq!(promote(&mut kit, 9), Due { promoted: 0, next: Some(SECOND) });
    kit.advance(SECOND);
    assert_eq!(promote(&mut kit, 0), Due { promoted: 0, next: Some(Duration::ZERO) });
    assert_eq!(promote(&mut kit, 2), Due { promoted: 2, next: Some(Duration::ZERO) });
    assert_eq!(promote(&mut kit, 2), Due { promoted: 1, next: Some(2 * SECOND) });
    kit.advance(9 * SECOND);
    assert_eq!(promote(&mut kit, 2), Due { promoted: 1, next: None });
    assert_eq!(kit.head("a").run_at, None);
    let session = kit.session();
    assert_eq!(claimed(&kit.claim(&session, 9)), ids(&["a", "b", "c", "d"]), "as they arrived");
}

fn crash(kit: &mut Kit) -> Vec<Moved> {
    let session = kit.session();
    kit.claim_one(&session);
    kit.advance(LEASE);
    assert!(kit.call(|core, now| core.reclaim(now, 9)).is_empty(), "its lease is not over");
    kit.advance(Duration::from_millis(1));
    kit.call(|core, now| core.reclaim(now, 9))
}

#[test]
fn a_task_survives_as_many_crashes_as_it_may() {
    let mut kit = Kit::of(vec![with("t", |task| task.retry.crashes = 2)]);
    for crashes in 1..=2 {
        assert_eq!(moves(&crash(&mut kit)), [(id("t"), State::Running, State::Ready)]);
        let head = kit.head("t");
        assert_eq!((head.crashes, head.attempt, head.fence), (crashes, 0, u64::from(crashes)));
    }
    assert_eq!(moves(&crash(&mut kit)), [(id("t"), State::Running, State::Failed)]);
    assert_eq!(kit.kind("t"), Some(Kind::Crashed));
    let error = kit.head("t").error.unwrap();
    assert_eq!(error.message, "its worker died under it 3 times");
    assert_eq!(kit.head("t").crashes, 3);
}

#[test]
fn without_a_budget_the_first_crash_is_the_last() {
    let mut kit = Kit::of(vec![with("t", |task| task.retry.crashes = 0)]);
    crash(&mut kit);
    assert_eq!(kit.state("t"), State::Failed);
    assert_eq!(kit.head("t").error.unwrap().message, "its worker died under it once");
}

#[test]
fn what_was_called_off_is_cancelled_when_its_worker_dies() {
    let mut kit = Kit::of(vec![with("t", |task| task.retry.crashes = 0)]);
    let session = kit.session();
    kit.claim_one(&session);
    kit.call(|core, now| core.cancel(now, &these(&["t"])));
    kit.advance(2 * LEASE);
    let moved = kit.call(|core, now| core.reclaim(now, 9));
    assert_eq!(moves(&moved), [(id("t"), State::Running, State::Cancelled)]);
    assert_eq!(kit.kind("t"), Some(Kind::Cancelled));
}

#[test]
fn reclaim_takes_the_oldest_first_from_all_dead_sessions_and_none_from_living_ones() {
    let mut kit = Kit::of(["a", "b", "c", "d"].map(task).to_vec());
    let sessions = [kit.session(), kit.session(), kit.session()];
    kit.claim(&sessions[0], 1);
    kit.claim(&sessions[1], 1);
    kit.claim(&sessions[0], 1);
    kit.claim(&sessions[2], 1);
    kit.advance(LEASE);
    kit.call(|core, now| core.heartbeat(now, &sessions[2], crate::Held::default()));
    kit.advance(SECOND);
    let mut reclaim = |max| claimed_of(&kit.call(|core, now| core.reclaim(now, max)));
    assert_eq!(reclaim(2), ids(&["a", "b"]));
    assert_eq!(reclaim(2), ids(&["c"]));
    assert!(reclaim(2).is_empty());
}

fn claimed_of(moved: &[Moved]) -> Vec<TaskId> {
    moved.iter().map(|moved| moved.id).collect()
}

#[test]
fn what_has_not_started_in_time_expires() {
    let ttl = |name: &str| with(name, |task| task.ttl = Some(Span::from_secs(5)));
    let delayed = with("delayed", |task| {
        task.ttl = Some(Span::from_secs(6));
        task.delay = Span::from_secs(60);
    });
    let blocked = with("blocked", |task| {
        task.ttl = Some(Span::from_secs(7));
        task.after = ids(&["runs"]);
    });
    let mut kit = Kit::of(vec![ttl("runs"), ttl("ready"), delayed, blocked, task("lasting")]);
    let session = kit.session();
    kit.claim(&session, 1);
    kit.advance(5 * SECOND - Duration::from_millis(1));
    assert!(kit.call(|core, now| core.expire(now, 9)).is_empty());
    kit.advance(3 * SECOND);
    let moved = kit.call(|core, now| core.expire(now, 2));
    assert_eq!(
        moves(&moved),
        [
            (id("ready"), State::Ready, State::Expired),
            (id("delayed"), State::Scheduled, State::Expired),
        ]
    );
    let moved = kit.call(|core, now| core.expire(now, 2));
    assert_eq!(moves(&moved), [(id("blocked"), State::Blocked, State::Expired)]);
    assert_eq!(kit.kind("blocked"), Some(Kind::Expired));
    assert_eq!((kit.state("runs"), kit.state("lasting")), (State::Running, State::Ready));
}

#[test]
fn ended_tasks_are_kept_as_long_as_their_results() {
    let kept = |name: &str, secs| with(name, |task| task.result_ttl = Span::from_secs(secs));
    let mut kit = Kit::of(vec![kept("a", 9), kept("b", 0), kept("c", 5), kept("d", 5)]);
    let session = kit.session();
    for lease in kit.claim(&session, 3) {
        kit.finish(&lease, succeeded());
    }
    let purge = |kit: &mut Kit, max| kit.call(|core, now| core.purge(now, max));
    assert_eq!(purge(&mut kit, 9), 1, "one of no time at all");
    kit.advance(9 * SECOND);
    assert_eq!(purge(&mut kit, 1), 1);
    assert!(kit.exists("a") && !kit.exists("c"));
    assert_eq!(purge(&mut kit, 9), 1);
    assert_eq!(purge(&mut kit, 9), 0);
    assert!(kit.exists("d"), "it has not ended");
    assert_eq!(kit.enqueue(vec![kept("a", 9)]), [Enqueued::Created], "its id is free again");
}
