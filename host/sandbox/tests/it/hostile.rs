//! Guests that lie, stall and break rules. Each ends in a named error, and none of them harms the next call.

use std::time::{Duration, Instant};

use omniq_model::Kind;
use omniq_sandbox::{Call, Cancel, Limits, Output};

use crate::kit::{block_on, call, component, function, plain, pooled, run, run_with, sandbox};
use crate::limits::sleeper;

fn traps(bytes: &[u8], says: &str) {
    let failure = run(bytes, Limits::default()).result.expect_err("the guest broke a rule");
    assert_eq!(failure.kind, Kind::Trap, "{failure:?}");
    assert!(failure.message.contains(says), "`{}` does not say `{says}`", failure.message);
}

/// Returns whatever the two words at address 0 say: a pointer and a length.
fn returns(first: &str, second: &str, result: &str) -> Vec<u8> {
    plain(
        &format!(
            "(func (export \"run\") (result i32)
               (i32.store (i32.const 0) (i32.const {first})) (i32.store (i32.const 4) (i32.const {second}))
               (i32.const 0))"
        ),
        &format!("(result {result})"),
    )
}

#[test]
fn a_list_that_points_outside_of_memory() {
    for (address, length) in
        [("65536", "1"), ("65000", "1000"), ("-1", "1"), ("0", "-1"), ("-8", "16")]
    {
        traps(&returns(address, length, "(list u8)"), "outside of memory");
        traps(&returns(address, length, "string"), "out of bounds");
    }
    traps(&returns("65000", "536870913", "(list u64)"), "outside of memory");
}

#[test]
fn a_list_that_is_not_aligned() {
    traps(&returns("66", "1", "(list u32)"), "not aligned");
}

#[test]
fn a_result_address_outside_of_memory() {
    let guest =
        plain("(func (export \"run\") (result i32) (i32.const 65532))", "(result (tuple u32 u32))");
    traps(&guest, "outside of memory");
    let guest =
        plain("(func (export \"run\") (result i32) (i32.const 2))", "(result (tuple u32 u32))");
    traps(&guest, "not aligned");
}

#[test]
fn values_that_are_none() {
    let gives = |value: &str, result: &str| {
        plain(
            &format!("(func (export \"run\") (result i32) (i32.const {value}))"),
            &format!("(result {result})"),
        )
    };
    traps(&gives("0xd800", "char"), "not a character");
    traps(&gives("0x110000", "char"), "not a character");
    traps(&returns("2", "0", "(option u32)"), "not the number of a case");
    traps(&returns("3", "0", "(result u32 (error u32))"), "not the number of a case");
    // Bytes 0xff at address 64 are no text.
    let guest = plain(
        "(data (i32.const 64) \"\\ff\\ff\")
         (func (export \"run\") (result i32)
           (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 2)) (i32.const 0))",
        "(result string)",
    );
    traps(&guest, "utf-8");
}

