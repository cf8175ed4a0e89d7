//! The pool `thread`: operating system threads that each run one guest at a time, without a fiber where it never waits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use omniq_model::Pool;
use omniq_store::failpoint;

use super::{Executor, Load, Ran, Report, Unrun, failed};
use crate::worker::{Job, Program};

/// Threads for guests that compute.
#[derive(Debug)]
pub(crate) struct ThreadPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    load: Load,
    report: Arc<dyn Report>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Box<Job>>,
    is_stopped: bool,
    /// Threads that wait for a job.
    idle: usize,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; waits for one. `None`: the pool has stopped.
    fn next(&self) -> Option<Box<Job>> {
        let mut queue = self.queue();
        loop {
            if queue.is_stopped {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                let left = queue.jobs.len();
                drop(queue);
                if self.load.is_low(left) {
                    self.report.hungry();
                }
                return Some(job);
            }
            queue.idle += 1;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

impl ThreadPool {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(threads: usize, report: Arc<dyn Report>) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            load: Load::new(threads),
            report,
        });
        // Dropped where a thread cannot be had, which ends those before it.
        let pool = Self(shared);
        for number in 0..threads {
            let shared = Arc::clone(&pool.0);
            thread::Builder::new().name(format!("omniq-guest-{number}")).spawn(move || {
                while let Some(job) = shared.next() {
                    run(&shared, job);
                }
            })?;
        }
        Ok(pool)
    }
}

fn run(shared: &Shared, job: Box<Job>) {
    let Job { attempt, program, call, .. } = *job;
    if attempt.stop.is_asked() {
        shared.load.withdrawn(1);
        return shared.report.ended(attempt, Err(Unrun::Stopped));
    }
    failpoint::hit("worker.attempt.before_start");
    shared.load.began();
    let began = Instant::now();
    let ran: Ran = catch_unwind(AssertUnwindSafe(|| match program {
        Program::Function(function, task) => function.call_blocking(&task.args.bytes, call),
        Program::Command(module, command) => module.run_blocking(command, call),
        #[cfg(test)]
        Program::Panic => panic!("a mistake"),
    }))
    .map_err(failed);
    shared.load.ended(began.elapsed());
    failpoint::hit("worker.attempt.after_run");
    shared.report.ended(attempt, ran);
}

impl Executor for ThreadPool {
    fn kind(&self) -> Pool {
        Pool::Thread
    }

    fn load(&self) -> &Load {
        &self.0.load
    }

    fn submit(&self, jobs: Vec<Box<Job>>) {
        let count = jobs.len();
        self.0.load.submitted(count);
        let mut queue = self.0.queue();
        queue.jobs.extend(jobs);
        let idle = queue.idle.min(count);
        drop(queue);
        for _ in 0..idle {
            self.0.filled.notify_one();
        }
    }

    fn waits_since(&self) -> Option<Instant> {
        self.0.queue().jobs.front().map(|job| job.since)
    }

    fn drain(&self) -> Vec<Box<Job>> {
        let jobs = Vec::from(std::mem::take(&mut self.0.queue().jobs));
        self.0.load.withdrawn(jobs.len());
        jobs
    }

    fn stop(&self) {
        self.0.queue().is_stopped = true;
        self.0.filled.notify_all();
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.stop();
    }
}
