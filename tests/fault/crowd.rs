//! Ten workers, two schedulers and two reapers at one store, each a process of its own: nothing fires twice, nothing is taken
//! from a worker whose lease lives, nothing is taken over twice.
//!
//! Three of the workers are stopped past their leases until something of theirs was taken over. The keepers in the workers look
//! for the dead as well, so that twelve processes do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use omniq_conformance::history::{Entry, What};
use omniq_model::{
    EventKind, Schedule, SessionId, Span, State, TaskEvent, TaskId, Timestamp, Timing,
};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::crew::{self, Crew, PERIOD};
use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process, until};
use crate::support::story::{self, Batch};

const SCHEDULES: [&str; 3] = ["hourly", "nightly", "weekly"];
/// Workers that are stopped, of ten. The first is none of them: it may be the owner of the store, and `zombie` has that.
const SLEEPERS: std::ops::RangeInclusive<usize> = 1..=3;

/// How much of it there is, and how long things take.
#[derive(Clone, Copy)]
struct Size {
    /// Seconds that a worker may be silent. Longer than in other tests: that one which nobody stopped misses it shall be rare on
    /// a busy machine.
    lease: u64,
    /// How often each schedule fires.
    firings: u32,
    /// Tasks that are due later.
    due: usize,
    /// Milliseconds that a slow task takes: longer than it takes until a worker has one and is stopped.
    slow: u64,
    /// From the enqueue of slow tasks to the stop of workers that run them.
    begin: Duration,
    /// From the end of a stop to the events that tell of it.
    told: Duration,
}

impl Size {
    fn on(backend: Backend) -> Self {
        if backend == Backend::S3 {
            // A call of any process but the owner goes through the bucket, and events are gathered for 5 s.
            let (begin, told) = (Duration::from_secs(2), Duration::from_secs(6));
            Self { lease: 5, firings: 16, due: 20, slow: 3000, begin, told }
        } else {
            let (begin, told) = (Duration::from_millis(500), Duration::from_secs(1));
            Self { lease: 3, firings: 60, due: 100, slow: 1500, begin, told }
        }
    }
}

