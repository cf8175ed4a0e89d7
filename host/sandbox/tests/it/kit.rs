//! What the tests share: one sandbox, and guests written in the component model's text form.

use std::sync::OnceLock;

use omniq_model::Kind;
use omniq_sandbox::{Allocation, Call, Function, Limits, Outcome, Profile, Sandbox};

/// The sandbox most tests use: memory on demand, nothing cached.
pub fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::builder().open().expect("the engine runs here"))
}

/// The same with a pool, as a worker has it.
pub fn pooled() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| pool(8))
}

/// A pool of its own for a test.
pub fn pool(instances: u32) -> Sandbox {
    let allocation = Allocation::Pooled { instances };
    let sandbox = Sandbox::builder().allocation(allocation).open().expect("the engine runs here");
    assert_eq!(sandbox.allocation(), allocation, "this machine has room for it");
    sandbox
}

/// The same in the full profile.
pub fn full() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        Sandbox::builder().profile(Profile::Full).open().expect("the engine runs here")
    })
}

/// A component from its text.
pub fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A component of one core module that exports `run`, lifted as `func` says, such as `(result u32)`.
pub fn plain(body: &str, func: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
             (core module $code
               (memory (export "memory") 1)
               (global $next (mut i32) (i32.const 1024))
               (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                 (local $at i32)
                 (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
                 (global.set $next (i32.add (local.get $at) (local.get 3)))
                 (local.get $at))
               {body})
             (core instance $code (instantiate $code))
             (func (export "run") {func}
               (canon lift (core func $code "run") (memory (core memory $code "memory")) (realloc (core func $code "realloc")))))"#
    ))
}

pub fn function(sandbox: &Sandbox, bytes: &[u8]) -> Function {
    sandbox.load(bytes).expect("the guest loads").function("run").expect("the guest exports `run`")
}

/// Calls `run` without arguments.
pub fn run(bytes: &[u8], limits: Limits) -> Outcome {
    run_with(bytes, b"\x80", limits)
}

/// Calls `run` with arguments in CBOR, on each path and wherever memory may come from: all must end the same way.
pub fn run_with(bytes: &[u8], args: &[u8], limits: Limits) -> Outcome {
    let call = || Call { limits: limits.clone(), ..call() };
    let kind = |outcome: &Outcome| outcome.result.as_ref().map_err(|failure| failure.kind).cloned();
    let [on_demand, pooled] = [sandbox(), pooled()].map(|sandbox| {
        let function = function(sandbox, bytes);
        let blocking = function.call_blocking(args, call());
        let suspended = block_on(function.call(args, call()));
        assert_eq!(kind(&blocking), kind(&suspended), "on a thread and on a fiber");
        blocking
    });
    assert_eq!(kind(&on_demand), kind(&pooled), "on demand and in a pool");
    if !matches!(kind(&pooled), Err(Kind::Timeout | Kind::Cpu)) {
        assert_eq!(on_demand.usage.fuel, pooled.usage.fuel, "on demand and in a pool");
    }
    assert_eq!(on_demand.usage.peak_memory, pooled.usage.peak_memory, "on demand and in a pool");
    pooled
}

/// A call with the defaults.
pub fn call() -> Call {
    Call::default()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime starts"))
        .block_on(future)
}
