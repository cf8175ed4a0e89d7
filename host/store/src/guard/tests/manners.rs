//! Which call does what while a store of tasks rests: the table in `guard/tasks.rs`.

use omniq_model::{Lane, Name, SessionId};

use super::*;
use crate::memory::{MemoryEvents, MemoryModules, MemoryTasks};
use crate::*;

/// A store that answers behind a guard that takes it for one that does not.
fn rested<S: ?Sized>(inner: Arc<S>) -> Guarded<S> {
    let guard = Guard::new("tasks", "memory", whole());
    for _ in 0..whole().in_a_row {
        let Admission::Through(pass) = guard.breaker.admit(Probe::Short, Instant::now) else {
            panic!("it is closed");
        };
        guard.fail(pass, Instant::now(), Failure::Error, "gone".into());
    }
    assert_eq!(guard.state().condition, Condition::Open);
    Guarded::new(Arc::new(guard), inner)
}

/// How long the call took; it is refused at once, or answered.
async fn wait_of<T>(call: impl Future<Output = Result<T>>) -> Duration {
    let began = Instant::now();
    match call.await {
        Err(Error::Resting { .. }) => assert!(began.elapsed().is_zero(), "refused, but late"),
        Err(error) => panic!("{error}"),
        Ok(_) => assert!(!began.elapsed().is_zero(), "it went through"),
    }
    began.elapsed()
}

/// `true`: it waits until it may be the probe, and is.
macro_rules! check {
    ($store:expr => $($waits:literal $name:ident($($arg:expr),*);)+) => {
        $({
            let store = $store;
            let waited = wait_of(store.$name($($arg),*)).await;
            assert_eq!(!waited.is_zero(), $waits, stringify!($name));
            let expected = if $waits { Condition::Closed } else { Condition::Open };
            assert_eq!(store.guard().state().condition, expected, stringify!($name));
        })+
    };
}

#[tokio::test(start_paused = true)]
async fn what_ends_running_work_waits_and_all_else_is_refused_at_once() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let memory = MemoryTasks::new(clock);
    let session = Session { id: SessionId::new(1), lease: Duration::from_secs(15) };
    let (worker, lane, name) = (WorkerInfo::default(), Lane::default(), Name::default());
    let select = Select { filter: Filter::default(), max: 1 };
    let filter = Filter::default();
    let names = [(name.clone(), name.clone())];
    let beginning = (Timestamp::from_millis(0), KEY.task);
    check! { rested::<dyn TaskStore>(Arc::new(memory.clone())) =>
        true finish(&session, Vec::new());
        true heartbeat(&session, Held::default());
        true reconcile(&session, &[]);
        true close_session(&session);
        false now();
        false enqueue(Vec::new());
        false open_session(session.id, &worker, session.lease);
        false claim(&session, &[]);
        false cancels(&session);
        false cancel(&select);
        false retry(&select);
        false remove(&select);
        false pause(&lane, true);
        false ready_lanes(None, 1);
        false promote(1);
        false reclaim(1);
        false expire(1);
        false purge(1);
        false put_schedules(Vec::new());
        false remove_schedules(&names);
        false schedules(None);
        false due_schedules(1);
        false fire(Vec::new());
        false get(&[]);
        false list(&filter, None, 1);
        false count(&filter);
        false ended(beginning, 1);
        false is_idle();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_events_and_modules() {
    let filter = EventFilter::default();
    let beginning = (Timestamp::from_millis(0), KEY.task);
    check! { rested::<dyn EventStore>(Arc::new(MemoryEvents::new())) =>
        false append(Vec::new());
        false query(&filter, None, 1);
        false purge(beginning.0, 1);
        false watermark();
        false set_watermark(beginning);
    }
    let name = Name::default();
    let digest = omniq_model::Digest::from_sha256([7; 32]);
    check! { rested::<dyn ModuleStore>(Arc::new(MemoryModules::new())) =>
        false find(&name, None);
        false bytes(&digest);
        false list();
        false remove(&name, &name);
    }
}

/// What is held back is written then, and what is held is let go: nobody comes again to do it.
#[tokio::test(start_paused = true)]
async fn a_store_that_rests_is_closed_at_once() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let began = Instant::now();
    rested::<dyn TaskStore>(Arc::new(MemoryTasks::new(clock.clone()))).close().await.unwrap();
    rested::<dyn ResultStore>(Arc::new(MemoryResults::new(clock))).close().await.unwrap();
    rested::<dyn EventStore>(Arc::new(MemoryEvents::new())).close().await.unwrap();
    rested::<dyn ModuleStore>(Arc::new(MemoryModules::new())).close().await.unwrap();
    assert!(began.elapsed().is_zero());
}

/// A call over many tasks lets others be the probe when it is due.
#[tokio::test(start_paused = true)]
async fn long_calls_leave_the_probe_to_others() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let memory = MemoryTasks::new(clock);
    let (filter, select) = (Filter::default(), Select { filter: Filter::default(), max: 1 });
    macro_rules! check_long {
        ($($is_long:literal $name:ident($($arg:expr),*);)+) => {
            $({
                let store = rested::<dyn TaskStore>(Arc::new(memory.clone()));
                advance(Duration::from_secs(1)).await;
                let is_refused = matches!(store.$name($($arg),*).await, Err(Error::Resting { .. }));
                assert_eq!(is_refused, $is_long, stringify!($name));
            })+
        };
    }
    check_long! {
        true cancel(&select);
        true retry(&select);
        true remove(&select);
        true purge(1);
        true schedules(None);
        true list(&filter, None, 1);
        true count(&filter);
        true ended((Timestamp::from_millis(0), KEY.task), 1);
        false now();
        false enqueue(Vec::new());
        false get(&[]);
        false is_idle();
        false promote(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_changes_has_no_deadline_but_its_own() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let store = rested::<dyn TaskStore>(Arc::new(MemoryTasks::new(clock)));
    let seen = store.changes(Interest::Work);
    let (began, hour) = (Instant::now(), Duration::from_secs(3600));
    assert_eq!(store.changed(Interest::Work, seen, hour).await, seen);
    assert!(began.elapsed() >= hour);
    assert_eq!(store.guard().state().failed, 5, "no more than before");
}
