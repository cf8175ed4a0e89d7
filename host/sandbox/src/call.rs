//! One attempt: a fresh store, one instance, one call, and then everything is dropped.
//!
//! Nothing survives an attempt, so a guest that misbehaves harms only itself. The work is a future that is polled with a
//! clock running; beside it stand the deadline and the caller's wish to stop, so that a guest asleep in the host is
//! stopped as well as one that computes.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use omniq_model::Kind;
use omniq_model::wit::Type;
use wasmtime::component::{ComponentExportIndex, InstancePre};
use wasmtime::{CallHook, component::Instance};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::abi::{self, Args};
use crate::grant::Grants;
use crate::import::State;
use crate::import::task::{LocalTask, TaskHost};
use crate::limit::{Cancel, Limits, Meter, Stop};
use crate::outcome::{Failure, Frame, Outcome, Output, Usage};

/// What a call brings along besides its arguments. The default: no grants, the default limits, no queue.
pub struct Call {
    /// What the guest may use.
    pub limits: Limits,
    /// What the guest may touch.
    pub grants: Arc<Grants>,
    /// Stops the call from outside.
    pub cancel: Cancel,
    /// Serves `omniq:task`.
    pub task: Box<dyn TaskHost>,
    /// What to do when every slot of the pool is taken.
    pub admission: Admission,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            grants: Arc::default(),
            cancel: Cancel::new(),
            task: Box::new(LocalTask::default()),
            admission: Admission::Wait,
        }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("limits", &self.limits)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// What to do when every slot of the pool is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// Wait for one. The wait counts for no limit.
    #[default]
    Wait,
    /// End with [`Kind::NoCapacity`]; nothing has run.
    Refuse,
}

/// What a command is started with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The arguments, the command's own name first.
    pub args: Vec<String>,
    /// All of its standard input.
    pub stdin: Vec<u8>,
}

/// What an attempt needs to know of its module.
pub(crate) struct Target<'a> {
    pub engine: &'a Engine,
    pub pre: &'a InstancePre<State>,
    pub imports_wasi: bool,
    /// Elements that all tables together can have, whatever the limits say.
    pub most_table_elements: u64,
    pub entry: Entry<'a>,
    /// What a command is started with.
    pub command: Option<Command>,
}

/// What of the module is called.
pub(crate) enum Entry<'a> {
    Function {
        index: &'a ComponentExportIndex,
        args: Args<'a>,
        result: Option<&'a Type>,
        is_async: bool,
    },
    Command {
        index: &'a ComponentExportIndex,
    },
}

/// Runs an attempt on the current task of the runtime.
pub(crate) async fn run(mut target: Target<'_>, call: Call) -> Outcome {
    let meter = Arc::new(Meter::start(&call.limits, call.cancel.clone()));
    let mut store = match open(&mut target, call, &meter, Execution::Fiber) {
        Ok(store) => store,
        Err(failure) => return refused(failure, &meter),
    };
    let ended = {
        let work = pin!(async {
            let instance =
                target.pre.instantiate_async(&mut store).await.map_err(while_starting)?;
            enter_async(&mut store, &instance, &target.entry).await
        });
        supervise(&meter, work).await
    };
    conclude(store, &target.entry, ended, &meter)
}

/// Runs an attempt to its end on the current thread, without a fiber. Only for components none of whose imports wait.
pub(crate) fn run_on_thread(mut target: Target<'_>, call: Call) -> Outcome {
    let meter = Arc::new(Meter::start(&call.limits, call.cancel.clone()));
    let mut store = match open(&mut target, call, &meter, Execution::Thread) {
        Ok(store) => store,
        Err(failure) => return refused(failure, &meter),
    };
    meter.resume();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let instance = target.pre.instantiate(&mut store).map_err(while_starting)?;
        enter(&mut store, &instance, &target.entry)
    }));
    meter.pause();
    conclude(store, &target.entry, ended.map_err(|_| host_panic()).and_then(|ended| ended), &meter)
}

/// How the guest's stack is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Execution {
    /// On its own stack, so that it can be set aside while it waits.
    Fiber,
    /// On the thread's stack.
    Thread,
}

