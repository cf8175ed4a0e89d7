//! What the layer around every store costs: calls of the store in memory with and without it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use omniq_model::{Lane, SessionId};
use omniq_store::guard::{Guard, Guarded, Policy};
use omniq_store::memory::MemoryTasks;
use omniq_store::{SystemClock, TaskStore, Want, WorkerInfo};

fn cost(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("the machine has what a runtime needs");
    let bare: Arc<dyn TaskStore> = Arc::new(MemoryTasks::new(Arc::new(SystemClock::default())));
    let guard = Arc::new(Guard::new("tasks", "memory", Policy::default()));
    let guarded: Arc<dyn TaskStore> =
        Arc::new(Guarded::<dyn TaskStore>::new(guard, Arc::clone(&bare)));
    let id = SessionId::new(1);
    let worker = WorkerInfo::default();
    let session = bare.open_session(id, &worker, Duration::from_secs(3600));
    let session = runtime.block_on(session).expect("memory does not fail");
    for (name, store) in [("bare", bare), ("guarded", guarded)] {
        criterion.bench_function(&format!("now/{name}"), |bencher| {
            bencher.iter(|| runtime.block_on(async { black_box(store.now().await) }));
        });
        criterion.bench_function(&format!("empty claim/{name}"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let want = Want::new(Lane::default(), 500, 1);
                    black_box(store.claim(&session, &[want]).await)
                })
            });
        });
    }
}

criterion_group!(benches, cost);
criterion_main!(benches);
