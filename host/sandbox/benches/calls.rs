//! What a call costs, beside what it costs with the engine alone.
//!
//! `cargo bench -p omniq-sandbox --bench calls` measures, and ends with a table of ratios and of the bars they are held
//! to. The floor of each row is a raw loop over the same engine, run beside it in the same process.

mod guests;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use omniq_sandbox::inspect::Inspected;
use omniq_sandbox::{Call, Command, Grants, Output, Rules, Sandbox};
use tokio::runtime::Builder;
use wasmtime::component::Val;

use guests::{Raw, add, add_in_a_large_memory, busy, echo, function, pooled};

const ARGS: &[u8] = b"\xa2\x61a\x05\x61b\x0a";

fn main() {
    let folder = results();
    let mut criterion = Criterion::default()
        .output_directory(&folder)
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    one_call(&mut criterion);
    two_threads(&mut criterion);
    large_memory(&mut criterion);
    bytes(&mut criterion);
    library(&mut criterion);
    program(&mut criterion);
    first_call(&mut criterion);
    metering(&mut criterion);
    criterion.final_summary();
    // Without `--bench` each runs once and nothing is measured.
    if std::env::args().any(|word| word == "--bench") {
        report(&folder);
    }
}

/// Where criterion keeps its figures: beside the build of this program.
fn results() -> PathBuf {
    let program = std::env::current_exe().expect("this program is a file");
    program.ancestors().nth(3).expect("lies in target/release/deps").join("criterion")
}

fn one_call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add");
    let raw = Raw::new(&add(), true);
    group.bench_function("floor", |bencher| {
        bencher.iter(|| {
            let mut store = raw.store(true);
            let instance = raw.pre.instantiate(&mut store).expect("instantiates");
            let run = instance.get_func(&mut store, raw.run).expect("is there");
            let mut result = [Val::Bool(false)];
            run.call(&mut store, &[Val::S32(5), Val::S32(10)], &mut result).expect("adds");
            black_box(result);
        })
    });
    let sandbox = pooled(100);
    let run = function(&sandbox, &add());
    group.bench_function("thread", |bencher| {
        bencher.iter(|| black_box(run.call_blocking(ARGS, Call::default()).result.expect("adds")))
    });
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    group.bench_function("async", |bencher| {
        bencher.to_async(Here(&runtime)).iter(|| async {
            black_box(run.call(ARGS, Call::default()).await.result.expect("adds"));
        })
    });
    group.finish();
}

/// Runs criterion's async benchmarks on a runtime of ours.
struct Here<'a>(&'a tokio::runtime::Runtime);

impl criterion::async_executor::AsyncExecutor for Here<'_> {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }
}

/// The time for `calls` calls on `threads` threads that do nothing else.
fn on_threads(threads: u64, calls: u64) -> Duration {
    let sandbox = pooled(100);
    let run = function(&sandbox, &add());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..calls / threads {
                    run.call_blocking(ARGS, Call::default()).result.expect("adds");
                }
            });
        }
    });
    started.elapsed()
}

/// The same with the engine alone.
fn raw_on_threads(threads: u64, calls: u64) -> Duration {
    let raw = Raw::new(&add(), true);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..calls / threads {
                    let mut store = raw.store(true);
                    let instance = raw.pre.instantiate(&mut store).expect("instantiates");
                    let run = instance.get_func(&mut store, raw.run).expect("is there");
                    let mut result = [Val::Bool(false)];
                    run.call(&mut store, &[Val::S32(5), Val::S32(10)], &mut result).expect("adds");
                }
            });
        }
    });
    started.elapsed()
}

/// The time for `calls` calls as tasks of a runtime with `threads` threads.
fn on_runtime(threads: u64, calls: u64) -> Duration {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads as usize)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let sandbox = pooled(100);
    let run = function(&sandbox, &add());
    let started = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let run = run.clone();
                tokio::spawn(async move {
                    for _ in 0..calls / 16 {
                        run.call(ARGS, Call::default()).await.result.expect("adds");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("does not panic");
        }
    });
    started.elapsed()
}

fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10000 calls");
    group.sample_size(10);
    for threads in [1, 2] {
        group.bench_function(format!("thread pool of {threads}"), |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations).map(|_| on_threads(threads, 10_000)).sum()
            })
        });
        group.bench_function(format!("raw threads {threads}"), |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations).map(|_| raw_on_threads(threads, 10_000)).sum()
            })
        });
        group.bench_function(format!("async pool of {threads}"), |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations).map(|_| on_runtime(threads, 10_000)).sum()
            })
        });
    }
    group.finish();
}

