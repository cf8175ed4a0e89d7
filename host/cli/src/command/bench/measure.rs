//! The measurements, part by part.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use omniq::worker::WorkerHandle;
use omniq_model::{Lane, Payload, SessionId, Task, TaskId, TaskResult, Timestamp};
use omniq_store::floor::Keeps;
use omniq_store::{End, Enqueued, How, Want, WorkerInfo};
use tokio::task::JoinSet;

use super::idle::{Latency, OtherWorker};
use super::rig::Rig;
use super::row::{Row, Unit};
use super::target::Target;
use super::{Part, Sizes, floors};

/// Drains of few waiting tasks that are measured together.
const RUNS: usize = 10;
/// Callers that enqueue one task at a time.
const CALLERS: usize = 64;
/// Callers that enqueue batches and wait for the results.
const CLIENTS: usize = 4;
/// Tasks of each of those batches.
const BATCH: usize = 500;

/// What has been measured so far, and what it is measured against.
#[derive(Debug)]
pub struct Bench {
    sizes: Sizes,
    root: PathBuf,
    target: Target,
    rows: Vec<Row>,
    sandbox: Option<f64>,
    few: Option<f64>,
    progress: ProgressBar,
}

impl Bench {
    /// Will measure so much of each, in files in `root`.
    pub fn new(sizes: Sizes, root: &Path, target: Target) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .expect("the template is valid");
        let progress = ProgressBar::new_spinner().with_style(style);
        progress.enable_steady_tick(Duration::from_millis(100));
        Self {
            sizes,
            root: root.to_owned(),
            target,
            rows: Vec::new(),
            sandbox: None,
            few: None,
            progress,
        }
    }

    /// Measures one part.
    ///
    /// # Errors
    /// A store or the sandbox failed, or a task of ours did.
    pub async fn measure(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Memory => self.memory().await,
            Part::Bulk => self.bulk().await,
            Part::Single => self.single().await,
            Part::Drain => self.drain().await,
            Part::Backlog => self.backlog().await,
            Part::History => self.history().await,
            Part::Idle => self.idle().await,
        }
    }

    /// What was measured.
    pub fn finish(self) -> Vec<Row> {
        self.progress.finish_and_clear();
        self.rows
    }

    fn says(&self, what: &str) {
        self.progress.set_message(what.to_owned());
    }

    /// What is being measured, of the backend.
    fn of(&self, what: &str) -> String {
        format!("{}: {what}", self.target.name)
    }

    /// A queue in a place of its own.
    async fn rig(&self, folder: &Path) -> Result<Rig> {
        Rig::at(self.target.place(folder), folder).await
    }

    fn folder(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.root)?)
    }

    /// The bare sandbox, measured once.
    async fn sandbox(&mut self) -> Result<f64> {
        if let Some(rate) = self.sandbox {
            return Ok(rate);
        }
        self.says("the sandbox alone");
        let rate = tokio::task::spawn_blocking(floors::sandbox)
            .await
            .context("the sandbox's loop ended")??;
        self.rows.push(Row::new(
            "the sandbox alone: a component that does nothing",
            rate,
            Unit::Rate,
        ));
        Ok(*self.sandbox.insert(rate))
    }

    async fn memory(&mut self) -> Result<()> {
        let floor = self.sandbox().await?;
        self.says("memory: enqueue, run and result");
        let rig = Rig::memory().await?;
        let worker = rig.worker().await?;
        answered(&rig, BATCH * CLIENTS).await?; // the component is compiled, the pool is warm
        let rate = answered(&rig, self.sizes.tasks).await?;
        worker.stop(Duration::ZERO).await;
        let row = Row::new("memory: enqueue, run and result, one process", rate, Unit::Rate);
        self.rows.push(row.floor("sandbox alone", floor).value_bar(60_000.0));
        rig.close().await
    }

    async fn bulk(&mut self) -> Result<()> {
        self.says(&self.of("bulk enqueue"));
        let folder = self.folder()?;
        let tasks = self.sizes.tasks;
        let floor = floors::insert(&self.target.place(folder.path()), tasks, 1000).await?;
        let rig = self.rig(folder.path()).await?;
        let took = rig.fill(tasks).await?;
        let rate = tasks as f64 / took.as_secs_f64();
        let row = Row::new(self.of("bulk enqueue"), rate, Unit::Rate);
        let row = row.maybe_floor("raw inserts by 1000", floor);
        self.rows.push(row.bars(self.target.bars.bulk, None));
        rig.close().await
    }

    async fn single(&mut self) -> Result<()> {
        self.says(&self.of("64 callers, one task each"));
        let folder = self.folder()?;
        let tasks = self.sizes.tasks;
        let floor = floors::insert(&self.target.place(folder.path()), tasks, CALLERS).await?;
        let rig = self.rig(folder.path()).await?;
        let rate = called(&rig, tasks).await?;
        let row = Row::new(self.of("64 callers, one task each"), rate, Unit::Rate);
        let row = row.maybe_floor("raw inserts by 64", floor);
        self.rows.push(row.bars(self.target.bars.single, None));
        rig.close().await
    }

    async fn drain(&mut self) -> Result<()> {
        let sandbox = self.sandbox().await?;
        self.says(&self.of("drain"));
        let folder = self.folder()?;
        let rig = self.rig(folder.path()).await?;
        let batch = rig.claim_batch();
        let tasks = self.sizes.tasks;
        let place = || self.target.place(folder.path());
        let row_floor = floors::drain(&place(), tasks, batch, Keeps::Row).await?;
        let task_floor = floors::drain(&place(), tasks, batch, Keeps::Task).await?;
        let worker = rig.warm_worker().await?;
        let rate = rig.drain(&worker, tasks, tasks).await?;
        let same = |what: &str| Row::new(format!("  the same, beside {what}"), rate, Unit::Rate);
        let row = Row::new(self.of("drain, sandbox included"), rate, Unit::Rate);
        let bars = self.target.bars;
        let row = match task_floor {
            Some(floor) => row.floor("raw claim and finish of tasks", floor),
            None => row.maybe_floor("raw claim and finish of rows", row_floor),
        };
        self.rows.push(row.bars(bars.drain, bars.ratio));
        if let Some(floor) = row_floor.filter(|_| task_floor.is_some()) {
            self.rows.push(same("bare rows").floor("raw claim and finish of rows", floor));
        }
        if let Some(floor) = task_floor.or(row_floor) {
            let both = 1.0 / (1.0 / floor + 1.0 / sandbox);
            self.rows.push(same("both floors in turn").floor("claim, run, finish", both));
        }
        self.few_on(&rig, &worker).await?;
        worker.stop(Duration::ZERO).await;
        rig.close().await
    }

    /// The drain of few waiting tasks on a queue that holds little else, measured once.
    async fn few(&mut self) -> Result<f64> {
        if let Some(rate) = self.few {
            return Ok(rate);
        }
        let folder = self.folder()?;
        let rig = self.rig(folder.path()).await?;
        let worker = rig.warm_worker().await?;
        let rate = self.few_on(&rig, &worker).await?;
        worker.stop(Duration::ZERO).await;
        rig.close().await?;
        Ok(rate)
    }

    async fn few_on(&mut self, rig: &Rig, worker: &WorkerHandle) -> Result<f64> {
        let few = self.sizes.few;
        self.says(&self.of("drain with few waiting"));
        let rate = drained_often(rig, worker, few).await?;
        self.rows.push(Row::new(self.of(&format!("drain, {few} waiting")), rate, Unit::Rate));
        Ok(*self.few.insert(rate))
    }

    async fn backlog(&mut self) -> Result<()> {
        let few = self.few().await?;
        let Sizes { waiting, tasks, .. } = self.sizes;
        self.says(&self.of("drain with many waiting"));
        let folder = self.folder()?;
        let rig = self.rig(folder.path()).await?;
        let worker = rig.warm_worker().await?;
        let rate = rig.drain(&worker, waiting, tasks.min(waiting)).await?;
        worker.stop(Duration::ZERO).await;
        let row = Row::new(self.of(&format!("drain, {waiting} waiting")), rate, Unit::Rate);
        self.rows.push(row.floor("few waiting", few).ratio_bar(0.9));
        rig.close().await
    }

    async fn history(&mut self) -> Result<()> {
        let few = self.few().await?;
        let history = self.sizes.history;
        self.says(&self.of("making history"));
        let folder = self.folder()?;
        let rig = self.rig(folder.path()).await?;
        self.end_without_running(&rig, history).await?;
        self.says(&self.of("drain with a long history"));
        let worker = rig.warm_worker_without_keeper().await?;
        let rate = drained_often(&rig, &worker, self.sizes.few).await?;
        worker.stop(Duration::ZERO).await;
        let row = Row::new(self.of(&format!("drain, {history} in history")), rate, Unit::Rate);
        self.rows.push(row.floor("little history", few).ratio_bar(0.9));
        rig.close().await
    }

    /// Makes tasks and ends them at once: what a sandbox would have done to the store, without the sandbox.
    async fn end_without_running(&self, rig: &Rig, count: usize) -> Result<()> {
        let tasks = &rig.queue.stores().tasks;
        let module = rig.module().await?.reference();
        let session = SessionId::new(u64::from(std::process::id()));
        let info = WorkerInfo { name: "bench".to_owned() };
        let session = tasks.open_session(session, &info, Duration::from_secs(3600)).await?;
        let mut made = 0_u64;
        while made < count as u64 {
            let now = tasks.now().await?;
            let batch = (count as u64 - made).min(500);
            let new = (made..made + batch).map(|index| {
                Task::new(id_at(now, index), module.clone(), "nothing", Payload::cbor([0xa0]))
            });
            let accepted = tasks.enqueue(new.collect()).await?;
            ensure!(
                accepted.iter().all(|one| *one == Enqueued::Created),
                "a task was not accepted"
            );
            let want = Want::new(Lane::default(), 500, made + 1);
            let leases = tasks.claim(&session, &[want]).await?;
            let ends = leases.iter().map(|lease| End {
                id: lease.id,
                token: lease.token,
                how: How::Succeeded(TaskResult::success(Payload::cbor([0xf6])).into()),
            });
            tasks.finish(&session, ends.collect()).await?;
            made += batch;
        }
        tasks.close_session(&session).await?;
        Ok(())
    }

    async fn idle(&mut self) -> Result<()> {
        let latencies = self.sizes.latencies;
        self.says(&self.of("from enqueue to result, one process"));
        let folder = self.folder()?;
        let floor = floors::life(&self.target.place(folder.path()), latencies.max(50)).await?;
        let rig = self.rig(folder.path()).await?;
        let worker = rig.warm_worker().await?;
        let times = Latency::of(&rig.queue, latencies).await?;
        worker.stop(Duration::ZERO).await;
        self.latency("one process", &times, floor, self.target.bars.here);
        self.says(&self.of("from enqueue to result, across processes"));
        let other = OtherWorker::start(&rig, folder.path()).await?;
        let times = Latency::of(&rig.queue, latencies).await?;
        self.latency("two processes", &times, floor, self.target.bars.across);
        self.says("the processor of an idle worker");
        if let Some(share) = other.idle_share(self.sizes.idle).await? {
            self.rows.push(
                Row::new("idle worker: share of one processor", share, Unit::Percent)
                    .value_bar(1.0),
            );
        }
        drop(other);
        rig.close().await
    }

    fn latency(
        &mut self,
        where_: &str,
        times: &Latency,
        floor: Option<f64>,
        bars: (Option<f64>, Option<f64>),
    ) {
        let row = |rank: &str, value| {
            Row::new(
                format!("idle: enqueue to result, {where_}, {rank}"),
                value,
                Unit::Milliseconds,
            )
        };
        let median = row("p50", times.per_mille(500)).bars(bars.0, None);
        self.rows.push(median.maybe_floor("insert, claim, finish", floor));
        self.rows.push(row("p99", times.per_mille(990)).bars(bars.1, None));
    }
}

