use omniq_model::{Priority, Span, Timestamp};

use super::*;
use crate::Refusal;

#[test]
fn a_task_waits_for_its_time_or_is_ready() {
    let now = Kit::new().now;
    let at = |span: Duration| now + span;
    let check = |delay: Span, run_at: Option<Timestamp>, state: State, until: Option<Timestamp>| {
        let kit = Kit::of(vec![with("t", |task| {
            task.delay = delay;
            task.run_at = run_at;
        })]);
        let head = kit.head("t");
        assert_eq!((head.state, head.run_at), (state, until), "{delay:?} {run_at:?}");
        assert_eq!((head.seq, head.attempt, head.fence, head.created), (1, 0, 0, now));
    };
    let second = Span::from_secs(1);
    check(Span::ZERO, None, State::Ready, None);
    check(Span::ZERO, Some(now), State::Ready, None);
    check(Span::ZERO, Some(Timestamp::from_millis(-5)), State::Ready, None);
    check(second, None, State::Scheduled, Some(at(SECOND)));
    check(Span::ZERO, Some(at(SECOND)), State::Scheduled, Some(at(SECOND)));
    check(second, Some(at(2 * SECOND)), State::Scheduled, Some(at(2 * SECOND)));
    check(Span::from(Duration::MAX), None, State::Scheduled, Some(at(Duration::MAX)));
}

#[test]
fn the_same_task_again_is_a_duplicate_and_another_under_its_id_a_conflict() {
    let mut kit = Kit::of(vec![task("t")]);
    let other = with("t", |task| task.priority = Priority::new(3).unwrap());
    let duplicate = |state| Enqueued::Duplicate { id: id("t"), state };
    assert_eq!(
        kit.enqueue(vec![task("t"), other.clone(), task("u"), task("u")]),
        [
            duplicate(State::Ready),
            Enqueued::Conflict,
            Enqueued::Created,
            Enqueued::Duplicate { id: id("u"), state: State::Ready },
        ]
    );
    let session = kit.session();
    let leases = kit.claim(&session, 1);
    assert_eq!(kit.enqueue(vec![task("t")]), [duplicate(State::Running)]);
    kit.finish(&leases[0], succeeded());
    assert_eq!(
        kit.enqueue(vec![task("t"), other]),
        [duplicate(State::Succeeded), Enqueued::Conflict]
    );
}

#[test]
fn fields_of_a_newer_version_count_when_tasks_are_compared() {
    let odd = |value: f64| {
        with("t", |task| {
            task.unknown.insert(99, value_of(value));
        })
    };
    let mut kit = Kit::of(vec![odd(f64::NAN)]);
    let duplicate = Enqueued::Duplicate { id: id("t"), state: State::Ready };
    assert_eq!(kit.enqueue(vec![odd(f64::NAN), odd(1.0)]), [duplicate, Enqueued::Conflict]);
}

/// A field's value as a newer version may have written it.
fn value_of(number: f64) -> ciborium::Value {
    ciborium::Value::Float(number)
}

#[test]
fn parents_are_known_or_the_task_is_refused() {
    let mut kit = Kit::new();
    let after = |name: &str, parents: &[&str]| with(name, |task| task.after = ids(parents));
    let refused = |parent: &str| Enqueued::Refused(Refusal::UnknownParent(id(parent)));
    assert_eq!(
        kit.enqueue(vec![
            after("early", &["later"]),
            task("later"),
            after("child", &["later", "later"]),
            after("self", &["self"]),
            after("of-refused", &["self"]),
        ]),
        [refused("later"), Enqueued::Created, Enqueued::Created, refused("self"), refused("self")]
    );
    assert_eq!(kit.state("child"), State::Blocked);
    assert!(!kit.exists("early") && !kit.exists("self"));
}

#[test]
fn what_is_refused_takes_no_key_and_no_place() {
    let mut kit = Kit::new();
    let keyed = with("t", |task| {
        task.after = ids(&["nobody"]);
        task.unique = Some(unique::key("k", omniq_model::Scope::UntilFinished));
    });
    kit.enqueue(vec![keyed]);
    let other = with("u", |task| {
        task.unique = Some(unique::key("k", omniq_model::Scope::UntilFinished));
    });
    assert_eq!(kit.enqueue(vec![other]), [Enqueued::Created]);
    assert_eq!(kit.head("u").seq, 1);
}