fn open(
    target: &mut Target<'_>,
    mut call: Call,
    meter: &Arc<Meter>,
    execution: Execution,
) -> Result<Store<State>, Failure> {
    call.limits.table_elements = call.limits.table_elements.min(target.most_table_elements);
    let limits = call.limits.clone();
    let state = State::new(call, target.command.take(), Arc::clone(meter), target.imports_wasi);
    let mut store = Store::new(target.engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_fuel(limits.fuel).map_err(|error| Failure::new(Kind::Host, format!("{error:#}")))?;
    // What one host call, or the result, may copy out of the guest. The default is too little for large results.
    let copied = limits.result.max(limits.stdout).max(1 << 20).saturating_add(64 << 10);
    store.set_hostcall_fuel(usize::try_from(copied).unwrap_or(usize::MAX));
    store.set_max_component_handles(limits.handles as usize);
    store.set_epoch_deadline(1);
    let clock = Arc::clone(meter);
    store.epoch_deadline_callback(move |_| {
        clock.check()?;
        Ok(match execution {
            // A plain yield wakes itself at once and starves the runtime's timers.
            Execution::Fiber => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            Execution::Thread => UpdateDeadline::Continue(1),
        })
    });
    store.call_hook(|store, hook| match hook {
        CallHook::ReturningFromHost => Ok(store.data().seam.leave()?),
        _ => Ok(()),
    });
    Ok(store)
}

/// What came out of the guest: the CBOR of a function's result, or whether a command succeeded.
enum Returned {
    Value(Vec<u8>),
    Command(Result<(), ()>),
}

async fn enter_async(
    store: &mut Store<State>,
    instance: &Instance,
    entry: &Entry<'_>,
) -> wasmtime::Result<Returned> {
    match entry {
        Entry::Function { index, args, result, is_async } => {
            let func = exported(store, instance, index)?;
            let arity = if *is_async { abi::Arity::of_async(*result) } else { abi::Arity::Sync };
            Ok(Returned::Value(abi::call_async(func, store, *args, arity).await?))
        }
        Entry::Command { index } => {
            let func =
                exported(store, instance, index)?.typed::<(), (Result<(), ()>,)>(&mut *store)?;
            Ok(Returned::Command(func.call_async(store, ()).await?.0))
        }
    }
}

fn enter(
    store: &mut Store<State>,
    instance: &Instance,
    entry: &Entry<'_>,
) -> wasmtime::Result<Returned> {
    match entry {
        Entry::Function { index, args, .. } => {
            let func = exported(store, instance, index)?;
            Ok(Returned::Value(abi::call(func, store, *args)?))
        }
        Entry::Command { index } => {
            let func =
                exported(store, instance, index)?.typed::<(), (Result<(), ()>,)>(&mut *store)?;
            Ok(Returned::Command(func.call(store, ())?.0))
        }
    }
}

fn exported(
    store: &mut Store<State>,
    instance: &Instance,
    index: &ComponentExportIndex,
) -> wasmtime::Result<wasmtime::component::Func> {
    let missing = || {
        Stop::new(Kind::Host, "the component lost an export between its inspection and this call")
    };
    Ok(instance.get_func(store, index).ok_or_else(missing)?)
}

/// Marks an error of an instance that was still being made.
#[derive(Debug)]
struct Starting;

impl std::fmt::Display for Starting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the instance could not be made")
    }
}

fn while_starting(error: wasmtime::Error) -> wasmtime::Error {
    error.context(Starting)
}

/// Polls the work with its clocks running until it ends, its time is up or the caller gives up. It is some kilobytes large,
/// and stays where it is.
async fn supervise<R>(
    meter: &Meter,
    mut work: Pin<&mut impl Future<Output = wasmtime::Result<R>>>,
) -> wasmtime::Result<R> {
    // Most calls end in their first poll and never need a timer.
    let mut interruption: Option<Pin<Box<dyn Future<Output = Stop> + Send + '_>>> = None;
    poll_fn(|context: &mut Context<'_>| {
        meter.resume();
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        meter.pause();
        match polled {
            Ok(Poll::Ready(result)) => return Poll::Ready(result),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Err(host_panic())),
        }
        let interruption = interruption.get_or_insert_with(|| Box::pin(interrupted(meter)));
        interruption.as_mut().poll(context).map(|stop| Err(stop.into()))
    })
    .await
}

