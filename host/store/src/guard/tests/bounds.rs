//! Where each rule of the breaker begins and ends.

use super::*;

/// So many answers and failures in turn, a failure last.
async fn mixed(kit: &Kit, pairs: usize) {
    for _ in 0..pairs {
        kit.mood(Mood::Well);
        kit.get().await.unwrap();
        kit.mood(Mood::Refuses);
        kit.get().await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn half_of_many_is_enough_and_less_is_not() {
    let kit = Kit::new(whole());
    mixed(&kit, 9).await;
    assert_eq!(kit.state().condition, Condition::Closed, "18 are not many");
    mixed(&kit, 1).await;
    assert_eq!(kit.state().condition, Condition::Open, "ten of twenty");

    let kit = Kit::new(whole());
    kit.get().await.unwrap();
    mixed(&kit, 12).await;
    assert_eq!(kit.state().condition, Condition::Closed, "twelve of 25 are not half");
}

#[tokio::test(start_paused = true)]
async fn once_it_answers_again_all_is_forgotten() {
    let kit = Kit::new(whole());
    mixed(&kit, 10).await;
    assert_eq!(kit.state().condition, Condition::Open);
    // Two probes fail, the next one is answered.
    for pause in [200, 400] {
        advance(Duration::from_millis(pause)).await;
        kit.get().await.unwrap_err();
    }
    kit.mood(Mood::Well);
    advance(Duration::from_millis(800)).await;
    kit.get().await.unwrap();
    assert_eq!(kit.state().condition, Condition::Closed);

    advance(Duration::from_secs(1)).await;
    kit.mood(Mood::Refuses);
    for _ in 0..4 {
        kit.get().await.unwrap_err();
        assert_eq!(kit.state().condition, Condition::Closed, "neither a run nor half of many");
    }
    kit.get().await.unwrap_err();
    let Err(Error::Resting { since, retry_after, .. }) = kit.get().await else {
        panic!("five in a row are too much");
    };
    assert_eq!(since, Duration::ZERO, "it counts from the first failure of this outage");
    assert_eq!(retry_after.as_millis(), 200, "the first pause again");
}

#[tokio::test(start_paused = true)]
async fn while_a_probe_is_under_way_others_are_told_to_come_back_in_a_moment() {
    let kit = Kit::new(whole());
    kit.open().await;
    advance(Duration::from_millis(200)).await;
    kit.mood(Mood::Hangs);
    let probe = tokio::spawn({
        let kit = kit.clone();
        async move { kit.get().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(kit.state().condition, Condition::HalfOpen);
    let error = kit.get().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(50)), "never at once");
    probe.abort();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_or_is_given_up_after_long_has_failed() {
    for patience in [Duration::from_secs(3600), Duration::from_secs(5)] {
        let kit = Kit::new(whole());
        kit.open().await;
        advance(Duration::from_millis(200)).await;
        kit.mood(Mood::Hangs);
        let _ = tokio::time::timeout(patience, kit.get()).await;
        let state = kit.state();
        let pause = Some(Duration::from_millis(400));
        assert_eq!((state.condition, state.retry_after), (Condition::Open, pause), "{patience:?}");
    }
}

/// A patient call beside a probe whose caller goes away after so long: how long it took, and how it went.
async fn beside_a_probe(policy: Policy, away_after: Duration) -> (Duration, Result<()>) {
    let kit = Kit::new(policy);
    kit.open().await;
    advance(policy.first_pause).await;
    kit.mood(Mood::Hangs);
    let [probe, waiting] = [true, false].map(|is_probe| {
        let kit = kit.clone();
        tokio::spawn(async move { if is_probe { kit.get().await } else { kit.put().await } })
    });
    let began = Instant::now();
    sleep(away_after).await;
    assert!(!waiting.is_finished());
    kit.mood(Mood::Well);
    probe.abort();
    let answer = waiting.await.unwrap();
    (began.elapsed(), answer)
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_at_once_what_became_of_the_probe() {
    let millis = Duration::from_millis;
    // It was given up: another takes its place.
    let (took, answer) = beside_a_probe(whole(), millis(10)).await;
    answer.unwrap();
    assert_eq!(took, millis(10));
    // It has failed, and the next is due after the time of a call: there is nothing to wait for.
    let (timeout, first_pause) = (Duration::from_secs(3), Duration::from_secs(2));
    let policy = Policy { timeout, first_pause, ..whole() };
    let (took, answer) = beside_a_probe(policy, millis(800)).await;
    assert!(matches!(answer, Err(Error::Resting { .. })), "{answer:?}");
    assert_eq!(took, millis(800));
}

#[tokio::test(start_paused = true)]
async fn a_call_over_many_tasks_has_six_times_as_long_and_no_longer() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Hangs);
    let began = Instant::now();
    assert_eq!(kind(kit.store.purge(10).await), ErrorKind::Unavailable);
    assert_eq!(began.elapsed().as_secs(), 90);
}

#[test]
fn chance_shortens_a_pause_and_nothing_lengthens_it() {
    let policy = whole();
    for (rounds, roll, expected) in
        [(0, 1.0, 200), (0, 0.5, 100), (0, 0.0, 0), (3, 0.25, 400), (9, 1.0, 5000), (0, 7.0, 200)]
    {
        assert_eq!(policy.pause(rounds, roll).as_millis(), expected, "{rounds} {roll}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_drawn_by_chance() {
    let kit = Kit::new(Policy { roll: || 0.25, ..whole() });
    kit.open().await;
    assert_eq!(kit.state().retry_after, Some(Duration::from_millis(50)));
}
