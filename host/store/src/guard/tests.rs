//! The laws of the guard, in virtual time: nothing here waits.

mod bounds;
mod manners;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Payload, Span, TaskId, Timestamp, Token};
use proptest::prelude::*;
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::memory::MemoryResults;
use crate::{Error, ErrorKind, ManualClock, ResultKey, ResultStore, StagedResult};

/// What a store does to its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It answers after this long.
    Slow(Duration),
    Refuses,
    Hangs,
    Full,
}

/// A store in memory that has moods.
#[derive(Debug)]
struct Moody {
    inner: MemoryResults,
    mood: watch::Sender<Mood>,
    reached: AtomicUsize,
    under_way: AtomicUsize,
    probes: AtomicUsize,
    most_probes: AtomicUsize,
    guard: std::sync::OnceLock<Arc<Guard>>,
}

/// A call that is counted until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Moody {
    async fn answer<T>(
        &self,
        action: &'static str,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.reached.fetch_add(1, SeqCst);
        let _under_way = Counted::new(&self.under_way);
        let guard = self.guard.get().expect("it stands behind one");
        let is_probe = guard.state().condition != Condition::Closed;
        let _probe = is_probe.then(|| Counted::new(&self.probes));
        self.most_probes.fetch_max(self.probes.load(SeqCst), SeqCst);
        let mood = *self.mood.borrow();
        match mood {
            Mood::Well => answer.await,
            Mood::Slow(span) => {
                sleep(span).await;
                answer.await
            }
            Mood::Refuses => Err(Error::not_applied("moody", action, "connection refused")),
            Mood::Hangs => std::future::pending().await,
            Mood::Full => Err(Error::Full { place: "it".into(), reason: "it is".into() }),
        }
    }
}

#[async_trait]
impl ResultStore for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        self.answer("keep results", self.inner.put(results)).await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        self.answer("read results", self.inner.get(keys)).await
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        self.answer("forget results", self.inner.remove(tasks)).await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.answer("forget old results", self.inner.purge(max)).await
    }

    async fn close(&self) -> Result<()> {
        self.answer("close", self.inner.close()).await
    }
}

/// A guarded store, and a hand on its mood.
#[derive(Clone)]
struct Kit {
    moody: Arc<Moody>,
    store: Arc<Guarded<dyn ResultStore>>,
}

const KEY: ResultKey =
    ResultKey { task: TaskId::from_bytes([1; 16]), token: Token { fence: 1, nonce: 1 } };

impl Kit {
    fn new(policy: Policy) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let guard = Arc::new(Guard::new("results", "moody", policy));
        let moody = Arc::new(Moody {
            inner: MemoryResults::new(clock),
            mood: watch::Sender::new(Mood::Well),
            reached: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            most_probes: AtomicUsize::new(0),
            guard: guard.clone().into(),
        });
        let inner: Arc<dyn ResultStore> = moody.clone();
        Self { moody, store: Arc::new(Guarded::new(guard, inner)) }
    }

    fn mood(&self, mood: Mood) {
        self.moody.mood.send_replace(mood);
    }

    fn state(&self) -> GuardState {
        self.store.guard().state()
    }

    fn reached(&self) -> usize {
        self.moody.reached.load(SeqCst)
    }

    /// An eager call.
    async fn get(&self) -> Result<()> {
        self.store.get(&[KEY]).await.map(|_| ())
    }

    /// A patient call.
    async fn put(&self) -> Result<()> {
        let value = Payload::raw(*b"1");
        self.store.put(vec![StagedResult { key: KEY, value, ttl: Span::from_secs(60) }]).await
    }

    /// Fails until it is left alone.
    async fn open(&self) {
        self.mood(Mood::Refuses);
        for _ in 0..Policy::default().in_a_row {
            self.get().await.unwrap_err();
        }
        assert_eq!(self.state().condition, Condition::Open);
    }
}

/// Chance that is none: always the whole pause.
fn whole() -> Policy {
    Policy { roll: || 1.0, ..Policy::default() }
}

fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_eager_calls_fail_at_once() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Refuses);
    let began = Instant::now();
    for count in 1..=5 {
        assert_eq!(kind(kit.get().await), ErrorKind::NotApplied);
        let condition = if count < 5 { Condition::Closed } else { Condition::Open };
        assert_eq!(kit.state().condition, condition, "after {count}");
        advance(Duration::from_millis(10)).await;
    }
    let error = kit.get().await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_millis(50), "it did not wait");
    assert_eq!(kit.reached(), 5, "it did not go through");
    assert_eq!(error.kind(), ErrorKind::NotApplied);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(190)));
    let text = error.to_string();
    for part in ["moody was not asked to read results", "0.1 s", "connection refused", "0.2 s"] {
        assert!(text.contains(part), "{text}");
    }
    let state = kit.state();
    assert_eq!((state.failed, state.refused, state.opened), (5, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_success_between_failures_keeps_it_closed() {
    let kit = Kit::new(whole());
    for _ in 0..9 {
        kit.mood(Mood::Refuses);
        kit.get().await.unwrap_err();
        kit.mood(Mood::Well);
        kit.get().await.unwrap();
    }
    assert_eq!(kit.state().condition, Condition::Closed);
    kit.mood(Mood::Refuses);
    kit.get().await.unwrap_err();
    kit.get().await.unwrap_err();
    assert_eq!(kit.state().condition, Condition::Open, "half of twenty have failed");
}

#[tokio::test(start_paused = true)]
async fn failures_of_long_ago_do_not_count_as_many() {
    let kit = Kit::new(whole());
    for _ in 0..50 {
        kit.mood(Mood::Refuses);
        kit.get().await.unwrap_err();
        kit.mood(Mood::Well);
        kit.get().await.unwrap();
        advance(Duration::from_secs(2)).await;
    }
    assert_eq!(kit.state().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_only_a_store_can_say_is_an_answer() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Full);
    for _ in 0..20 {
        assert_eq!(kind(kit.get().await), ErrorKind::Full);
    }
    assert_eq!(kit.state().condition, Condition::Closed);
    kit.open().await;
    kit.mood(Mood::Full);
    advance(Duration::from_millis(200)).await;
    assert_eq!(kind(kit.get().await), ErrorKind::Full);
    assert_eq!(kit.state().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_patient_call_waits_and_is_the_probe() {
    let kit = Kit::new(whole());
    kit.open().await;
    let began = Instant::now();
    kit.mood(Mood::Well);
    kit.put().await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 200, "the whole first pause");
    assert_eq!(kit.state().condition, Condition::Closed);
    kit.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_rests_is_closed_all_the_same() {
    let kit = Kit::new(whole());
    kit.open().await;
    kit.mood(Mood::Well);
    let began = Instant::now();
    kit.store.close().await.unwrap();
    assert_eq!((kit.reached(), began.elapsed()), (6, Duration::ZERO), "it was told, and at once");
    kit.mood(Mood::Hangs);
    assert_eq!(kind(kit.store.close().await), ErrorKind::Unavailable);
    assert_eq!(began.elapsed().as_secs(), 90, "nobody waits for ever");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_go_on_with_the_first_answer() {
    let kit = Kit::new(whole());
    kit.open().await;
    kit.mood(Mood::Slow(Duration::from_millis(30)));
    let began = Instant::now();
    let waiting: Vec<_> = (0..50).map(|_| kit.clone()).collect();
    let waiting = waiting.into_iter().map(|kit| tokio::spawn(async move { kit.put().await }));
    for answer in waiting.collect::<Vec<_>>() {
        answer.await.unwrap().unwrap();
    }
    assert!(began.elapsed() <= Duration::from_millis(200 + 30 + 30 + 3), "{:?}", began.elapsed());
    assert_eq!(kit.moody.most_probes.load(SeqCst), 1);
    assert_eq!(kit.reached(), 5 + 50, "each went through once");
}

#[tokio::test(start_paused = true)]
async fn a_patient_call_gives_up_after_the_time_of_a_call() {
    let kit = Kit::new(Policy { longest_pause: Duration::from_secs(60), ..whole() });
    kit.open().await;
    let mut last = Ok(());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let asked = Instant::now();
        last = kit.put().await;
        assert!(asked.elapsed() <= Duration::from_secs(10));
        if matches!(last, Err(Error::Resting { .. })) {
            break;
        }
    }
    assert!(matches!(last, Err(Error::Resting { .. })), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_longest() {
    let kit = Kit::new(whole());
    kit.open().await;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let pause = kit.state().retry_after.unwrap();
        pauses.push(pause.as_millis());
        advance(pause).await;
        assert!(!matches!(kit.get().await, Err(Error::Resting { .. })), "it is due");
    }
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_with_its_deadline_and_opens_it() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Hangs);
    let began = Instant::now();
    let error = kit.get().await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed().as_secs()), (ErrorKind::Unavailable, 15));
    assert_eq!(kit.state().condition, Condition::Open);
    assert_eq!(kit.moody.under_way.load(SeqCst), 0, "nobody waits for it any more");
}

#[tokio::test(start_paused = true)]
async fn one_call_that_hangs_among_others_that_do_not_opens_nothing() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Hangs);
    let hanging = tokio::spawn({
        let kit = kit.clone();
        async move { kit.get().await }
    });
    tokio::task::yield_now().await;
    kit.mood(Mood::Well);
    kit.get().await.unwrap();
    assert_eq!(kind(hanging.await.unwrap()), ErrorKind::Unavailable);
    assert_eq!(kit.state().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn calls_over_many_tasks_have_more_time_and_are_probes_only_where_no_other_is() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Slow(Duration::from_secs(80)));
    kit.store.purge(10).await.unwrap();
    kit.open().await;
    advance(Duration::from_secs(1)).await;
    assert!(matches!(kit.store.purge(10).await, Err(Error::Resting { .. })));
    // Nothing else asks this store: it would rest for ever.
    advance(Policy::default().longest_pause).await;
    kit.mood(Mood::Hangs);
    let hangs = tokio::spawn({
        let kit = kit.clone();
        async move { kit.store.purge(10).await }
    });
    tokio::task::yield_now().await;
    assert!(matches!(kit.store.purge(10).await, Err(Error::Resting { .. })), "one at a time");
    // It stands in no other's way.
    kit.mood(Mood::Well);
    kit.get().await.unwrap();
    assert_eq!(kit.state().condition, Condition::Closed);
    hangs.abort();

    kit.open().await;
    advance(Policy::default().longest_pause + Duration::from_secs(1)).await;
    kit.mood(Mood::Well);
    kit.store.purge(10).await.unwrap();
    assert_eq!(kit.state().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_leaves_its_place() {
    let kit = Kit::new(whole());
    kit.open().await;
    advance(Duration::from_millis(200)).await;
    kit.mood(Mood::Hangs);
    let gone = tokio::time::timeout(Duration::from_millis(100), kit.get()).await;
    gone.unwrap_err();
    kit.mood(Mood::Well);
    kit.get().await.unwrap();
    assert_eq!(kit.state().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn who_waits_long_and_goes_away_tells_that_it_hangs() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Hangs);
    let gone = tokio::time::timeout(Duration::from_secs(1), kit.get()).await;
    gone.unwrap_err();
    assert_eq!(kit.state().condition, Condition::Closed, "a second is no long time");
    let gone = tokio::time::timeout(Duration::from_secs(5), kit.get()).await;
    gone.unwrap_err();
    assert_eq!(kit.state().condition, Condition::Open);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_before_closes_it_too() {
    let kit = Kit::new(whole());
    kit.mood(Mood::Slow(Duration::from_millis(50)));
    let early = tokio::spawn({
        let kit = kit.clone();
        async move { kit.get().await }
    });
    tokio::task::yield_now().await;
    kit.open().await;
    early.await.unwrap().unwrap();
    assert_eq!(kit.state().condition, Condition::Closed);
}

#[tokio::test(start_paused = true)]
async fn guards_of_one_place_are_one_and_do_not_tell_the_place() {
    let place = "redis://:secret@somewhere";
    let one = Guard::of("tasks", "redis", place, Policy::default());
    let same = Guard::of("tasks", "redis", place, Policy::default());
    let other = Guard::of("results", "redis", place, Policy::default());
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    let known = states();
    assert!(known.contains(&one.state()));
    assert!(!format!("{known:?} {one:?}").contains("secret"));
    drop((one, same));
    assert!(!states().iter().any(|state| (state.role, state.backend) == ("tasks", "redis")));
}

mod log {
    use tracing::field::{Field, Visit};
    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;

    /// Keeps the messages of the log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0 += &format!("{}={value:?} ", field.name());
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= &Level::INFO
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push((*event.metadata().level(), text.0));
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_is_one_line() {
        let lines = Lines::default();
        let _log = tracing::subscriber::set_default(lines.clone());
        let kit = Kit::new(whole());
        kit.open().await;
        for _ in 0..3 {
            advance(Duration::from_secs(5)).await;
            kit.get().await.unwrap_err();
        }
        kit.mood(Mood::Well);
        kit.put().await.unwrap();
        let lines = lines.0.lock().unwrap().clone();
        let levels: Vec<Level> = lines.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::WARN, Level::INFO], "{lines:?}");
        assert!(lines[0].1.contains("connection refused") && lines[0].1.contains("results"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_logged_once_a_minute() {
        let lines = Lines::default();
        let _log = tracing::subscriber::set_default(lines.clone());
        let kit = Kit::new(whole());
        kit.mood(Mood::Slow(Duration::from_secs(2)));
        for _ in 0..40 {
            kit.get().await.unwrap();
        }
        kit.put().await.unwrap();
        let lines = lines.0.lock().unwrap().clone();
        let of = |action: &str| lines.iter().filter(|(_, text)| text.contains(action)).count();
        assert_eq!((of("read results"), of("keep results")), (2, 1), "{lines:?}");
    }
}

/// One step of a random story.
#[derive(Debug, Clone)]
enum Step {
    Mood(Mood),
    /// A call; the number is how long its caller waits at most, in milliseconds.
    Get(u64),
    Put(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let mood = prop_oneof![
        Just(Mood::Well),
        Just(Mood::Refuses),
        Just(Mood::Refuses),
        Just(Mood::Hangs),
        Just(Mood::Full),
        (1..3000_u64).prop_map(|millis| Mood::Slow(Duration::from_millis(millis))),
    ];
    prop_oneof![
        1 => mood.prop_map(Step::Mood),
        4 => (0..40_000_u64).prop_map(Step::Get),
        4 => (0..40_000_u64).prop_map(Step::Put),
        2 => (0..8_000_u64).prop_map(Step::Pass),
    ]
}

/// Tells a story and checks what holds through it and after it.
async fn tell(steps: Vec<Step>, probes: usize) {
    let policy = Policy { probes, ..Policy::default() };
    let kit = Kit::new(policy);
    let mut calls = Vec::new();
    let mut asked = 0;
    for step in steps {
        match step {
            Step::Mood(mood) => kit.mood(mood),
            Step::Pass(millis) => sleep(Duration::from_millis(millis)).await,
            Step::Get(patience) | Step::Put(patience) => {
                asked += 1;
                let is_put = matches!(step, Step::Put(_));
                let kit = kit.clone();
                calls.push(tokio::spawn(async move {
                    let began = Instant::now();
                    let call = async { if is_put { kit.put().await } else { kit.get().await } };
                    let answer = tokio::time::timeout(Duration::from_millis(patience), call).await;
                    (answer.ok(), began.elapsed())
                }));
                tokio::task::yield_now().await;
            }
        }
    }
    let most = policy.timeout + policy.timeout + policy.timeout / 2;
    let (mut refused, mut gone) = (0, 0);
    for call in calls {
        let (answer, took) = call.await.unwrap();
        assert!(took <= most + Duration::from_millis(2), "a call took {took:?}");
        match answer {
            Some(Err(Error::Resting { retry_after, .. })) => {
                assert!(retry_after <= policy.longest_pause);
                refused += 1;
            }
            None => gone += 1,
            Some(_) => {}
        }
    }
    assert!(kit.moody.most_probes.load(SeqCst) <= probes, "too many probes");
    assert_eq!(kit.moody.under_way.load(SeqCst), 0, "nothing is left behind");
    let reached = kit.reached();
    assert!(
        reached + refused <= asked && asked <= reached + refused + gone,
        "each call goes through once or not at all"
    );
    // However it went: once the store is well, the first call after the longest pause is answered.
    kit.mood(Mood::Well);
    sleep(policy.longest_pause).await;
    kit.get().await.expect("it is asked again at the latest by now");
    assert_eq!(kit.state().condition, Condition::Closed);
    kit.put().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_story_breaks_the_laws(steps in prop::collection::vec(step(), 1..60), probes in 1..4_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(tell(steps, probes));
    }

    #[test]
    fn a_pause_is_never_longer_than_the_longest(rounds in any::<u32>(), roll in 0.0..1.0_f64) {
        let policy = Policy::default();
        prop_assert!(policy.pause(rounds, roll) <= policy.longest_pause);
        prop_assert!(policy.pause(rounds, roll) <= policy.pause(rounds, 1.0));
    }
}

#[test]
fn chance_covers_the_whole_range() {
    let rolls: Vec<f64> = (0..2000).map(|_| breaker::roll()).collect();
    assert!(rolls.iter().all(|roll| (0.0..1.0).contains(roll)));
    for tenth in 0..10 {
        let from = f64::from(tenth) / 10.0;
        assert!(rolls.iter().any(|roll| (from..from + 0.1).contains(roll)), "{from}");
    }
}

#[test]
fn answers_and_failures_of_several_threads_are_counted_whole() {
    const CALLS: u64 = 50_000;
    let policy = Policy { window: Duration::ZERO, in_a_row: u32::MAX, least: u64::MAX, ..whole() };
    let breaker = breaker::Breaker::new(policy, Instant::now());
    let pass = || match breaker.admit(breaker::Probe::Short, Instant::now) {
        breaker::Admission::Through(pass) => pass,
        breaker::Admission::Refused(rest) => panic!("it is closed: {rest:?}"),
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..CALLS).for_each(|_| drop(breaker.answered(pass(), Instant::now))));
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let now = Instant::now();
                    let change =
                        breaker.failed(pass(), now, now, breaker::Failure::Error, String::new());
                    assert_eq!(change, None);
                }
            });
        }
    });
    let snapshot = breaker.snapshot(Instant::now());
    assert_eq!((snapshot.answered, snapshot.failed), (2 * CALLS, 2 * CALLS));
}
