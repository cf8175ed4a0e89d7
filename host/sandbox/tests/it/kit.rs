//! What the tests share: one sandbox, and guests written in the component model's text form.

use std::sync::OnceLock;

use omniq_sandbox::{Call, Function, Limits, Outcome, Profile, Sandbox};

/// The sandbox every test uses: slots on demand, nothing cached.
pub fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::builder().open().expect("the engine runs here"))
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

pub fn function(bytes: &[u8]) -> Function {
    sandbox()
        .load(bytes)
        .expect("the guest loads")
        .function("run")
        .expect("the guest exports `run`")
}

/// Calls `run` without arguments.
pub fn run(bytes: &[u8], limits: Limits) -> Outcome {
    run_with(bytes, b"\x80", limits)
}

/// Calls `run` with arguments in CBOR, once on each path: both must end the same way.
pub fn run_with(bytes: &[u8], args: &[u8], limits: Limits) -> Outcome {
    let function = function(bytes);
    let call = || Call { limits: limits.clone(), ..call() };
    let blocking = function.call_blocking(args, call());
    let suspended = block_on(function.call(args, call()));
    let kind = |outcome: &Outcome| outcome.result.as_ref().map_err(|failure| failure.kind).cloned();
    assert_eq!(kind(&blocking), kind(&suspended), "on a thread and on a fiber");
    blocking
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
