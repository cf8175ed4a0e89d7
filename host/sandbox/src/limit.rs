//! Every limit of a call, its default, and what happens when a guest reaches it.
//!
//! A limit that is configured but not enforced is worse than none, so each field of [`Limits`] has a test of the same
//! name that hits it. A limit ends the call with its own [`Kind`]; nothing is ever cut short in silence.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use omniq_model::Kind;
use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

use crate::import::http::HttpLimits;

/// What one call may use.
///
/// The stack is not here: the engine sets it for all its calls, see [`Builder::stack`](crate::Builder::stack).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Units of fuel, roughly one for each WebAssembly instruction executed. Default 20 × 10⁹.
    pub fuel: u64,
    /// Wall-clock time from the start of the attempt, waits included. Default 5 minutes.
    pub timeout: Duration,
    /// Processor time. Default 60 seconds.
    pub cpu: Duration,
    /// Bytes of all linear memories together, garbage-collected heaps included. Default 256 MiB.
    pub memory: u64,
    /// Elements of all tables together. Default 200 000, which is also the most there can be in a pool.
    pub table_elements: u64,
    /// Core instances a component may be made of. Default 200.
    pub instances: u32,
    /// Linear memories a component may define. Default 16.
    pub memories: u32,
    /// Tables a component may define. Default 100.
    pub tables: u32,
    /// Bytes of the arguments in CBOR. Default 16 MiB.
    pub args: u64,
    /// Bytes of the result in CBOR. Default 16 MiB.
    pub result: u64,
    /// Bytes written to stdout. Default 16 MiB.
    pub stdout: u64,
    /// Bytes written to stderr. Default 1 MiB.
    pub stderr: u64,
    /// Bytes written through `omniq:task/output`. Default 64 MiB.
    pub output: u64,
    /// Lines written through `omniq:task/log` or `wasi:logging`. Default 1000.
    pub log_lines: u64,
    /// Calls of host functions. Default 10 million.
    pub host_calls: u64,
    /// Handles to host resources held at once. Default 10 000.
    pub handles: u32,
    /// What outbound HTTP may use.
    pub http: HttpLimits,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            fuel: 20_000_000_000,
            timeout: Duration::from_secs(300),
            cpu: Duration::from_secs(60),
            memory: 256 * MIB,
            table_elements: 200_000,
            instances: 200,
            memories: 16,
            tables: 100,
            args: 16 * MIB,
            result: 16 * MIB,
            stdout: 16 * MIB,
            stderr: MIB,
            output: 64 * MIB,
            log_lines: 1000,
            host_calls: 10_000_000,
            handles: 10_000,
            http: HttpLimits::default(),
        }
    }
}

/// Why a call was stopped. It travels through the engine as an error and comes out unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    pub kind: Kind,
    pub message: String,
}

impl Stop {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The guest produced more than `limit` bytes of `what`.
    pub fn too_large(what: &str, limit: u64) -> Self {
        Self::new(Kind::OutputTooLarge, format!("{what} is larger than its limit of {limit} bytes"))
    }
}

/// Answers every request of a store for memory, tables and instances.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Budget,
    elements: Budget,
    instances: u32,
    memories: u32,
    tables: u32,
}

/// What is left of one resource, and whether something was refused.
#[derive(Debug)]
struct Budget {
    limit: u64,
    used: u64,
    peak: u64,
    refused: Option<u64>,
}

impl Budget {
    fn new(limit: u64) -> Self {
        Self { limit, used: 0, peak: 0, refused: None }
    }

    /// Takes the difference between `current` and `desired`, unless the sum over all owners passes the limit.
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let wanted = self.used.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.limit {
            self.refused = Some(wanted);
            return false;
        }
        self.used = wanted;
        self.peak = self.peak.max(wanted);
        true
    }
}

impl Limiter {
    pub fn new(limits: &Limits) -> Self {
        Self {
            memory: Budget::new(limits.memory),
            elements: Budget::new(limits.table_elements),
            instances: limits.instances,
            memories: limits.memories,
            tables: limits.tables,
        }
    }

