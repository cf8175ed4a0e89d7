//! Many processes at work on one queue while they are killed at random, and what must be true in the end.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use omniq_conformance::Rolls;
use omniq_model::{SessionId, State, TaskId, Timestamp};
use rustix::process::Signal;

use super::judge::Judge;
use super::place::{Place, STEPS};
use super::process::{PATIENCE, Process};
use super::story::{self, Batch, acknowledged};
use super::trouble::Trouble;

/// Producers pause while so many tasks wait.
const BACKLOG: u64 = 3000;
/// A worker that ends by itself later than this after its start has given up in the midst of its work, which none may.
const STARTING: Duration = Duration::from_secs(45);

/// How many processes are at work.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Workers, each with a keeper that promotes, takes over and forgets.
    pub workers: usize,
    /// Producers.
    pub producers: usize,
    /// One of them is killed this often.
    pub rhythm: Duration,
    /// Lines of a producer's largest batches.
    pub lines: u64,
}

impl Size {
    /// As much as this machine does.
    pub const FULL: Self =
        Self { workers: 4, producers: 2, rhythm: Duration::from_millis(200), lines: 300 };
    /// For stores where a call takes long, and the death of their owner longer.
    pub const SLOW: Self =
        Self { workers: 3, producers: 1, rhythm: Duration::from_secs(1), lines: 30 };
}

/// `OMNIQ_SOAK_SECONDS`, or what a test takes by itself.
pub fn span(seconds: u64) -> Duration {
    let given = std::env::var("OMNIQ_SOAK_SECONDS").ok();
    let given = given.map(|text| text.parse().expect("`OMNIQ_SOAK_SECONDS` is a number"));
    Duration::from_secs(given.unwrap_or(seconds))
}

/// Chance from `OMNIQ_SEED`, or from the clock. The seed is printed: with it the same things are done in the same order, as
/// far as the processes keep step.
fn rolls() -> Rolls {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let given = std::env::var("OMNIQ_SEED").ok();
    let seed = given.map_or_else(now, |text| text.parse().expect("`OMNIQ_SEED` is a number"));
    println!("seed {seed} (repeat with OMNIQ_SEED={seed})");
    Rolls::new(seed)
}

/// Settings under which nothing ends early or late by itself: here it is processes that are unwell, never a task.
pub fn unwell(place: Place) -> Place {
    place
        .with("OMNIQ_RETRY_DELAY", "50ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "100ms")
        .with("OMNIQ_CRASH_BUDGET", "1000")
}

/// Lets so many processes work on an empty queue for so long, kills one of them again and again, troubles their server,
/// brings all to its end and judges.
#[track_caller]
pub fn run(place: &Place, size: Size, span: Duration, mut trouble: Option<Trouble<'_>>) {
    place.says(&format!("push {STEPS}"));
    let judge = Watch::new(place);
    let mut soak = Soak::new(place, size, trouble.is_some());
    let mut rolls = rolls();
    let end = Instant::now() + span;
    while Instant::now() < end {
        std::thread::sleep(size.rhythm);
        soak.kill_one(&judge, &mut rolls);
        if let Some(trouble) = &mut trouble {
            trouble.strike(&mut rolls);
        }
        soak.look_after(&judge, true);
    }
    if let Some(trouble) = trouble {
        trouble.over();
    }
    soak.finish(&judge);
}

/// The test's own look at the stores. Where one process owns them the test looks for moments only: whoever has them open
/// may be the owner, and then no death of a worker would be one of an owner.
struct Watch<'a> {
    place: &'a Place,
    judge: Option<Judge>,
}

impl<'a> Watch<'a> {
    fn new(place: &'a Place) -> Self {
        let judge = (!place.backend.has_owner()).then(|| Judge::new(place));
        Self { place, judge }
    }

    fn look<T>(&self, look: impl FnOnce(&Judge) -> T) -> T {
        match &self.judge {
            Some(judge) => look(judge),
            None => look(&Judge::new(self.place)),
        }
    }
}

struct Soak<'a> {
    place: &'a Place,
    size: Size,
    /// Their server fails, so a process may give up.
    troubled: bool,
    workers: Vec<Worker>,
    producers: Vec<Producer>,
    batches: Vec<Batch>,
    /// Told to a producer, by whichever of its processes.
    acknowledged: BTreeSet<TaskId>,
    started: usize,
    killed: (usize, usize),
    /// Producers that were killed after they had been told something.
    interrupted: usize,
    /// Workers that did not come up, and producers that gave up, since the server could not be reached.
    gave_up: (usize, usize),
}

struct Worker {
    process: Process,
    since: Instant,
}

/// A producer has a batch to enqueue, and goes on with it in another process when one was killed.
struct Producer {
    batch: usize,
    process: Option<Process>,
}

impl<'a> Soak<'a> {
    fn new(place: &'a Place, size: Size, troubled: bool) -> Self {
        let mut soak = Self {
            place,
            size,
            troubled,
            workers: Vec::new(),
            producers: Vec::new(),
            batches: Vec::new(),
            acknowledged: BTreeSet::new(),
            started: 0,
            killed: (0, 0),
            interrupted: 0,
            gave_up: (0, 0),
        };
        for _ in 0..size.workers {
            let worker = soak.worker();
            soak.workers.push(worker);
        }
        for _ in 0..size.producers {
            let batch = soak.next_batch();
            let process = Some(soak.producer(batch));
            soak.producers.push(Producer { batch, process });
        }
        soak
    }

    fn name(&mut self, role: &str) -> String {
        self.started += 1;
        format!("{role} {}", self.started)
    }

    fn worker(&mut self) -> Worker {
        let name = self.name("worker");
        Worker { process: self.place.start(&name, ["worker"]), since: Instant::now() }
    }