/// Ends when the call must end, with the reason.
async fn interrupted(meter: &Meter) -> Stop {
    let timeout = async {
        match meter.deadline() {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = timeout => meter.timed_out(),
        () = meter.cancel_switch().elapsed() => Meter::cancelled(),
    }
}

fn host_panic() -> wasmtime::Error {
    Stop::new(Kind::Host, "the host failed inside this call; the guest is not to blame").into()
}

/// The outcome of a call that never started.
pub(crate) fn refused(failure: Failure, meter: &Meter) -> Outcome {
    let usage = Usage { wall: meter.started().elapsed(), ..Usage::default() };
    Outcome {
        result: Err(failure),
        usage,
        denials: Vec::new(),
        stdout: Vec::new(),
        stderr: Vec::new(),
    }
}

fn conclude(
    store: Store<State>,
    entry: &Entry<'_>,
    ended: wasmtime::Result<Returned>,
    meter: &Meter,
) -> Outcome {
    let left = store.get_fuel().unwrap_or(0);
    let state = store.data();
    let usage = Usage {
        fuel: state.limits.fuel.saturating_sub(left),
        peak_memory: state.limiter.peak_memory(),
        wall: meter.started().elapsed(),
        cpu: meter.cpu(),
        host_calls: state.seam.calls(),
    };
    let denials = state.denials().all();
    let result = judge(entry, ended, state).map_err(|mut failure| {
        let blamed = matches!(failure.kind, Kind::Trap | Kind::Exit);
        if let Some(denial) = denials.first().filter(|_| blamed) {
            failure.kind = Kind::Denied;
            failure.message =
                format!("the guest failed after it was denied {denial}: {}", failure.message);
        } else if state.files.found_nothing() && (blamed || failure.kind == Kind::ErrResult) {
            failure.hint = Some("the guest looked for files, and no directory is granted to it");
        }
        failure
    });
    let (stdout, stderr) = (state.stdout.take(), state.stderr.take());
    Outcome { result, usage, denials, stdout, stderr }
}

/// What the end of the guest means.
fn judge(
    entry: &Entry<'_>,
    ended: wasmtime::Result<Returned>,
    state: &State,
) -> Result<Output, Failure> {
    let failure = match (ended, entry) {
        (Ok(Returned::Value(bytes)), _) if bytes.len() as u64 > state.limits.result => {
            let stop = Stop::too_large("the result", state.limits.result);
            Failure::new(stop.kind, stop.message)
        }
        (Ok(Returned::Value(bytes)), Entry::Function { result, .. }) => match split(*result, bytes)
        {
            Ok(value) => return Ok(Output::Value(value)),
            Err(failure) => failure,
        },
        (Ok(Returned::Value(_)), Entry::Command { .. }) => {
            Failure::new(Kind::Host, "a command returned a value")
        }
        (Ok(Returned::Command(Ok(()))), _) => return Ok(Output::Command),
        (Ok(Returned::Command(Err(()))), _) => {
            Failure::new(Kind::Exit, "the command ended with a failure")
        }
        (Err(error), entry) => {
            if let (Some(I32Exit(0)), Entry::Command { .. }) = (error.downcast_ref(), entry) {
                return Ok(Output::Command);
            }
            explain(&error, state)
        }
    };
    // Out of memory comes out of a guest as an abort, an exception, or an error of its own: the limiter knows better.
    let own = matches!(failure.kind, Kind::Trap | Kind::Exit | Kind::ErrResult);
    match state.limiter.refusal().filter(|_| own) {
        Some(stop) => Err(Failure { kind: stop.kind, message: stop.message, ..failure }),
        None => Err(failure),
    }
}

/// Takes the outer `result` off: its `ok` is the result, its `err` a failure that keeps the value.
fn split(ty: Option<&Type>, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    const OK: &[u8] = b"\xa1\x62ok";
    const ERR: &[u8] = b"\xa1\x63err";
    let Some(Type::Result(sides)) = ty else { return Ok(bytes) };
    if let Some(value) = bytes.strip_prefix(OK) {
        return Ok(value.to_vec());
    }
    let value = bytes.strip_prefix(ERR).unwrap_or_default().to_vec();
    let mut failure = Failure::new(Kind::ErrResult, "the function returned an error");
    failure.error = Some((sides.err.clone(), value));
    Err(failure)
}

/// Names the reason the engine gave up on a guest.
fn explain(error: &wasmtime::Error, state: &State) -> Failure {
    let backtrace = backtrace(error);
    let failure = |kind, message: String| Failure {
        backtrace: backtrace.clone(),
        ..Failure::new(kind, message)
    };
    if let Some(stop) = error.downcast_ref::<Stop>() {
        let message = match (stop.kind, state.seam.last_interface()) {
            (Kind::Timeout, Some(interface)) => {
                format!("{}; its last host call was to `{interface}`", stop.message)
            }
            _ => stop.message.clone(),
        };
        return failure(stop.kind, message);
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        // WASI 0.2 carries no exact status.
        let how = if *status == 0 { "exited" } else { "exited with a failure" };
        return failure(Kind::Exit, format!("the guest {how} instead of returning"));
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => failure(
                Kind::Fuel,
                format!("the guest used up its {} units of fuel", state.limits.fuel),
            ),
            Trap::StackOverflow => {
                failure(Kind::Stack, "the guest's calls nest too deeply for its stack".to_owned())
            }
            Trap::Interrupt => failure(Kind::Timeout, "the guest was interrupted".to_owned()),
            other => {
                let said = other.to_string();
                let what = said.strip_prefix("wasm trap: ").unwrap_or(&said);
                failure(Kind::Trap, format!("the guest trapped: {what}"))
            }
        };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return failure(
            Kind::NoCapacity,
            "no slot for another instance is free; try again later".to_owned(),
        );
    }
    if let Some((kind, message)) = refused_by_system(error) {
        return failure(kind, message);
    }
    let text = error.root_cause().to_string();
    // The engine has no type for these; the texts are pinned by tests.
    if text.contains("resource limit exceeded") {
        let is_tables = text.contains("table count");
        return failure(
            if is_tables { Kind::Tables } else { Kind::Instances },
            format!("the component is made of too many parts: {text}"),
        );
    }
    if text.contains("fuel allocated for hostcalls") {
        let what = state.seam.last_interface().unwrap_or("the host");
        return failure(
            Kind::OutputTooLarge,
            format!("the guest handed over too much at once in a call to `{what}`"),
        );
    }
    if text.contains("handle") && text.contains("limit") || text.contains("table has no free keys")
    {
        return failure(
            Kind::Handles,
            format!("the guest holds too many handles; its limit is {}", state.limits.handles),
        );
    }
    // A guest can break a rule before its function is called only where code of its own runs already.
    let guest_ran = !error.is::<Starting>() || error.is::<WasmBacktrace>();
    if guest_ran || state.limiter.refusal().is_some() {
        return failure(
            Kind::Trap,
            format!("the guest broke the rules of the component model: {text}"),
        );
    }
    failure(Kind::Host, format!("the host could not make an instance of the component: {text}"))
}

