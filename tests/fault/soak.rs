//! Many processes on one file, one of them killed every fifth of a second: nothing is lost, nothing is done twice, every
//! task comes to its end and the log knows of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use omniq_conformance::Rolls;
use omniq_model::{State, TaskId};
use rustix::process::Signal;

use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process};
use crate::support::story::{self, Batch, acknowledged};

const WORKERS: usize = 4;
const PRODUCERS: usize = 2;
/// A process is killed this often.
const RHYTHM: Duration = Duration::from_millis(200);
/// Producers pause while so many tasks wait.
const BACKLOG: u64 = 3000;

/// How long it goes on: a minute, or `OMNIQ_SOAK_SECONDS`.
fn span() -> Duration {
    let seconds = std::env::var("OMNIQ_SOAK_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("`OMNIQ_SOAK_SECONDS` is a number"));
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Chance from `OMNIQ_SEED`, or from the clock. The seed is printed: with it the same processes are killed in the same
/// order, as far as they keep step.
fn rolls() -> Rolls {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let given = std::env::var("OMNIQ_SEED").ok();
    let seed = given.map_or_else(now, |text| text.parse().expect("`OMNIQ_SEED` is a number"));
    println!("seed {seed} (repeat with OMNIQ_SEED={seed})");
    Rolls::new(seed)
}

#[test]
fn workers_and_producers_are_killed_at_random() {
    let place = Place::new()
        .with("OMNIQ_RETRY_DELAY", "50ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "100ms")
        // Here it is the workers that are unwell, never a task.
        .with("OMNIQ_CRASH_BUDGET", "1000");
    place.says(&format!("push {STEPS}"));
    let judge = Judge::new(&place);
    let mut soak = Soak::new(&place);
    let mut rolls = rolls();
    let end = Instant::now() + span();
    while Instant::now() < end {
        std::thread::sleep(RHYTHM);
        soak.kill_one(&judge, &mut rolls);
        soak.feed(&judge);
    }
    soak.finish(&judge);
}

struct Soak<'a> {
    place: &'a Place,
    workers: Vec<Process>,
    producers: Vec<Producer>,
    batches: Vec<Batch>,
    /// Told to a producer, by whichever of its processes.
    acknowledged: BTreeSet<TaskId>,
    started: usize,
    killed: (usize, usize),
    /// Producers that were killed after they had been told something.
    interrupted: usize,
}

/// A producer has a batch to enqueue, and goes on with it in another process when one was killed.
struct Producer {
    batch: usize,
    process: Option<Process>,
}

impl<'a> Soak<'a> {
    fn new(place: &'a Place) -> Self {
        let mut soak = Self {
            place,
            workers: Vec::new(),
            producers: Vec::new(),
            batches: Vec::new(),
            acknowledged: BTreeSet::new(),
            started: 0,
            killed: (0, 0),
            interrupted: 0,
        };
        for _ in 0..WORKERS {
            let worker = soak.worker();
            soak.workers.push(worker);
        }
        for _ in 0..PRODUCERS {
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

    fn worker(&mut self) -> Process {
        let name = self.name("worker");
        self.place.start(&name, ["worker"])
    }

    fn producer(&mut self, batch: usize) -> Process {
        let name = self.name("producer");
        Process::start(self.place.path(), &name, self.batches[batch].command(self.place))
    }

    /// Tasks of all kinds in turn, most of them quick.
    fn next_batch(&mut self) -> usize {
        let number = self.batches.len();
        let name = format!("batch-{number}");
        self.batches.push(match number % 5 {
            0 | 1 => Batch::twice(&name, number as u64 * 1000, 300),
            2 => Batch::new(&name, "bulk", vec!["[20000]"; 20]),
            3 => Batch::new(&name, "rest", vec!["[30]"; 50]),
            _ => Batch::new(&name, "refuse", vec!["[]"; 20]).option("--retries=1"),
        });
        number
    }

    fn kill_one(&mut self, judge: &Judge, rolls: &mut Rolls) {
        let victim = rolls.below(WORKERS + PRODUCERS);
        if victim < WORKERS {
            self.workers[victim].kill();
            self.killed.0 += 1;
            self.workers[victim] = self.worker();
        } else if let Some(mut process) = self.producers[victim - WORKERS].process.take() {
            process.kill();
            self.killed.1 += 1;
            // Before its successor offers the same lines again, which would hide a loss.
            let told = acknowledged(&process.stdout());
            judge.expect_all(&told);
            self.interrupted += usize::from(!told.is_empty());
            self.acknowledged.extend(told);
            let batch = self.producers[victim - WORKERS].batch;
            self.producers[victim - WORKERS].process = Some(self.producer(batch));
        }
    }

    /// Gives producers that are done their next batch, unless too much waits.
    fn feed(&mut self, judge: &Judge) {
        for index in 0..PRODUCERS {
            let ended = self.producers[index].process.as_mut().and_then(Process::ended);
            if let Some(status) = ended {
                let process = self.producers[index].process.take().expect("it has ended");
                assert!(status.success(), "a producer ended with {status}\n{}", process.said());
                self.acknowledged.extend(acknowledged(&process.stdout()));
            }
            let waiting = judge.states().get(&State::Ready).copied().unwrap_or_default();
            if self.producers[index].process.is_none() && waiting < BACKLOG {
                let batch = self.next_batch();
                let process = Some(self.producer(batch));
                self.producers[index] = Producer { batch, process };
            }
        }
    }

    /// Lets everything come to its end, and judges.
    fn finish(mut self, judge: &Judge) {
        for producer in &mut self.producers {
            let Some(process) = &mut producer.process else { continue };
            let status = process.wait(PATIENCE);
            assert!(status.success(), "a producer ended with {status}\n{}", process.said());
            self.acknowledged.extend(acknowledged(&process.stdout()));
        }
        judge.drained(PATIENCE * 3);
        for worker in &mut self.workers {
            worker.signal(Signal::TERM);
            let status = worker.wait(PATIENCE);
            assert!(status.success(), "a worker ended with {status}\n{}", worker.said());
        }
        // The log is mended from the records when a worker starts.
        let mut last = self.worker();
        judge.reconciled(PATIENCE);
        last.signal(Signal::TERM);
        last.wait(PATIENCE);

        let (workers, producers) = self.killed;
        println!(
            "killed: {workers} workers, {producers} producers ({} in the midst of their lines), of {} processes",
            self.interrupted, self.started
        );
        let offered: BTreeSet<_> = self.batches.iter().flat_map(Batch::ids).collect();
        assert_eq!(self.acknowledged, offered, "in the end every line was acknowledged");
        story::check(judge, &self.batches);
    }
}
