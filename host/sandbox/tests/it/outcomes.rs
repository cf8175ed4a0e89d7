//! What comes out of a call: results, errors of the guest's own, exits, and the bill.

use omniq_model::Kind;
use omniq_model::wit::Type;
use omniq_sandbox::{Admission, Call, Command, Limits, Output};

use crate::kit::{block_on, call, component, full, plain, pool, run, run_with, sandbox};
use crate::limits::sleeper;

const DIVIDE: &str = "
    (func (export \"run\") (param i32 i32) (result i32)
      (if (i32.eqz (local.get 1))
        (then (i32.store (i32.const 0) (i32.const 1)) (i32.store8 (i32.const 4) (i32.const 7)))
        (else (i32.store (i32.const 0) (i32.const 0))
              (i32.store (i32.const 4) (i32.div_s (local.get 0) (local.get 1)))))
      (i32.const 0))";

#[test]
fn a_result_is_taken_apart() {
    let guest =
        plain(DIVIDE, "(param \"a\" s32) (param \"b\" s32) (result (result s32 (error u8)))");
    let outcome = run_with(&guest, b"\x82\x18\x2a\x06", Limits::default());
    assert_eq!(outcome.result, Ok(Output::Value(vec![7])));

    let failure =
        run_with(&guest, b"\x82\x01\x00", Limits::default()).result.expect_err("divides by zero");
    assert_eq!(failure.kind, Kind::ErrResult);
    assert_eq!(failure.error, Some((Some(Type::U8), vec![7])));
}

#[test]
fn a_function_without_a_result_gives_null() {
    let guest = plain("(func (export \"run\"))", "");
    assert_eq!(run(&guest, Limits::default()).result, Ok(Output::Value(vec![0xf6])));
}

#[test]
fn arguments_that_do_not_fit_never_reach_the_guest() {
    let guest = plain("(func (export \"run\") (param i32) unreachable)", "(param \"width\" u8)");
    for args in [
        &b"\x80"[..],
        b"\x81\x19\x01\x00",
        b"\x81\x20",
        b"\x82\x01\x01",
        b"\xa1\x61x\x01",
        b"\xff",
        b"",
    ] {
        let outcome = run_with(&guest, args, Limits::default());
        assert_eq!(outcome.usage.fuel, 0);
        assert_eq!(outcome.result.expect_err("does not fit").kind, Kind::ArgsMismatch);
    }
}

/// A command that exits with the status `code` gives, or returns from `run`.
fn exits(code: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
             (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
             (core func $exit (canon lower (func $exit "exit")))
             (core module $code
               (import "" "exit" (func $exit (param i32)))
               (func (export "run") (result i32) {code}))
             (core instance $code (instantiate $code (with "" (instance (export "exit" (func $exit))))))
             (func $run (result (result)) (canon lift (core func $code "run")))
             (func (export "typed") (result (result)) (canon lift (core func $code "run")))
             (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#
    ))
}

#[test]
fn a_command_succeeds_or_fails() {
    let ends = |code: &str| {
        let module = sandbox().load(&exits(code)).expect("loads");
        let blocking = module.run_blocking(Command::default(), call());
        let suspended = block_on(module.run(Command::default(), call()));
        assert_eq!(blocking.result, suspended.result);
        blocking.result.map_err(|failure| failure.kind)
    };
    assert_eq!(ends("(i32.const 0)"), Ok(Output::Command));
    assert_eq!(ends("(i32.const 1)"), Err(Kind::Exit));
    assert_eq!(ends("(call $exit (i32.const 0)) unreachable"), Ok(Output::Command));
    assert_eq!(ends("(call $exit (i32.const 1)) unreachable"), Err(Kind::Exit));
    assert_eq!(ends("unreachable"), Err(Kind::Trap));
}

#[test]
fn a_typed_call_that_exits_has_no_result() {
    for status in ["0", "1"] {
        let guest = exits(&format!("(call $exit (i32.const {status})) unreachable"));
        let typed = sandbox().load(&guest).expect("loads").function("typed").expect("is there");
        assert_eq!(
            typed.call_blocking(b"\x80", call()).result.expect_err("no result").kind,
            Kind::Exit
        );
    }
}

#[test]
fn what_is_no_command_says_what_it_is() {
    let module = sandbox().load(&plain("(func (export \"run\"))", "")).expect("loads");
    let failure = module.run_blocking(Command::default(), call()).result.expect_err("is none");
    assert_eq!(
        (failure.kind, failure.message.contains("`run`") || failure.message.contains("run")),
        (Kind::NotFound, true)
    );
}

#[test]
fn a_failure_is_billed_like_a_success() {
    let guest = plain(
        "(func (export \"run\") (local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 100000)))) unreachable)",
        "",
    );
    let outcome = run(&guest, Limits::default());
    assert_eq!(outcome.result.expect_err("traps").kind, Kind::Trap);
    let usage = outcome.usage;
    assert!(usage.fuel > 100_000, "{usage:?}");
    assert_eq!(usage.peak_memory, 65536);
    assert!(!usage.wall.is_zero() && !usage.cpu.is_zero(), "{usage:?}");
}

#[test]
fn an_async_function_needs_the_full_profile() {
    let guest = component(
        r#"(component
             (core func $return (canon task.return (result u32)))
             (core module $code
               (import "" "return" (func $return (param i32)))
               (func (export "run") (param i32) (result i32) (call $return (i32.add (local.get 0) (i32.const 1))) (i32.const 0))
               (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
             (core instance $code (instantiate $code (with "" (instance (export "return" (func $return))))))
             (func (export "run") async (param "x" u32) (result u32)
               (canon lift (core func $code "run") async (callback (core func $code "callback")))))"#,
    );
    let refused = sandbox().load(&guest).expect_err("the strict profile has no async functions");
    assert_eq!(refused.kind(), Kind::InvalidComponent);
    assert!(refused.to_string().contains("full"), "{refused}");

    let function = full().load(&guest).expect("loads").function("run").expect("is there");
    assert!(function.signature().is_async);
    assert_eq!(
        function.call_blocking(b"\x81\x18\x29", call()).result,
        Ok(Output::Value(vec![0x18, 42]))
    );
}

#[test]
fn a_full_pool_makes_callers_wait_or_refuses_them() {
    let pool = pool(2);
    let asleep = pool.load(&sleeper()).expect("loads").function("run").expect("is there");
    let quick = pool
        .load(&plain("(func (export \"run\"))", ""))
        .expect("loads")
        .function("run")
        .expect("is there");
    block_on(async {
        let held: Vec<_> = (0..2)
            .map(|_| {
                let asleep = asleep.clone();
                tokio::spawn(async move { asleep.call(b"\x80", call()).await })
            })
            .collect();
        while pool.free_slots() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = quick.call(b"\x80", Call { admission: Admission::Refuse, ..call() }).await;
        assert_eq!(refused.result.expect_err("there is no slot").kind, Kind::NoCapacity);

        let waiting = tokio::spawn(async move { quick.call(b"\x80", call()).await });
        held[0].abort();
        assert_eq!(waiting.await.expect("runs").result, Ok(Output::Value(vec![0xf6])));
        held[1].abort();
    });
}