    /// The most bytes of memory that were held at once.
    pub fn peak_memory(&self) -> u64 {
        self.memory.peak
    }

    /// The limit that refused a growth, if one did. The guest may have made anything of the refusal: an abort, an
    /// exception, an error of its own. This names the cause.
    pub fn refusal(&self) -> Option<Stop> {
        if let Some(wanted) = self.memory.refused {
            let limit = self.memory.limit;
            return Some(Stop::new(
                Kind::Memory,
                format!(
                    "the guest asked for {wanted} bytes of memory in all; its limit is {limit}"
                ),
            ));
        }
        let wanted = self.elements.refused?;
        let limit = self.elements.limit;
        Some(Stop::new(
            Kind::Tables,
            format!("the guest asked for {wanted} table elements in all; its limit is {limit}"),
        ))
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the memory's own maximum the growth fails anyway: it must not use up the budget.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.memory.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // In a pool the maximum may be that of the slot, which the limit knows as well: beyond both, the limit is named.
        let fits = desired as u64 <= self.elements.limit;
        if fits && maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.elements.grow(current, desired))
    }

    // `memory_grow_failed` and its like are left alone: they are called also for growths this limiter was never asked
    // about, so giving something back there would give guests memory without end.

    fn instances(&self) -> usize {
        self.instances as usize
    }

    fn memories(&self) -> usize {
        self.memories as usize
    }

    fn tables(&self) -> usize {
        self.tables as usize
    }
}

/// The clocks of one call: its deadline, its processor time, and whether the caller gave up.
///
/// The guest's side reads it at every epoch tick, the host's side between polls.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    timeout: Duration,
    cpu_limit: Duration,
    cpu_nanos: AtomicU64,
    /// The thread's processor clock when the poll that is running began, in nanoseconds.
    poll_began: AtomicU64,
    cancel: Cancel,
}

/// Stops a call from outside. Clones are the same switch; it stays on once it is on.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    asked: OnceLock<Instant>,
    wake: Notify,
}

impl Cancel {
    /// How long a guest that was asked to stop may still run, to notice and to clean up.
    pub const GRACE: Duration = Duration::from_millis(500);

    /// A switch that is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every call that holds this switch to stop. The guest can see it; one that has not ended after
    /// [`Self::GRACE`] is stopped, whatever it is doing.
    pub fn cancel(&self) {
        self.0.asked.get_or_init(Instant::now);
        self.0.wake.notify_waiters();
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.asked.get().is_some()
    }

    /// Ends when a call that holds this switch must be stopped.
    pub(crate) async fn elapsed(&self) {
        let notified = self.0.wake.notified();
        if !self.is_cancelled() {
            notified.await;
        }
        let asked = self.0.asked.get().copied().unwrap_or_else(Instant::now);
        tokio::time::sleep_until((asked + Self::GRACE).into()).await;
    }

    fn is_elapsed(&self) -> bool {
        self.0.asked.get().is_some_and(|asked| asked.elapsed() >= Self::GRACE)
    }
}

impl Meter {
    pub fn start(limits: &Limits, cancel: Cancel) -> Self {
        Self {
            started: Instant::now(),
            timeout: limits.timeout,
            cpu_limit: limits.cpu,
            cpu_nanos: AtomicU64::new(0),
            poll_began: AtomicU64::new(0),
            cancel,
        }
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// When the call must be over; `None` if that lies beyond what the clock can say.
    pub fn deadline(&self) -> Option<Instant> {
        self.started.checked_add(self.timeout)
    }

    /// Marks the start of a stretch of work on the current thread.
    pub fn resume(&self) {
        self.poll_began.store(thread_cpu_nanos(), Ordering::Relaxed);
    }

    /// Marks the end of the stretch that [`Self::resume`] began, on the same thread.
    pub fn pause(&self) {
        let spent = thread_cpu_nanos().saturating_sub(self.poll_began.load(Ordering::Relaxed));
        self.cpu_nanos.fetch_add(spent, Ordering::Relaxed);
    }

    /// The processor time of all finished stretches.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed))
    }