fn large_memory(criterion: &mut Criterion) {
    let sandbox = pooled(100);
    let run = function(&sandbox, &add_in_a_large_memory());
    criterion.benchmark_group("large memory").bench_function("thread", |bencher| {
        bencher.iter(|| black_box(run.call_blocking(ARGS, Call::default()).result.expect("adds")))
    });
}

fn bytes(criterion: &mut Criterion) {
    for (name, length) in [("64 KiB", 64 << 10), ("8 MiB", 8 << 20)] {
        let mut group = criterion.benchmark_group(format!("{name} in and out"));
        let data = vec![7_u8; length];
        let raw = Raw::new(&echo(), true);
        group.bench_function("floor", |bencher| {
            bencher.iter(|| {
                let mut store = raw.store(true);
                store.set_hostcall_fuel(usize::MAX);
                let instance = raw.pre.instantiate(&mut store).expect("instantiates");
                let run = instance
                    .get_typed_func::<(&[u8],), (Vec<u8>,)>(&mut store, raw.run)
                    .expect("is there");
                black_box(run.call(&mut store, (&data,)).expect("gives them back"));
            })
        });
        let sandbox = pooled(10);
        let run = function(&sandbox, &echo());
        let mut args = vec![0xa1, 0x64];
        args.extend_from_slice(b"data\x5a");
        args.extend_from_slice(&u32::try_from(length).expect("fits").to_be_bytes());
        args.extend_from_slice(&data);
        group.bench_function("thread", |bencher| {
            bencher.iter(|| {
                black_box(
                    run.call_blocking(&args, Call::default()).result.expect("gives them back"),
                )
            })
        });
        group.finish();
    }
}

/// A component that a script has built, from its folder in cargo's target folder.
fn built(folder: &str, name: &str) -> Option<Vec<u8>> {
    let target = results().parent().map(Path::to_path_buf).expect("has a parent");
    let file = target.join(folder).join(name);
    let bytes = std::fs::read(&file).ok();
    if bytes.is_none() {
        eprintln!(
            "left out: `{}` is missing; build it with scripts/build-examples",
            file.display()
        );
    }
    bytes
}

/// The example `wordcount`: a program that reads its input, counts, and prints.
fn program(criterion: &mut Criterion) {
    let Some(bytes) = built("examples", "wordcount.wasm") else { return };
    let sandbox = pooled(10);
    let module = sandbox.load(&bytes).expect("loads");
    let grants = Arc::new(Grants::default());
    let command =
        Command { args: vec!["wordcount".to_owned()], stdin: b"to be or not to be".to_vec() };
    criterion.benchmark_group("program with std").bench_function("async", |bencher| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        bencher.to_async(Here(&runtime)).iter(|| async {
            let call = Call { grants: Arc::clone(&grants), ..Call::default() };
            assert_eq!(module.run(command.clone(), call).await.result, Ok(Output::Command));
        })
    });
}

/// A function of a Rust library with the standard library and most of WASI behind it.
fn library(criterion: &mut Criterion) {
    let Some(bytes) = built("guests", "trouble.wasm") else { return };
    let sandbox = pooled(10);
    let good = sandbox.load(&bytes).expect("loads").function("good").expect("is there");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    criterion.benchmark_group("library with std").bench_function("async", |bencher| {
        bencher.to_async(Here(&runtime)).iter(|| async {
            let args = b"\xa1\x66number\x07";
            black_box(good.call(args, Call::default()).await.result.expect("is good"));
        })
    });
}

/// From bytes to a result in a running process, with compiled code in the cache.
fn first_call(criterion: &mut Criterion) {
    let Some(bytes) = built("examples", "wordcount.wasm") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let sandbox =
        Sandbox::builder().cache(folder.path(), 1 << 30).open().expect("the engine runs here");
    drop(sandbox.load(&bytes).expect("loads"));
    // Who keeps a component keeps what it says about itself.
    let component = Inspected::new(bytes, Rules::default()).expect("is a component");
    let command =
        Command { args: vec!["wordcount".to_owned()], stdin: b"to be or not to be".to_vec() };
    criterion.benchmark_group("first call, cached").bench_function("blocking", |bencher| {
        bencher.iter(|| {
            let module = sandbox.load_inspected(&component, |_| ()).expect("loads");
            assert_eq!(
                module.run_blocking(command.clone(), Call::default()).result,
                Ok(Output::Command)
            );
        })
    });
}

