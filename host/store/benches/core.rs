//! How fast the state machine is, one thread, batches of 100: each row says how much there is beside.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::core::Core;
use omniq_store::{End, Enqueued, Filter, Finished, Held, How, Lease, Session, Want};

const BATCH: usize = 100;
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(30);

/// A store and numbers that have not been used yet.
struct Bench {
    core: Core,
    session: Session,
    module: ModuleRef,
    made: u64,
    nonce: u64,
}

impl Bench {
    /// A store with so many ready tasks.
    fn with_ready(tasks: usize) -> Self {
        let mut core = Core::new();
        let session = core.open_session(NOW, SessionId::new(1), LEASE);
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "resize".parse().expect("it is a name"),
            version: "1.0.0".parse().expect("it is a name"),
            unknown: Default::default(),
        };
        let mut bench = Self { core, session, module, made: 0, nonce: 0 };
        for _ in 0..tasks / BATCH {
            let batch = bench.batch();
            bench.enqueue(batch);
        }
        bench
    }

    /// The same, and so many that have ended before.
    fn with_ready_and_ended(ready: usize, ended: usize) -> Self {
        let mut bench = Self::with_ready(ended);
        for _ in 0..ended / BATCH {
            let leases = bench.claim(BATCH);
            bench.finish(ends(&leases));
        }
        for _ in 0..ready / BATCH {
            let batch = bench.batch();
            bench.enqueue(batch);
        }
        bench
    }

    fn batch(&mut self) -> Vec<Task> {
        let task = |_| {
            self.made += 1;
            let mut random = [0; 10];
            random[2..]
                .copy_from_slice(&self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            let millis = NOW.as_millis() + (self.made / 1000) as i64;
            let id = TaskId::new(Timestamp::from_millis(millis), random);
            Task::new(id, self.module.clone(), "acme:jobs/image#resize", Payload::cbor([0xa0; 32]))
        };
        (0..BATCH).map(task).collect()
    }

    fn enqueue(&mut self, batch: Vec<Task>) {
        let answers = self.core.enqueue(NOW, batch);
        assert!(answers.iter().all(|answer| *answer == Enqueued::Created));
    }

    fn claim(&mut self, max: usize) -> Vec<Lease> {
        self.nonce += 1;
        let want = Want { lane: Lane::default(), max, nonce: self.nonce };
        let leases = self.core.claim(NOW, &self.session, &[want]);
        assert_eq!(leases.len(), max);
        leases
    }

    fn finish(&mut self, ends: Vec<End>) {
        let answers = self.core.finish(NOW, ends);
        assert!(answers.iter().all(|answer| matches!(answer, Finished::Applied(_))));
    }

    /// Puts back what was taken, so that a measurement can go on for ever.
    fn refill(&mut self) {
        let batch = self.batch();
        self.enqueue(batch);
    }
}

fn ends(leases: &[Lease]) -> Vec<End> {
    let result = || TaskResult::success(Payload::cbor([1; 16]));
    let end =
        |lease: &Lease| End { id: lease.id, token: lease.token, how: How::Succeeded(result()) };
    leases.iter().map(end).collect()
}

/// The time of `rounds` times the second part of a round; what comes before and after it is not counted.
fn timed<T>(
    rounds: u64,
    bench: &mut Bench,
    before: impl Fn(&mut Bench) -> T,
    measured: impl Fn(&mut Bench, T),
    after: impl Fn(&mut Bench),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let input = before(bench);
        let start = Instant::now();
        measured(bench, input);
        total += start.elapsed();
        after(bench);
    }
    total
}

/// Ended tasks would pile up over millions of rounds; the store is kept at its size.
fn purge(bench: &mut Bench) {
    bench.core.purge(NOW + Task::RESULT_TTL.get(), BATCH);
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    for (name, ready) in [("1k", 1_000), ("1m", 1_000_000)] {
        let mut bench = Bench::with_ready(ready);
        group.bench_function(format!("enqueue_100_beside_{name}_ready"), |bencher| {
            let take = |bench: &mut Bench| {
                let leases = bench.claim(BATCH);
                bench.finish(ends(&leases));
                purge(bench);
            };
            bencher.iter_custom(|rounds| {
                timed(rounds, &mut bench, Bench::batch, Bench::enqueue, take)
            });
        });
        group.bench_function(format!("claim_100_of_{name}_ready"), |bencher| {
            let release = |bench: &mut Bench| {
                let session = bench.session;
                bench.core.reconcile(NOW, &session, &[]);
            };
            bencher.iter_custom(|rounds| {
                let claim = |bench: &mut Bench, ()| drop(bench.claim(BATCH));
                timed(rounds, &mut bench, |_| (), claim, release)
            });
        });
        group.bench_function(format!("claim_and_finish_100_of_{name}_ready"), |bencher| {
            let live = |bench: &mut Bench, ()| {
                let leases = bench.claim(BATCH);
                bench.finish(ends(&leases));
            };
            let refill = |bench: &mut Bench| {
                purge(bench);
                bench.refill();
            };
            bencher.iter_custom(|rounds| timed(rounds, &mut bench, |_| (), live, refill));
        });
    }
    let mut bench = Bench::with_ready_and_ended(1_000, 1_000_000);
    group.bench_function("claim_and_finish_100_beside_1m_ended", |bencher| {
        let live = |bench: &mut Bench, ()| {
            let leases = bench.claim(BATCH);
            bench.finish(ends(&leases));
        };
        let refill = |bench: &mut Bench| {
            purge(bench);
            bench.refill();
        };
        bencher.iter_custom(|rounds| timed(rounds, &mut bench, |_| (), live, refill));
    });
    group.bench_function("list_100_of_1m_ended", |bencher| {
        bencher.iter(|| bench.core.list(&Filter::default(), None, BATCH).items.len());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("heartbeat_beside_1m_ended", |bencher| {
        bencher.iter(|| bench.core.heartbeat(NOW, &bench.session, Held::default()));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