fn crowd(backend: Backend) {
    let size = Size::on(backend);
    let place = Place::on(backend)
        .with_lasting_owner()
        .with("OMNIQ_LEASE_TIME", format!("{}s", size.lease))
        // So that each of them gets something.
        .with("OMNIQ_MAX_WORKERS", "4")
        .with("OMNIQ_RETRY_DELAY", "50ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "100ms")
        .with("OMNIQ_CRASH_BUDGET", "1000");
    place.says(&format!("push {STEPS}"));
    let start = |number: usize| place.start(&format!("worker {number}"), ["worker"]);
    let mut workers = vec![start(0)];
    if backend.has_owner() {
        let first = &workers[0];
        until("it to have the tasks", PATIENCE, || first.stderr().contains("has the tasks now"));
    }
    let judge = Judge::new(&place);
    workers.extend((1..10).map(start));
    let mut batches = story::every_kind();
    batches.push(Batch::new("due", "draw", vec!["[]"; size.due]).option("--delay=1s"));
    batches.iter().for_each(|batch| batch.enqueue(&place));
    let end = schedule(&judge, batches[0].ids()[0], size);
    let crew = Crew::start(&place, "crowd::process", 2, end);

    let mut lives = Lives::default();
    while judge.events().iter().all(|event| event.kind != EventKind::Fenced) {
        assert!(batches.len() < 20, "nothing was ever taken from a worker that stood still");
        let number = batches.len() as u64;
        let slow = format!("[{}]", size.slow);
        batches.push(Batch::new(&format!("slow-{number}"), "rest", vec![slow; 40]));
        batches[number as usize].enqueue(&place);
        sleep(&workers[SLEEPERS], &judge, &mut lives, size);
    }
    until("the schedules to have ended", PATIENCE, || {
        lives.look(&judge);
        judge.ask(async || judge.tasks().due_schedules(1).await).is_empty() && are_over(&judge)
    });
    judge.drained(PATIENCE);
    lives.look(&judge);
    let told = crew.dismiss();
    judge.reconciled(PATIENCE);
    workers.iter().for_each(|worker| worker.signal(Signal::TERM));
    for worker in &mut workers {
        let status = worker.wait(PATIENCE);
        assert!(status.success(), "it ended with {status}\n{}", worker.said());
    }
    let events = judge.events();
    fired_once(&told, end, size);
    taken_over_once(&told, &events);
    lives.held_alone(&events);
    story::check_with(&judge, &batches, told.concat());
}

/// Stops these workers past their leases, and looks at all others meanwhile.
fn sleep(sleepers: &[Process], judge: &Judge, lives: &mut Lives, size: Size) {
    let watch = |lives: &mut Lives, span| {
        let begun = Instant::now();
        while begun.elapsed() < span {
            lives.look(judge);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    watch(lives, size.begin); // they get some of what was enqueued
    sleepers.iter().for_each(|sleeper| sleeper.signal(Signal::STOP));
    watch(lives, Duration::from_secs(size.lease + 2));
    sleepers.iter().for_each(|sleeper| sleeper.signal(Signal::CONT));
    watch(lives, size.told);
}

/// Puts the schedules of tasks like that one; gives the last instant of each.
fn schedule(judge: &Judge, like: TaskId, size: Size) -> Timestamp {
    let task = judge.info(like).task.expect("it can be read");
    let now = judge.ask(async || judge.tasks().now().await);
    let first = now + Duration::from_secs(1);
    let schedules = SCHEDULES.map(|name| Schedule {
        tenant: task.lane.tenant.clone(),
        name: name.parse().expect("it is a name"),
        timing: Timing::Every(Span::from_millis(PERIOD.as_millis() as u64)),
        zone: String::new(),
        missed: Default::default(),
        task: (*task).clone(),
        paused: None,
        next: Some(first),
        version: 0,
        unknown: Default::default(),
    });
    let put = judge.ask(async || judge.tasks().put_schedules(schedules.to_vec()).await);
    assert!(put.iter().all(Option::is_some), "{put:?}");
    first + PERIOD * (size.firings - 1)
}

fn are_over(judge: &Judge) -> bool {
    let schedules = judge.ask(async || judge.tasks().schedules(None).await);
    schedules.len() == SCHEDULES.len() && schedules.iter().all(|schedule| schedule.next.is_none())
}

/// Every instant of every schedule was fired by exactly one of the schedulers, who were at it together. Nobody says so of one
/// that was fired by a call without an answer.
fn fired_once(told: &[Vec<Entry>], end: Timestamp, size: Size) {
    let mut fired: BTreeMap<(String, Timestamp), usize> = BTreeMap::new();
    let mut unanswered = BTreeSet::new();
    let mut lost = 0;
    for entry in told.iter().flatten() {
        let What::Fire { schedule, nominal, fired: has_fired, .. } = &entry.what else { continue };
        let instant = (schedule.to_string(), *nominal);
        match has_fired {
            Some(true) => *fired.entry(instant).or_default() += 1,
            Some(false) => lost += 1,
            None => drop(unanswered.insert(instant)),
        }
    }
    println!("{} instants have a call without an answer", unanswered.len());
    for instant in unanswered {
        fired.entry(instant).or_insert(1);
    }
    let first = end - PERIOD * (size.firings - 1);
    let instants = (0..size.firings).map(|number| first + PERIOD * number);
    let due = instants.flat_map(|at| SCHEDULES.map(|name| ((name.to_owned(), at), 1)));
    let due: BTreeMap<_, _> = due.collect();
    assert_eq!(fired, due, "each instant fires once");
    let of_each = told.iter().map(|entries| {
        entries
            .iter()
            .filter(|entry| matches!(entry.what, What::Fire { fired: Some(true), .. }))
            .count()
    });
    let of_each: Vec<_> = of_each.collect();
    println!("fired: {of_each:?} by each, {lost} times another one was faster");
    assert!(lost > 0 && of_each[..2].iter().all(|fired| *fired > 0), "they never met");
}

/// What was taken from a worker was taken by one of those who look for that.
fn taken_over_once(told: &[Vec<Entry>], events: &[TaskEvent]) {
    let mut taken: HashMap<(TaskId, u64), Vec<String>> = HashMap::new();
    for (number, entries) in told.iter().enumerate() {
        for entry in entries {
            if let What::Move { task, fence, from: State::Running, .. } = entry.what {
                taken.entry((task, fence)).or_default().push(format!("process {number}"));
            }
        }
    }
    let by_others = taken.len();
    for event in events.iter().filter(|event| event.kind == EventKind::LeaseLost) {
        taken.entry((event.task, event.fence)).or_default().push("a worker's keeper".into());
    }
    println!("taken over: {} leases, {by_others} of them by the reapers", taken.len());
    assert!(!taken.is_empty(), "nothing was taken from those that stood still");
    taken.retain(|_, by| by.len() > 1);
    assert!(taken.is_empty(), "taken over twice: {taken:?}");
}

/// How long sessions surely lived, by the store's clock: a dead one is never revived, so whoever was seen alive had been all the
/// time before.
#[derive(Debug, Default)]
struct Lives(HashMap<SessionId, Timestamp>);

impl Lives {
    fn look(&mut self, judge: &Judge) {
        for worker in judge.workers() {
            let until = self.0.entry(worker.session).or_default();
            *until = worker.until.max(*until);
        }
    }

    /// No attempt began while the one before was surely that of a live worker, unless it had let go.
    fn held_alone(&self, events: &[TaskEvent]) {
        let mut begun: BTreeMap<(TaskId, u64), &TaskEvent> = BTreeMap::new();
        let mut let_go = HashMap::new();
        for event in events {
            match event.kind {
                EventKind::Started => drop(begun.insert((event.task, event.fence), event)),
                EventKind::Retrying | EventKind::Released => {
                    let_go.insert((event.task, event.fence), event.at);
                }
                _ => {}
            }
        }
        let (mut pairs, mut broken) = (0, Vec::new());
        let attempts: Vec<_> = begun.values().collect();
        for pair in attempts.windows(2) {
            let (held, next) = (pair[0], pair[1]);
            if held.task != next.task {
                continue;
            }
            pairs += 1;
            let session = held.session.expect("whoever starts something says who it is");
            let until = self.0.get(&session).copied().unwrap_or_default();
            if !let_go.contains_key(&(held.task, held.fence)) && next.at <= until {
                broken.push((held, next, until));
            }
        }
        println!("{} sessions were seen, {pairs} attempts followed another one", self.0.len());
        assert!(broken.is_empty(), "run again while the lease lived: {broken:?}");
    }
}

#[test]
fn ten_workers_two_schedulers_and_two_reapers_share_postgres() {
    crowd(Backend::Postgres);
}

#[test]
fn ten_workers_two_schedulers_and_two_reapers_share_redis() {
    crowd(Backend::Redis);
}

#[test]
fn ten_workers_two_schedulers_and_two_reapers_share_nats() {
    crowd(Backend::Nats);
}

#[test]
fn ten_workers_two_schedulers_and_two_reapers_share_a_bucket() {
    crowd(Backend::S3);
}

#[test]
#[ignore = "it is what the processes of the others do"]
fn process() {
    crew::serve();
}