/// What it means when the system refused the engine something, most often memory.
fn refused_by_system(error: &wasmtime::Error) -> Option<(Kind, String)> {
    use rustix::io::Errno;
    const NO_MEMORY: &str = "this machine has no memory left for another instance; try again later";
    let no_memory = || Some((Kind::NoCapacity, NO_MEMORY.to_owned()));
    if error.is::<wasmtime::error::OutOfMemory>() {
        return no_memory();
    }
    // The engine hands on what maps memory told it, some of it as an error of the standard library.
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return match *errno {
            Errno::NOMEM | Errno::AGAIN => no_memory(),
            other => Some((Kind::Host, format!("the system refused the engine memory: {other}"))),
        };
    }
    let error = error.downcast_ref::<std::io::Error>()?;
    if error.kind() == std::io::ErrorKind::OutOfMemory { no_memory() } else { None }
}

fn backtrace(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frames = trace.frames().iter().take(20);
    frames
        .map(|frame| Frame {
            function: frame.func_name().map(demangled),
            module: frame.module().name().map(|name| shortened(format_args!("{name}"))),
            offset: frame.module_offset(),
        })
        .collect()
}

/// A function's name as its author wrote it: Rust's symbols are taken apart, without the hashes in them.
fn demangled(name: &str) -> String {
    shortened(format_args!("{:#}", rustc_demangle::demangle(name)))
}

/// The beginning of a text that a guest chose and that may go on for megabytes: what comes after it is never written.
fn shortened(text: std::fmt::Arguments<'_>) -> String {
    const MOST: usize = 500;
    struct Beginning(String);
    impl std::fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let room = MOST - self.0.len();
            if text.len() <= room {
                self.0.push_str(text);
                return Ok(());
            }
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            Err(std::fmt::Error)
        }
    }
    let mut beginning = Beginning(String::new());
    if std::fmt::write(&mut beginning, text).is_err() {
        beginning.0.push('…');
    }
    beginning.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_system_refuses_is_no_fault_of_the_guest() {
        use rustix::io::Errno;
        let kind = |error: wasmtime::Error| refused_by_system(&error).map(|(kind, _)| kind);
        let in_context = |errno: Errno| while_starting(wasmtime::Error::from(errno));
        assert_eq!(kind(Errno::NOMEM.into()), Some(Kind::NoCapacity));
        assert_eq!(kind(in_context(Errno::NOMEM)), Some(Kind::NoCapacity));
        assert_eq!(kind(in_context(Errno::AGAIN)), Some(Kind::NoCapacity));
        assert_eq!(kind(in_context(Errno::PERM)), Some(Kind::Host));
        let io = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        assert_eq!(kind(io.into()), Some(Kind::NoCapacity));
        assert_eq!(kind(Trap::UnreachableCodeReached.into()), None);
    }

    #[test]
    fn names_are_cut_between_characters_and_short_ones_are_not() {
        assert_eq!(
            demangled("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        let name = "é".repeat(50_000);
        assert_eq!(demangled(&name), format!("{}…", "é".repeat(250)));
        assert_eq!(demangled(&"a".repeat(500)), "a".repeat(500));
    }
}