/// Tasks a second of several drains of `few` tasks, one after the other.
async fn drained_often(rig: &Rig, worker: &WorkerHandle, few: usize) -> Result<f64> {
    let mut seconds = 0.0;
    for _ in 0..RUNS {
        seconds += few as f64 / rig.drain(worker, few, few).await?;
    }
    Ok((few * RUNS) as f64 / seconds)
}

/// Results a second where callers enqueue batches and wait for all their results.
async fn answered(rig: &Rig, tasks: usize) -> Result<f64> {
    let started = Instant::now();
    let rounds = tasks.div_ceil(CLIENTS * BATCH);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let queue = rig.queue.clone();
        clients.spawn(async move {
            for _ in 0..rounds {
                for task in queue.enqueue_many(Rig::tasks(BATCH)).await {
                    task?.result::<()>().await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client.context("a caller ended")??;
    }
    Ok((rounds * CLIENTS * BATCH) as f64 / started.elapsed().as_secs_f64())
}

/// Tasks a second that many callers enqueue, each one at a time.
async fn called(rig: &Rig, tasks: usize) -> Result<f64> {
    let started = Instant::now();
    let made = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (queue, made) = (rig.queue.clone(), Arc::clone(&made));
        callers.spawn(async move {
            while made.fetch_add(1, Ordering::Relaxed) < tasks {
                queue.task("bench", "nothing").await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.context("a caller ended")??;
    }
    Ok(tasks as f64 / started.elapsed().as_secs_f64())
}

/// An id of version 7 for the task of that number.
fn id_at(now: Timestamp, index: u64) -> TaskId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&index.to_be_bytes());
    TaskId::new(now, random)
}
