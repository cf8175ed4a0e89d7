//! Gives claimed tasks to the pools, once their modules are loaded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{
    CommandInput, DecodeError, Digest, Format, Kind, Pool, Task, TaskError, Timestamp,
};
use omniq_sandbox::{Admission, Call, Command};

use super::attempt::{Attempt, Job, Program, Stop};
use super::modules::{Access, Modules};
use super::outcome::Done;
use super::shared::Shared;
use super::task_host::WorkerTask;

/// Tasks that may wait here for modules to be loaded; more go back for a moment.
const WAITING: usize = 1000;
/// How long a task goes back for when this worker cannot run it and another might.
const ELSEWHERE: Duration = Duration::from_secs(30);

/// Gives claimed tasks to the pools.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    modules: Modules,
    /// Attempts whose module is being loaded.
    waiting: HashMap<Digest, Vec<Attempt>>,
}

impl Dispatcher {
    pub fn new(shared: Arc<Shared>, modules: Modules) -> Self {
        Self { shared, modules, waiting: HashMap::new() }
    }

    /// Those about whose module something is known by now.
    pub fn arrived(&mut self) -> Vec<Attempt> {
        let Self { modules, waiting, .. } = self;
        let arrived = modules.arrived().into_iter();
        arrived.filter_map(|digest| waiting.remove(&digest)).flatten().collect()
    }

    /// How many wait for their modules.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Those that wait for their modules.
    pub fn into_waiting(self) -> impl Iterator<Item = Attempt> {
        self.waiting.into_values().flatten()
    }

    /// Gives attempts to their pools, or sends them where else they belong.
    pub fn dispatch(&mut self, attempts: Vec<Attempt>) {
        let shared = Arc::clone(&self.shared);
        let pools = shared.pools();
        let mut jobs: Vec<Vec<Box<Job>>> = pools.iter().map(|_| Vec::new()).collect();
        let mut done = Vec::new();
        let (now, began) = (Instant::now(), shared.sink.now());
        for attempt in attempts {
            let Some(task) = attempt.task.clone() else { continue };
            let kind = shared.kind_of(&attempt);
            let Some(pool) = pools.iter().position(|pool| pool.kind() == kind) else {
                done.push(no_pool(attempt, kind));
                continue;
            };
            match self.prepare(attempt, task, now) {
                Step::Run(job) => {
                    if shared.sink.is_on() {
                        job.attempt.stop.begins(began);
                    }
                    jobs[pool].push(job);
                }
                Step::Done(ended) => done.push(*ended),
                Step::Waits => {}
            }
        }
        for (pool, jobs) in pools.iter().zip(jobs) {
            if !jobs.is_empty() {
                pool.submit(jobs);
            }
        }
        shared.outbox.push_all(done);
    }

    fn prepare(&mut self, attempt: Attempt, task: Arc<Task>, now: Instant) -> Step {
        let name = || {
            let (name, version) = Shared::module_of(&task);
            format!("{name}@{version}")
        };
        let loaded = match self.modules.access(&task.module.digest, name) {
            Access::Ready(loaded) => loaded,
            Access::Loading => return self.wait(attempt, task.module.digest),
            Access::Absent(after, error) => return Step::released(attempt, after, error),
            Access::Broken(error) => return Step::failed(attempt, error),
        };
        let program = if task.function.is_empty() {
            match command(&task) {
                Ok(command) => Program::Command(loaded.module.clone(), command),
                Err(error) => {
                    let error = TaskError::new(Kind::Undecodable, error.to_string());
                    return Step::failed(attempt, error);
                }
            }
        } else if task.args.format != Format::Cbor {
            let message =
                format!("the arguments are {}, and a function takes CBOR", task.args.format);
            return Step::failed(attempt, TaskError::new(Kind::ArgsMismatch, message));
        } else {
            match loaded.function(&task.function) {
                Ok(function) => Program::Function(function, Arc::clone(&task)),
                Err(error) => {
                    let error = TaskError::new(Kind::NotFound, error.to_string());
                    return Step::failed(attempt, error);
                }
            }
        };
        let call = self.call(&task, attempt.number, attempt.created, &attempt.stop);
        Step::Run(Box::new(Job { attempt, program, call, since: now }))
    }

    fn wait(&mut self, attempt: Attempt, digest: Digest) -> Step {
        if self.waiting() >= WAITING {
            let message = "its module is being loaded, and too many tasks wait for that here";
            let error = TaskError::new(Kind::NoCapacity, message);
            return Step::released(attempt, Duration::from_secs(1), error);
        }
        self.waiting.entry(digest).or_default().push(attempt);
        Step::Waits
    }

    fn call(&self, task: &Arc<Task>, attempt: u32, created: Timestamp, stop: &Arc<Stop>) -> Call {
        let options = &self.shared.options;
        let host = WorkerTask { task: Arc::clone(task), attempt, created, cursor: None };
        Call {
            limits: options.limits_of(&task.limits),
            grants: Arc::clone(&options.grants),
            cancel: stop.cancel.clone(),
            task: Box::new(host),
            admission: Admission::Wait,
        }
    }
}

/// What becomes of an attempt.
enum Step {
    Run(Box<Job>),
    Done(Box<Done>),
    /// It waits for its module.
    Waits,
}

impl Step {
    fn released(attempt: Attempt, after: Duration, error: TaskError) -> Self {
        Self::Done(Box::new(Done::released(attempt, after, Some(error))))
    }

    fn failed(attempt: Attempt, error: TaskError) -> Self {
        Self::Done(Box::new(Done::failed(attempt, error)))
    }
}

fn no_pool(attempt: Attempt, kind: Pool) -> Done {
    let message = format!(
        "this worker has no pool `{kind}`; it has `async` and `thread`: enqueue the task for one of them"
    );
    Done::released(attempt, ELSEWHERE, Some(TaskError::new(Kind::Unavailable, message)))
}

/// What a command is started with.
fn command(task: &Task) -> Result<Command, DecodeError> {
    let input: CommandInput = omniq_model::record::decode("command's input", &task.args.bytes)?;
    let mut args = vec![task.module.name.to_string()];
    args.extend(input.args);
    Ok(Command { args, stdin: input.stdin.into_vec() })
}