#[test]
fn an_allocator_that_lies() {
    let guest = |body: &str| {
        component(&format!(
            "(component (core module $code (memory (export \"memory\") 1)
                 (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) {body})
                 (func (export \"run\") (param i32 i32)))
               (core instance $code (instantiate $code))
               (func (export \"run\") (param \"text\" (list u32))
                 (canon lift (core func $code \"run\") (memory (core memory $code \"memory\")) (realloc (core func $code \"realloc\")))))"
        ))
    };
    let ends = |body: &str, kind: Kind| {
        let limits = Limits { fuel: 10_000_000, ..Limits::default() };
        let failure =
            run_with(&guest(body), b"\x81\x83\x01\x02\x03", limits).result.expect_err("it lied");
        assert_eq!(failure.kind, kind, "{failure:?}");
    };
    ends("(i32.const -4)", Kind::Trap);
    ends("(i32.const 65532)", Kind::Trap);
    ends("(i32.const 1)", Kind::Trap);
    ends("unreachable", Kind::Trap);
    ends("(loop (br 0)) unreachable", Kind::Fuel);
}

#[test]
fn a_guest_that_fails_before_it_is_called() {
    let start = |body: &str, extra: &str| {
        component(&format!(
            "(component (core module $code (memory 1) {extra} (func $start {body}) (start $start) (func (export \"run\")))
               (core instance $code (instantiate $code))
               (func (export \"run\") (canon lift (core func $code \"run\"))))"
        ))
    };
    traps(&start("unreachable", ""), "unreachable");
    traps(&start("", "(data (i32.const 65536) \"beyond\")"), "out of bounds");
    let limits = Limits { fuel: 1000, ..Limits::default() };
    assert_eq!(
        run(&start("(loop (br 0))", ""), limits).result.expect_err("stops").kind,
        Kind::Fuel
    );
}

#[test]
fn a_trap_names_the_guest_s_functions() {
    let guest = plain(
        "(func $divide_by_zero (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
         (func $compute (result i32) (call $divide_by_zero))
         (func (export \"run\") (result i32) (call $compute))",
        "(result s32)",
    );
    let failure = run(&guest, Limits::default()).result.expect_err("traps");
    let names: Vec<_> =
        failure.backtrace.iter().filter_map(|frame| frame.function.as_deref()).collect();
    assert_eq!(names[..2], ["divide_by_zero", "compute"], "{failure:?}");
}

#[test]
fn a_trap_cuts_names_of_100_kb() {
    let name = "a".repeat(100_000);
    let guest =
        plain(&format!("(func ${name} unreachable) (func (export \"run\") (call ${name}))"), "");
    let failure = run(&guest, Limits::default()).result.expect_err("traps");
    let innermost = failure.backtrace.first().and_then(|frame| frame.function.as_deref());
    assert_eq!(innermost, Some(&*format!("{}…", "a".repeat(500))));
}

fn cancelled_soon(bytes: &[u8]) {
    let cancel = Cancel::new();
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    let call = Call { cancel: cancel.clone(), limits, ..call() };
    let function = function(sandbox(), bytes);
    let started = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let running = scope.spawn(|| function.call_blocking(b"\x80", call));
        cancel.cancel();
        running.join().expect("the host does not panic")
    });
    let took = started.elapsed();
    assert_eq!(outcome.result.expect_err("was stopped").kind, Kind::Cancelled);
    assert!(took < Duration::from_secs(5), "took {took:?}");
    // Its grace counts from when it was asked, which may be before its thread got to run.
    assert!(took >= Cancel::GRACE, "it had its time to notice, not {took:?}");
}

#[test]
fn a_cancelled_guest_is_stopped_whatever_it_does() {
    cancelled_soon(&plain("(func (export \"run\") (loop (br 0)))", ""));
    cancelled_soon(&sleeper());
}

#[test]
fn a_dropped_call_stops_its_guest() {
    let function = function(sandbox(), &sleeper());
    let started = Instant::now();
    block_on(async {
        let call = function.call(b"\x80", call());
        assert!(
            tokio::time::timeout(Duration::from_millis(50), call).await.is_err(),
            "it sleeps for an hour"
        );
    });
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux says");
    let pages: u64 =
        status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[test]
fn a_thousand_hostile_calls_do_not_harm_the_next() {
    let hostile = [
        plain("(func (export \"run\") (loop (br 0)))", ""),
        plain("(func $deep (export \"run\") (call $deep))", ""),
        plain("(func (export \"run\") unreachable)", ""),
        plain(
            "(func (export \"run\") (drop (memory.grow (i32.const 100))) (memory.fill (i32.const 0) (i32.const 1)
               (i32.mul (memory.size) (i32.const 65536))) unreachable)",
            "",
        ),
        returns("-1", "-1", "(list u8)"),
    ];
    let functions: Vec<_> = [sandbox(), pooled()]
        .into_iter()
        .flat_map(|sandbox| hostile.iter().map(|bytes| function(sandbox, bytes)))
        .collect();
    let round = |count: usize| {
        for index in 0..count {
            let limits = Limits { fuel: 2_000_000, ..Limits::default() };
            let outcome = functions[index % functions.len()]
                .call_blocking(b"\x80", Call { limits, ..call() });
            assert!(outcome.result.is_err());
        }
    };
    round(100);
    let before = resident();
    round(1000);
    // Other tests run at the same time in this process: what they use comes and goes, what is lost here stays.
    let started = Instant::now();
    loop {
        let after = resident();
        if after < before + (32 << 20) {
            break;
        }
        let waited = started.elapsed();
        assert!(
            waited < Duration::from_secs(30),
            "resident memory went from {before} to {after} bytes"
        );
        round(10);
    }

    let good = plain(
        "(func (export \"run\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))",
        "(param \"a\" s32) (param \"b\" s32) (result s32)",
    );
    assert_eq!(
        run_with(&good, b"\x82\x05\x0a", Limits::default()).result,
        Ok(Output::Value(vec![15]))
    );
}
