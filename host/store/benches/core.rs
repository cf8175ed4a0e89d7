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
    /// A store with so many ready tasks, and so many that have ended before.
    fn new(ready: usize, ended: usize) -> Self {
        let mut core = Core::new();
        let session = core.open_session(NOW, SessionId::new(1), LEASE);
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "resize".parse().expect("it is a name"),
            version: "1.0.0".parse().expect("it is a name"),
            unknown: Default::default(),
        };
        let mut bench = Self { core, session, module, made: 0, nonce: 0 };
        for _ in 0..ended / BATCH {
            let batch = bench.batch();
            bench.enqueue(batch);
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
        let want = Want::new(Lane::default(), max, self.nonce);
        let leases = self.core.claim(NOW, &self.session, &[want]);
        assert_eq!(leases.len(), max);
        leases
    }

    fn finish(&mut self, ends: Vec<End>) {
        let answers = self.core.finish(NOW, ends);
        assert!(answers.iter().all(|answer| matches!(answer, Finished::Applied(_))));
    }
}

fn ends(leases: &[Lease]) -> Vec<End> {
    let result = || TaskResult::success(Payload::cbor([1; 16]));
    let end = |lease: &Lease| End {
        id: lease.id,
        token: lease.token,
        how: How::Succeeded(result().into()),
    };
    leases.iter().map(end).collect()
}

/// How long each part of a batch's life took in all.
#[derive(Default)]
struct Times {
    enqueue: Duration,
    claim: Duration,
    finish: Duration,
}

/// Takes so many batches through their whole life. Each round meets tasks that were enqueued long before, as in earnest.
/// Making tasks and results is the callers' work and is not counted.
fn live(rounds: u64, bench: &mut Bench) -> Times {
    fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = work();
        *total += start.elapsed();
        answer
    }
    let mut times = Times::default();
    for _ in 0..rounds {
        let batch = bench.batch();
        timed(&mut times.enqueue, || bench.enqueue(batch));
        let leases = timed(&mut times.claim, || bench.claim(BATCH));
        let ends = ends(&leases);
        drop(leases);
        timed(&mut times.finish, || bench.finish(ends));
        purge(bench);
    }
    times
}

/// Ended tasks would pile up over millions of rounds; the store is kept at its size.
fn purge(bench: &mut Bench) {
    bench.core.purge(NOW + Task::RESULT_TTL.get(), BATCH);
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group.sample_size(20);
    let stores = [
        ("of_1k_ready", 1_000, 0),
        ("of_1m_ready", 1_000_000, 0),
        ("beside_1m_ended", 1_000, 1_000_000),
    ];
    for (store, ready, ended) in stores {
        let mut bench = Bench::new(ready, ended);
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(format!("enqueue_100_{store}"), |bencher| {
            bencher.iter_custom(|rounds| live(rounds, &mut bench).enqueue);
        });
        group.bench_function(format!("claim_100_{store}"), |bencher| {
            bencher.iter_custom(|rounds| live(rounds, &mut bench).claim);
        });
        group.bench_function(format!("claim_and_finish_100_{store}"), |bencher| {
            bencher.iter_custom(|rounds| {
                let times = live(rounds, &mut bench);
                times.claim + times.finish
            });
        });
        group.bench_function(format!("list_100_{store}"), |bencher| {
            bencher.iter(|| bench.core.list(&Filter::default(), None, BATCH).items.len());
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("heartbeat_{store}"), |bencher| {
            bencher.iter(|| bench.core.heartbeat(NOW, &bench.session, Held::default()));
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