    /// Called at every epoch tick, inside a stretch: whether the call must end now.
    pub fn check(&self) -> Result<(), Stop> {
        if self.cancel.is_elapsed() {
            return Err(Self::cancelled());
        }
        if self.started.elapsed() >= self.timeout {
            return Err(self.timed_out());
        }
        let stretch = thread_cpu_nanos().saturating_sub(self.poll_began.load(Ordering::Relaxed));
        if self.cpu() + Duration::from_nanos(stretch) > self.cpu_limit {
            return Err(Stop::new(
                Kind::Cpu,
                format!("the guest used more than {:?} of processor time", self.cpu_limit),
            ));
        }
        Ok(())
    }

    pub fn cancelled() -> Stop {
        Stop::new(Kind::Cancelled, "the call was cancelled")
    }

    pub fn timed_out(&self) -> Stop {
        Stop::new(Kind::Timeout, format!("the guest was still running after {:?}", self.timeout))
    }

    pub fn cancel_switch(&self) -> &Cancel {
        &self.cancel
    }
}

/// A thread's processor time as it was asked for last.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    nanos: u64,
    /// When the kernel told it.
    told: Instant,
}

thread_local! {
    static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// The processor time of the current thread, in nanoseconds.
///
/// The kernel takes longer to tell than a small guest to run. So of two questions that follow closely the second is answered
/// by the clock on the wall, which runs as fast while a thread does; where the thread has to wait in between, that is off by
/// the wait, and never by more than [`FRESH`] until the kernel is asked again.
fn thread_cpu_nanos() -> u64 {
    /// So closely.
    const SOON: Duration = Duration::from_micros(50);
    /// How long the kernel's answer is built on.
    const FRESH: Duration = Duration::from_millis(1);
    let at = Instant::now();
    let close = LAST.get().filter(|last| at - last.at < SOON && at - last.told < FRESH);
    let reading = match close {
        Some(Reading { at: before, nanos, told }) => {
            let since = u64::try_from((at - before).as_nanos()).unwrap_or(u64::MAX);
            Reading { at, nanos: nanos.saturating_add(since), told }
        }
        None => {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let seconds = (time.tv_sec as u64).saturating_mul(1_000_000_000);
            Reading { at, nanos: seconds.saturating_add(time.tv_nsec as u64), told: at }
        }
    };
    LAST.set(Some(reading));
    reading.nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_what_the_kernel_tells_within_a_millisecond() {
        let kernel = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        let fresh = Duration::from_millis(1).as_nanos() as u64;
        for pause in [0, 1, 10, 100, 1000].map(Duration::from_micros) {
            for _ in 0..200 {
                let (before, asked, after) = (kernel(), thread_cpu_nanos(), kernel());
                assert!(
                    before <= asked + fresh && asked <= after + fresh,
                    "{before} {asked} {after}"
                );
                // Work, and waits in between, which take none.
                let until = Instant::now() + pause;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                std::thread::sleep(pause);
            }
        }
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut limiter = Limiter::new(&Limits { memory: 100, ..Limits::default() });
        assert!(limiter.memory_growing(0, 60, None).expect("answers"));
        assert!(!limiter.memory_growing(0, 60, None).expect("answers"), "60 + 60 is more than 100");
        assert!(limiter.memory_growing(60, 90, None).expect("answers"));
        assert_eq!(limiter.peak_memory(), 90);
        assert_eq!(limiter.refusal().map(|stop| stop.kind), Some(Kind::Memory));
    }

    #[test]
    fn a_growth_beyond_the_memory_s_own_maximum_is_no_refusal() {
        let mut limiter = Limiter::new(&Limits { memory: 100, ..Limits::default() });
        assert!(!limiter.memory_growing(0, 60, Some(50)).expect("answers"));
        assert_eq!(limiter.refusal(), None);
        assert_eq!(limiter.peak_memory(), 0);
    }
}
