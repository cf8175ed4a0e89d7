//! What the bare parts do on this machine, in the same run: the sandbox without a queue, a backend's client without a
//! store.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use omniq_sandbox::inspect::text;
use omniq_sandbox::{Allocation, Call, Function, Sandbox};
use omniq_store::Options;
use omniq_store::floor::{Floor, Keeps, open_floor};

use super::rig::NOTHING;

/// How long the sandbox runs.
const SPAN: Duration = Duration::from_secs(1);
const ARGS: &[u8] = b"\xa0";

/// Calls a second of the component, one thread for each processor and nothing else.
pub fn sandbox() -> Result<f64> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let instances = u32::try_from(threads * 4).unwrap_or(u32::MAX);
    let sandbox = Sandbox::builder().allocation(Allocation::Pooled { instances }).open()?;
    let function = sandbox.load(&text::to_binary(NOTHING, None)?)?.function("nothing")?;
    let started = Instant::now();
    let calls: Result<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| calls(&function))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a loop of calls does not panic"))
            .sum()
    });
    Ok(calls? as f64 / started.elapsed().as_secs_f64())
}

fn calls(function: &Function) -> Result<u64> {
    let started = Instant::now();
    let mut calls = 0;
    while started.elapsed() < SPAN {
        let outcome = function.call_blocking(ARGS, Call::default());
        if let Err(failure) = outcome.result {
            bail!("the component of the benchmark failed: {failure}");
        }
        calls += 1;
    }
    Ok(calls)
}

async fn open(place: &str, keeps: Keeps) -> Result<Option<Box<dyn Floor>>> {
    Ok(open_floor(place, &Options::default(), keeps).await?)
}

/// Rows a second that the backend's client inserts, `batch` in each commit; `None`: there is no bare loop for it.
pub async fn insert(place: &str, rows: usize, batch: usize) -> Result<Option<f64>> {
    let Some(mut floor) = open(place, Keeps::Row).await? else { return Ok(None) };
    floor.insert(batch, batch).await?; // the first commit makes what is needed
    let took = floor.insert(rows, batch).await?;
    Ok(Some(rows as f64 / took.as_secs_f64()))
}

/// Rows or tasks a second that it claims and finishes, `batch` at a time in two commits; `None`: there is no bare loop that
/// keeps that.
pub async fn drain(place: &str, rows: usize, batch: usize, keeps: Keeps) -> Result<Option<f64>> {
    let Some(mut floor) = open(place, keeps).await? else { return Ok(None) };
    floor.insert(rows, 1000).await?;
    let (drained, took) = floor.drain(batch).await?;
    if drained != rows {
        bail!("the bare loop drained {drained} of {rows} rows");
    }
    Ok(Some(rows as f64 / took.as_secs_f64()))
}

/// Milliseconds that one row takes to be inserted, claimed and finished, in three commits: the median.
pub async fn life(place: &str, rows: usize) -> Result<Option<f64>> {
    let Some(mut floor) = open(place, Keeps::Row).await? else { return Ok(None) };
    let mut times = Vec::with_capacity(rows);
    for _ in 0..rows {
        let started = Instant::now();
        floor.insert(1, 1).await?;
        floor.drain(1).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let median = times.get(rows / 2).context("nothing was measured")?;
    Ok(Some(median.as_secs_f64() * 1000.0))
}