    fn producer(&mut self, batch: usize) -> Process {
        let name = self.name("producer");
        Process::start(self.place.path(), &name, self.batches[batch].command(self.place))
    }

    /// Tasks of all kinds in turn, most of them quick.
    fn next_batch(&mut self) -> usize {
        let (number, lines) = (self.batches.len(), self.size.lines);
        let name = format!("batch-{number}");
        let part = |of: u64, line| vec![line; (lines / of) as usize];
        self.batches.push(match number % 5 {
            0 | 1 => Batch::twice(&name, number as u64 * 1000, lines),
            2 => Batch::new(&name, "bulk", part(15, "[20000]")),
            3 => Batch::new(&name, "rest", part(6, "[30]")),
            _ => Batch::new(&name, "refuse", part(15, "[]")).option("--retries=1"),
        });
        number
    }

    fn kill_one(&mut self, judge: &Watch<'_>, rolls: &mut Rolls) {
        let victim = rolls.below(self.size.workers + self.size.producers);
        if victim < self.size.workers {
            self.workers[victim].process.kill();
            self.killed.0 += 1;
            self.workers[victim] = self.worker();
            return;
        }
        let index = victim - self.size.workers;
        if let Some(mut process) = self.producers[index].process.take() {
            process.kill();
            self.killed.1 += 1;
            self.interrupted += usize::from(self.again(judge, index, &process));
        }
    }

    /// Lets another process go on with a producer's batch; gives whether the first was told anything.
    fn again(&mut self, judge: &Watch<'_>, index: usize, process: &Process) -> bool {
        // Before its successor offers the same lines again, which would hide a loss.
        let told = acknowledged(&process.stdout());
        let any = !told.is_empty();
        if any {
            judge.look(|judge| judge.expect_all(&told));
        }
        self.acknowledged.extend(told);
        let batch = self.producers[index].batch;
        self.producers[index].process = Some(self.producer(batch));
        any
    }

    /// Starts processes again that gave up, and gives producers that are done their next batch if there is to be one, unless
    /// too much waits.
    fn look_after(&mut self, judge: &Watch<'_>, more: bool) {
        for index in 0..self.size.workers {
            let worker = &mut self.workers[index];
            let Some(status) = worker.process.ended() else { continue };
            let said = worker.process.said();
            assert!(self.troubled && !said.contains("panicked"), "a worker: {status}\n{said}");
            let lived = worker.since.elapsed();
            assert!(lived < STARTING, "a worker gave up after {lived:?}: {status}\n{said}");
            self.gave_up.0 += 1;
            self.workers[index] = self.worker();
        }
        for index in 0..self.size.producers {
            let ended = self.producers[index].process.as_mut().and_then(Process::ended);
            if let Some(status) = ended {
                let process = self.producers[index].process.take().expect("it has ended");
                if !status.success() {
                    let said = process.said();
                    let may = self.troubled && !said.contains("panicked");
                    assert!(may, "a producer ended with {status}\n{said}");
                    self.gave_up.1 += 1;
                    self.again(judge, index, &process);
                    continue;
                }
                self.acknowledged.extend(acknowledged(&process.stdout()));
            }
            if more && self.producers[index].process.is_none() && judge.look(waiting) < BACKLOG {
                let batch = self.next_batch();
                let process = Some(self.producer(batch));
                self.producers[index] = Producer { batch, process };
            }
        }
    }

    /// Waits until every line was acknowledged, and every worker is up.
    fn last_lines(&mut self, judge: &Watch<'_>) {
        let deadline = Instant::now() + PATIENCE * 2;
        // Those that were killed are still among them, and give no sign of life any more.
        let sessions = || {
            let seen = judge.look(Judge::workers).into_iter();
            seen.map(|worker| (worker.session, worker.until)).collect::<HashMap<_, _>>()
        };
        let (before, workers) = (sessions(), self.size.workers);
        let are_up = || {
            let beaten =
                |(session, until): &(SessionId, Timestamp)| before.get(session) != Some(until);
            sessions().into_iter().filter(beaten).count() >= workers
        };
        while self.producers.iter().any(|producer| producer.process.is_some()) || !are_up() {
            assert!(Instant::now() < deadline, "producers do not end, or workers do not come up");
            std::thread::sleep(Duration::from_millis(50));
            self.look_after(judge, false);
        }
    }

    /// Lets everything come to its end, and judges.
    fn finish(mut self, watch: &Watch<'_>) {
        self.last_lines(watch);
        watch.look(|judge| self.ended(judge));
    }

    fn ended(&mut self, judge: &Judge) {
        judge.drained(PATIENCE * 3);
        for worker in &mut self.workers {
            let process = &mut worker.process;
            process.signal(Signal::TERM);
            let status = process.wait(PATIENCE);
            assert!(status.success(), "a worker ended with {status}\n{}", process.said());
        }
        // The log is mended from the records when a worker starts.
        let mut last = self.worker().process;
        judge.reconciled(PATIENCE);
        last.signal(Signal::TERM);
        last.wait(PATIENCE);

        let (workers, producers) = self.killed;
        println!(
            "killed: {workers} workers, {producers} producers ({} in the midst of their lines), of {} processes",
            self.interrupted, self.started
        );
        if self.troubled {
            let (workers, producers) = self.gave_up;
            println!("gave up: {workers} workers at their start, {producers} producers");
        }
        let offered: BTreeSet<_> = self.batches.iter().flat_map(Batch::ids).collect();
        assert_eq!(self.acknowledged, offered, "in the end every line was acknowledged");
        story::check(judge, &self.batches);
    }
}

fn waiting(judge: &Judge) -> u64 {
    judge.states().get(&State::Ready).copied().unwrap_or_default()
}
