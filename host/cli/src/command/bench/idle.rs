//! What a queue that has nothing else to do takes: time from an enqueue to its result, and the processor while it waits.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use omniq::Queue;

use super::rig::Rig;

/// Times between an enqueue and its result, sorted.
#[derive(Debug)]
pub struct Latency(Vec<Duration>);

impl Latency {
    /// Enqueues `count` tasks, each after the queue was idle for a while, and waits for each result.
    pub async fn of(queue: &Queue, count: usize) -> Result<Self> {
        let mut times = Vec::with_capacity(count);
        for index in 0..count {
            // Idle for long enough that what polls has slowed down, and never in step with it.
            let idle = Duration::from_millis(20 + (index as u64 * 7) % 23);
            tokio::time::sleep(idle).await;
            let started = Instant::now();
            let task = queue.task("bench", "nothing").await?;
            task.result::<()>().await?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    /// The time that so many of 1000 do not exceed, in milliseconds.
    pub fn per_mille(&self, rank: usize) -> f64 {
        let index = (self.0.len() * rank).div_ceil(1000).saturating_sub(1);
        self.0.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

/// A worker in a process of its own. It is killed when this is dropped.
#[derive(Debug)]
pub struct OtherWorker(Child);

impl OtherWorker {
    /// Starts `omniq worker` on the queue of `rig`; returns once it has ended a task.
    pub async fn start(rig: &Rig, folder: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let log = std::fs::File::create(folder.join("worker.log"))?;
        let child = Command::new(program)
            .arg("worker")
            .env("OMNIQ_TASK_STORAGE_URL", &rig.url)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the worker of the benchmark did not start")?;
        let worker = Self(child);
        rig.queue.task("bench", "nothing").await?.result::<()>().await?;
        Ok(worker)
    }

    /// The share of one processor that it uses while nothing happens, in percent; `None` where the system does not tell.
    pub async fn idle_share(&self, span: Duration) -> Result<Option<f64>> {
        let Some(before) = self.processor_time() else { return Ok(None) };
        let started = Instant::now();
        tokio::time::sleep(span).await;
        let used = self.processor_time().context("the worker of the benchmark has ended")? - before;
        Ok(Some(used.as_secs_f64() / started.elapsed().as_secs_f64() * 100.0))
    }

    /// The time all its threads have run, to the nanosecond.
    fn processor_time(&self) -> Option<Duration> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).ok()?;
        let ran = |thread: std::fs::DirEntry| -> Option<u64> {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse().ok()
        };
        Some(Duration::from_nanos(threads.flatten().filter_map(ran).sum()))
    }
}

impl Drop for OtherWorker {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
