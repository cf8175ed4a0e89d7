//! What a worker is made of, and what it lets tasks use.

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Name, Pool, TaskLimits};
use omniq_sandbox::{Grants, Limits};

/// Settings of a [`Worker`](super::Worker).
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// For people. Default: the name of the machine and the number of the process.
    pub name: String,
    /// Only tasks of these queues, of whatever tenant. Default: none, which means all queues.
    pub queues: Vec<Name>,
    /// The pool of tasks that do not ask for one: [`Pool::Async`], the default, or [`Pool::Thread`].
    pub pool: Pool,
    /// The most tasks that run at once, all pools together. Default: 32 for each processor.
    pub slots: usize,
    /// Threads of each pool. Default: one for each processor.
    pub threads: usize,
    /// The most tasks that are claimed in one go. While tasks take no longer than 50 ms on average, up to two such
    /// batches are fetched in advance: one to run while the next one is claimed. Default 500.
    pub batch: usize,
    /// Bytes of arguments the worker holds at most: of tasks that run, that wait here, and whose ends are not committed
    /// yet. One task for each lane it claims from may be beyond it. Default 64 MiB.
    pub claim_bytes: usize,
    /// How long the worker may be silent before others take its tasks over. It reports three times as often.
    /// Default 15 s.
    pub lease: Duration,
    /// What a task may use that sets no limit itself.
    pub limits: Limits,
    /// What no task may use more than, whatever it asks for. Default: a day, 4 GiB of memory, 256 MiB of result, a
    /// thousand times the default fuel.
    pub ceiling: Limits,
    /// What guests may touch.
    pub grants: Arc<Grants>,
    /// Where the rolls of back-off come from: with the same seed the same task waits equally long. Default: random.
    pub seed: Option<u64>,
    /// Whether this worker also moves time on for everybody: due tasks, dead workers, retention. Any number of
    /// processes may. Default yes.
    pub keeper: bool,
    /// How long events are kept. Default 30 days.
    pub event_ttl: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            name: default_name(),
            queues: Vec::new(),
            pool: Pool::Async,
            slots: 32 * processors,
            threads: processors,
            batch: 500,
            claim_bytes: 64 << 20,
            lease: Duration::from_secs(15),
            limits: Limits::default(),
            ceiling: ceiling(),
            grants: Arc::default(),
            seed: None,
            keeper: true,
            event_ttl: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// `host:pid`
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "localhost" } else { host };
    format!("{host}:{}", std::process::id())
}

/// What a task may raise its own limits to: a day, a thousand times the default fuel, 4 GiB of memory.
fn ceiling() -> Limits {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let limits = Limits::default();
    Limits {
        fuel: limits.fuel.saturating_mul(1000),
        timeout: DAY,
        cpu: DAY,
        memory: 4 << 30,
        result: 256 << 20,
        ..limits
    }
}

impl WorkerOptions {
    /// Sets the limits of tasks that set none. The ceiling is for what tasks ask for: it never cuts these.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        let ceiling = &mut self.ceiling;
        ceiling.fuel = ceiling.fuel.max(limits.fuel);
        ceiling.memory = ceiling.memory.max(limits.memory);
        ceiling.result = ceiling.result.max(limits.result);
        ceiling.timeout = ceiling.timeout.max(limits.timeout);
        ceiling.cpu = ceiling.cpu.max(limits.cpu);
        self.limits = limits;
    }

    /// The limits of one attempt: what the task asks for, or the default, and never more than the ceiling.
    pub(crate) fn limits_of(&self, asked: &TaskLimits) -> Limits {
        let mut limits = self.limits.clone();
        limits.fuel = asked.fuel.unwrap_or(limits.fuel).min(self.ceiling.fuel);
        limits.memory = asked.memory.unwrap_or(limits.memory).min(self.ceiling.memory);
        limits.result = asked.result.unwrap_or(limits.result).min(self.ceiling.result);
        let timeout = asked.timeout.map_or(limits.timeout, Duration::from);
        limits.timeout = timeout.min(self.ceiling.timeout);
        let cpu = asked.cpu.map_or(limits.cpu, Duration::from);
        limits.cpu = cpu.min(self.ceiling.cpu);
        limits
    }
}

#[cfg(test)]
mod tests {
    use omniq_model::Span;

    use super::*;

    #[test]
    fn a_task_sets_its_limits_up_to_the_ceiling() {
        let options = WorkerOptions::default();
        let asked = TaskLimits {
            fuel: Some(u64::MAX),
            timeout: Some(Span::from_millis(7)),
            ..TaskLimits::default()
        };
        let limits = options.limits_of(&asked);
        assert_eq!(limits.fuel, options.ceiling.fuel);
        assert_eq!(limits.timeout, Duration::from_millis(7));
        assert_eq!(limits.memory, options.limits.memory);
    }
}