/// The price of fuel and epochs on guests that do nothing but compute.
fn metering(criterion: &mut Criterion) {
    for (name, bytes) in busy() {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        let raw = Raw::new(&bytes, false);
        group.bench_function("floor", |bencher| {
            bencher.iter(|| {
                let mut store = raw.store(false);
                let instance = raw.pre.instantiate(&mut store).expect("instantiates");
                let run = instance.get_func(&mut store, raw.run).expect("is there");
                run.call(&mut store, &[], &mut [Val::Bool(false)]).expect("computes");
            })
        });
        let sandbox = pooled(10);
        let run = function(&sandbox, &bytes);
        group.bench_function("thread", |bencher| {
            bencher.iter(|| run.call_blocking(b"\xa0", Call::default()).result.expect("computes"))
        });
        group.finish();
    }
}

/// One line of the closing table.
struct Row {
    what: &'static str,
    measured: &'static str,
    floor: Option<&'static str>,
    bar: &'static str,
}

/// Prints what was measured beside its floor and its bar; nothing for what did not run.
fn report(folder: &Path) {
    let rows = [
        Row {
            what: "add, on a thread",
            measured: "add/thread",
            floor: Some("add/floor"),
            bar: "10 µs, 2 × floor",
        },
        Row {
            what: "add, on a fiber",
            measured: "add/async",
            floor: Some("add/floor"),
            bar: "10 µs, 2 × floor",
        },
        Row {
            what: "10 000 calls, 2 threads against 1",
            measured: "10000 calls/thread pool of 2",
            floor: Some("10000 calls/thread pool of 1"),
            bar: "1/1.5 = 0.67 ×",
        },
        Row {
            what: "the same with the engine alone",
            measured: "10000 calls/raw threads 2",
            floor: Some("10000 calls/raw threads 1"),
            bar: "for comparison",
        },
        Row {
            what: "10 000 calls, async, 2 against 1",
            measured: "10000 calls/async pool of 2",
            floor: Some("10000 calls/async pool of 1"),
            bar: "1/1.3 = 0.77 ×",
        },
        Row {
            what: "16 MiB memory, 1 MiB data",
            measured: "large memory/thread",
            floor: Some("add/thread"),
            bar: "2 ×",
        },
        Row {
            what: "64 KiB in and out",
            measured: "64 KiB in and out/thread",
            floor: Some("64 KiB in and out/floor"),
            bar: "100 µs",
        },
        Row {
            what: "8 MiB in and out",
            measured: "8 MiB in and out/thread",
            floor: Some("8 MiB in and out/floor"),
            bar: "in proportion",
        },
        Row {
            what: "Rust library with std, warm",
            measured: "library with std/async",
            floor: None,
            bar: "20 µs",
        },
        Row {
            what: "program that counts words",
            measured: "program with std/async",
            floor: None,
            bar: "for comparison",
        },
        Row {
            what: "first call, code cached",
            measured: "first call, cached/blocking",
            floor: None,
            bar: "1 ms",
        },
        Row {
            what: "metered: sieve",
            measured: "sieve of 5 million/thread",
            floor: Some("sieve of 5 million/floor"),
            bar: "documented",
        },
        Row {
            what: "metered: calls",
            measured: "fib(27), calls only/thread",
            floor: Some("fib(27), calls only/floor"),
            bar: "documented",
        },
        Row {
            what: "metered: dependency",
            measured: "long dependency of 10 million/thread",
            floor: Some("long dependency of 10 million/floor"),
            bar: "documented",
        },
    ];
    println!("\n{:<36} {:>12} {:>12} {:>8}   bar", "what", "measured", "floor", "ratio");
    for row in rows {
        let Some(measured) = estimate(folder, row.measured) else { continue };
        let floor = row.floor.and_then(|floor| estimate(folder, floor));
        let ratio = floor.map(|floor| format!("{:.2} ×", measured / floor)).unwrap_or_default();
        let floor = floor.map(micros).unwrap_or_default();
        println!(
            "{:<36} {:>12} {:>12} {:>8}   {}",
            row.what,
            micros(measured),
            floor,
            ratio,
            row.bar
        );
    }
}

fn micros(nanos: f64) -> String {
    format!("{:.2} µs", nanos / 1000.0)
}

/// The median that criterion found, in nanoseconds.
fn estimate(folder: &Path, id: &str) -> Option<f64> {
    let (group, function) = id.rsplit_once('/')?;
    let file = folder.join(group).join(function).join("new/estimates.json");
    let text = std::fs::read_to_string(file).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["median"]["point_estimate"].as_f64()
}
