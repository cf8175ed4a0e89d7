//! The pool `async`: a runtime of its own whose threads share many guests that mostly wait.
//!
//! Guests are not spawned one by one. A runner takes job after job, which is all there is for guests that never wait;
//! only when a guest has to wait does its runner send another one off to go on with the queue, up to the slots.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Instant;

use omniq_model::Pool;
use omniq_sandbox::Outcome;
use omniq_store::failpoint;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{Executor, Load, Ran, Report, Unrun, failed};
use crate::worker::{Job, Program};

/// A runtime for guests that mostly wait.
#[derive(Debug)]
pub(crate) struct AsyncPool {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    load: Load,
    threads: usize,
    report: Arc<dyn Report>,
    handle: Handle,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Box<Job>>,
    /// Runners that are busy with a guest or looking for one.
    runners: usize,
    /// Those of them whose guest waits.
    waiting: usize,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends off as many runners as there is work for, and threads that have none.
    fn send_runners(self: &Arc<Self>, queue: &mut Queue) {
        let busy = queue.runners - queue.waiting;
        let wanted = self.threads.saturating_sub(busy).min(queue.jobs.len());
        let allowed = self.load.slots().saturating_sub(queue.runners);
        for _ in 0..wanted.min(allowed) {
            queue.runners += 1;
            let shared = Arc::clone(self);
            self.handle.spawn(async move { shared.run_all().await });
        }
    }

    /// Runs job after job until none is left.
    async fn run_all(self: Arc<Self>) {
        loop {
            let job = {
                let mut queue = self.queue();
                match queue.jobs.pop_front() {
                    Some(job) => (job, queue.jobs.len()),
                    None => {
                        queue.runners -= 1;
                        return;
                    }
                }
            };
            let (job, left) = job;
            if self.load.is_low(left) {
                self.report.hungry();
            }
            self.run(job).await;
            // A guest that never waits gives the runtime no chance to look after those that do.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn run(self: &Arc<Self>, job: Box<Job>) {
        let Job { attempt, program, call, .. } = *job;
        if attempt.stop.is_asked() {
            self.load.withdrawn(1);
            return self.report.ended(attempt, Err(Unrun::Stopped));
        }
        failpoint::hit("worker.attempt.before_start");
        self.load.began();
        let began = Instant::now();
        let ran = match program {
            Program::Function(function, task) => {
                self.watched(pin!(function.call(&task.args.bytes, call))).await
            }
            Program::Command(module, command) => {
                self.watched(pin!(module.run(command, call))).await
            }
            #[cfg(test)]
            Program::Panic => self.watched(pin!(async { panic!("a mistake") })).await,
        };
        self.load.ended(began.elapsed());
        failpoint::hit("worker.attempt.after_run");
        self.report.ended(attempt, ran);
    }

    /// Polls a guest to its end. While it waits another runner goes on with the queue. A guest is some kilobytes large, and
    /// stays where it is.
    async fn watched(self: &Arc<Self>, mut guest: Pin<&mut impl Future<Output = Outcome>>) -> Ran {
        let mut is_waiting = false;
        poll_fn(|context| {
            if std::mem::take(&mut is_waiting) {
                self.queue().waiting -= 1;
            }
            match catch_unwind(AssertUnwindSafe(|| guest.as_mut().poll(context))) {
                Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
                Err(panic) => Poll::Ready(Err(failed(panic))),
                Ok(Poll::Pending) => {
                    is_waiting = true;
                    let mut queue = self.queue();
                    queue.waiting += 1;
                    self.send_runners(&mut queue);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl AsyncPool {
    /// Starts a runtime of so many threads for so many guests.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(slots: usize, threads: usize, report: Arc<dyn Report>) -> io::Result<Self> {
        let threads = threads.max(1);
        can_be_had(threads)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("omniq-guests")
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            load: Load::new(slots.max(1)),
            threads,
            report,
            handle: runtime.handle().clone(),
        });
        Ok(Self { shared, runtime: Mutex::new(Some(runtime)) })
    }
}

/// Whether the system has so many threads to give: the builder of a runtime panics where it has not.
fn can_be_had(threads: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        // All of them are there at once before the first may end.
        let closed = gate.lock();
        let began = (0..threads).try_for_each(|_| {
            let wait = || drop(gate.lock());
            thread::Builder::new().spawn_scoped(scope, wait).map(drop)
        });
        drop(closed);
        began
    })
}

impl Executor for AsyncPool {
    fn kind(&self) -> Pool {
        Pool::Async
    }

    fn load(&self) -> &Load {
        &self.shared.load
    }

    fn submit(&self, jobs: Vec<Box<Job>>) {
        self.shared.load.submitted(jobs.len());
        let mut queue = self.shared.queue();
        queue.jobs.extend(jobs);
        self.shared.send_runners(&mut queue);
    }

    fn waits_since(&self) -> Option<Instant> {
        self.shared.queue().jobs.front().map(|job| job.since)
    }

    fn drain(&self) -> Vec<Box<Job>> {
        let jobs = Vec::from(std::mem::take(&mut self.shared.queue().jobs));
        self.shared.load.withdrawn(jobs.len());
        jobs
    }

    fn stop(&self) {
        self.shared.queue().jobs.clear();
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A guest stuck in the host must not hold up the process, nor the runtime this may be dropped in.
            runtime.shutdown_background();
        }
    }
}

impl Drop for AsyncPool {
    fn drop(&mut self) {
        self.stop();
    }
}
