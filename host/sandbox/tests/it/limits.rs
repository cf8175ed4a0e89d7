//! A test for each limit, named after its field: a guest that hits it ends with its own kind, and the message names it.

use std::time::{Duration, Instant};

use omniq_model::Kind;
use omniq_sandbox::Limits;

use crate::kit::{component, plain, run, run_with};

const MIB: u64 = 1 << 20;

fn ends(bytes: &[u8], limits: Limits, kind: Kind, says: &str) {
    let outcome = run(bytes, limits);
    let Err(failure) = outcome.result else { panic!("the guest did not hit its limit") };
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.message.contains(says), "`{}` does not say `{says}`", failure.message);
}

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

#[test]
fn fuel() {
    let guest = plain("(func (export \"run\") (loop (br 0)))", "");
    ends(&guest, limits(|limits| limits.fuel = 1_000_000), Kind::Fuel, "1000000 units");
    let outcome = run(&guest, limits(|limits| limits.fuel = 1_000_000));
    assert_eq!(outcome.usage.fuel, 1_000_000);
}

#[test]
fn timeout_of_a_guest_that_computes() {
    let guest = plain("(func (export \"run\") (loop (br 0)))", "");
    let started = Instant::now();
    let timeout = limits(|limits| {
        limits.timeout = Duration::from_millis(100);
        limits.fuel = u64::MAX;
    });
    ends(&guest, timeout, Kind::Timeout, "100ms");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

/// A guest that waits for an hour inside the host.
pub fn sleeper() -> Vec<u8> {
    sleeper_with("")
}

/// The same with other parts beside it.
pub fn sleeper_with(parts: &str) -> Vec<u8> {
    component(&format!(
        r#"(component {parts}
             (import "wasi:io/poll@0.2.0" (instance $poll
               (export "pollable" (type $pollable (sub resource)))
               (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
             (alias export $poll "pollable" (type $pollable))
             (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
               (alias outer 1 $pollable (type $inner))
               (export "pollable" (type $same (eq $inner)))
               (export "subscribe-duration" (func (param "when" u64) (result (own $same))))))
             (core func $subscribe (canon lower (func $clock "subscribe-duration")))
             (core func $block (canon lower (func $poll "[method]pollable.block")))
             (core module $code
               (import "" "subscribe" (func $subscribe (param i64) (result i32)))
               (import "" "block" (func $block (param i32)))
               (func (export "run") (call $block (call $subscribe (i64.const 3_600_000_000_000)))))
             (core instance $code (instantiate $code (with "" (instance
               (export "subscribe" (func $subscribe))
               (export "block" (func $block))))))
             (func (export "run") (canon lift (core func $code "run"))))"#
    ))
}

#[test]
fn timeout_of_a_guest_asleep_in_the_host() {
    let started = Instant::now();
    let timeout = limits(|limits| limits.timeout = Duration::from_millis(100));
    ends(&sleeper(), timeout, Kind::Timeout, "wasi:io/poll");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn timeout_of_a_guest_that_never_stops_calling_its_host() {
    let guest = component(
        r#"(component
             (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
             (core func $now (canon lower (func $clock "now")))
             (core module $code
               (import "" "now" (func $now (result i64)))
               (func (export "run") (loop (drop (call $now)) (br 0))))
             (core instance $code (instantiate $code (with "" (instance (export "now" (func $now))))))
             (func (export "run") (canon lift (core func $code "run"))))"#,
    );
    let timeout = limits(|limits| {
        limits.timeout = Duration::from_millis(100);
        limits.fuel = u64::MAX;
        limits.host_calls = u64::MAX;
    });
    ends(&guest, timeout, Kind::Timeout, "wasi:clocks/monotonic-clock");
}

#[test]
fn cpu() {
    let guest = plain("(func (export \"run\") (loop (br 0)))", "");
    let cpu = limits(|limits| {
        limits.cpu = Duration::from_millis(50);
        limits.fuel = u64::MAX;
    });
    ends(&guest, cpu, Kind::Cpu, "50ms");
}

#[test]
fn memory_that_grows() {
    let guest = plain(
        "(func (export \"run\") (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)",
        "",
    );
    ends(&guest, limits(|limits| limits.memory = 8 * MIB), Kind::Memory, "limit is 8388608");
    let outcome = run(&guest, limits(|limits| limits.memory = 8 * MIB));
    assert!((7 * MIB..=8 * MIB).contains(&outcome.usage.peak_memory), "{:?}", outcome.usage);
}

#[test]
fn memory_the_guest_starts_with() {
    let guest = component(
        "(component (core module $code (memory 200) (func (export \"run\")))
           (core instance $code (instantiate $code))
           (func (export \"run\") (canon lift (core func $code \"run\"))))",
    );
    ends(&guest, limits(|limits| limits.memory = 8 * MIB), Kind::Memory, "13107200 bytes");
}

#[test]
fn a_refused_growth_that_the_guest_gets_over_is_no_failure() {
    let guest = plain(
        "(func (export \"run\") (result i32) (memory.grow (i32.const 1000)))",
        "(result s32)",
    );
    let outcome = run(&guest, limits(|limits| limits.memory = 8 * MIB));
    assert_eq!(outcome.result, Ok(omniq_sandbox::Output::Value(vec![0x20])), "minus one");
}

#[test]
fn table_elements() {
    let guest = plain(
        "(table $t 0 funcref)
         (func (export \"run\")
           (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)",
        "",
    );
    ends(&guest, limits(|limits| limits.table_elements = 10_000), Kind::Tables, "limit is 10000");
}

#[test]
fn instances() {
    let instances = "(core instance (instantiate $part))".repeat(20);
    let guest = component(&format!(
        "(component (core module $part) {instances}
           (core module $code (func (export \"run\"))) (core instance $code (instantiate $code))
           (func (export \"run\") (canon lift (core func $code \"run\"))))"
    ));
    ends(&guest, limits(|limits| limits.instances = 10), Kind::Instances, "instance count");
}

#[test]
fn memories() {
    let memories = "(core instance (instantiate $part))".repeat(20);
    let guest = component(&format!(
        "(component (core module $part (memory 0)) {memories}
           (core module $code (func (export \"run\"))) (core instance $code (instantiate $code))
           (func (export \"run\") (canon lift (core func $code \"run\"))))"
    ));
    ends(&guest, limits(|limits| limits.memories = 10), Kind::Instances, "memory count");
}

#[test]
fn tables() {
    let tables = "(core instance (instantiate $part))".repeat(20);
    let guest = component(&format!(
        "(component (core module $part (table 0 funcref)) {tables}
           (core module $code (func (export \"run\"))) (core instance $code (instantiate $code))
           (func (export \"run\") (canon lift (core func $code \"run\"))))"
    ));
    ends(&guest, limits(|limits| limits.tables = 10), Kind::Tables, "table count");
    run(&guest, limits(|limits| limits.tables = 20)).result.expect("twenty are allowed");
}

#[test]
fn stack() {
    let guest = plain("(func $deep (export \"run\") (call $deep))", "");
    ends(&guest, Limits::default(), Kind::Stack, "nest too deeply");
}

#[test]
fn args() {
    let guest = plain("(func (export \"run\") (param i32 i32))", "(param \"text\" string)");
    let args = [&b"\x81\x79\x04\x00"[..], &[b'a'; 1024]].concat();
    run_with(&guest, &args, Limits::default()).result.expect("fits");
    let outcome = run_with(&guest, &args, limits(|limits| limits.args = 100));
    assert_eq!(outcome.result.expect_err("is too large").kind, Kind::ArgsTooLarge);
}

/// Returns a byte string of `length` bytes, which lies in its memory of 2 MiB.
fn returns_bytes(length: u32) -> Vec<u8> {
    component(&format!(
        "(component (core module $code (memory (export \"memory\") 32)
             (func (export \"run\") (result i32)
               (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {length}))
               (i32.const 0)))
           (core instance $code (instantiate $code))
           (func (export \"run\") (result (list u8)) (canon lift (core func $code \"run\") (memory (core memory $code \"memory\")))))"
    ))
}

#[test]
fn result() {
    let guest = returns_bytes(1_500_000);
    run(&guest, Limits::default()).result.expect("fits");
    ends(&guest, limits(|limits| limits.result = 1_000_000), Kind::OutputTooLarge, "1000000 bytes");
}

#[test]
fn a_result_that_names_the_same_bytes_a_thousand_times() {
    let guest = component(
        "(component (core module $code (memory (export \"memory\") 32)
             (func (export \"run\") (result i32) (local $at i32)
               (loop $again
                 (i32.store (local.get $at) (i32.const 65536))
                 (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const 1000000))
                 (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 8000))))
               (i32.store (i32.const 65528) (i32.const 0)) (i32.store (i32.const 65532) (i32.const 1000))
               (i32.const 65528)))
           (core instance $code (instantiate $code))
           (func (export \"run\") (result (list (list u8)))
             (canon lift (core func $code \"run\") (memory (core memory $code \"memory\")))))",
    );
    ends(&guest, Limits::default(), Kind::OutputTooLarge, "larger than its limit");
}

/// Writes `count` times `length` bytes to stdout or stderr, through the call that takes any number of them.
pub fn writer(stream: &str, count: u64, length: u32) -> Vec<u8> {
    component(&format!(
        r#"(component
             (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
             (alias export $errors "error" (type $error))
             (import "wasi:io/streams@0.2.0" (instance $streams
               (export "output-stream" (type $stream (sub resource)))
               (alias outer 1 $error (type $inner))
               (export "error" (type $same (eq $inner)))
               (type $failure' (variant (case "last-operation-failed" (own $same)) (case "closed")))
               (export "stream-error" (type $failure (eq $failure')))
               (export "[method]output-stream.check-write" (func (param "self" (borrow $stream)) (result (result u64 (error $failure)))))
               (export "[method]output-stream.write" (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $failure)))))))
             (alias export $streams "output-stream" (type $stream))
             (import "wasi:cli/{stream}@0.2.0" (instance $stdio
               (alias outer 1 $stream (type $inner))
               (export "output-stream" (type $same (eq $inner)))
               (export "get-{stream}" (func (result (own $same))))))
             (core module $memory (memory (export "memory") 64)
               (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16)))
             (core instance $memory (instantiate $memory))
             (core func $get (canon lower (func $stdio "get-{stream}")))
             (core func $check (canon lower (func $streams "[method]output-stream.check-write") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
             (core func $write (canon lower (func $streams "[method]output-stream.write") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
             (core module $code
               (import "" "memory" (memory 64))
               (import "" "get" (func $get (result i32)))
               (import "" "check" (func $check (param i32 i32)))
               (import "" "write" (func $write (param i32 i32 i32 i32)))
               (func (export "run") (local $stream i32) (local $left i64)
                 (local.set $stream (call $get))
                 (local.set $left (i64.const {count}))
                 (loop $again
                   (call $check (local.get $stream) (i32.const 0))
                   (call $write (local.get $stream) (i32.const 64) (i32.const {length}) (i32.const 0))
                   (local.set $left (i64.sub (local.get $left) (i64.const 1)))
                   (br_if $again (i64.gt_u (local.get $left) (i64.const 0))))))
             (core instance $code (instantiate $code (with "" (instance
               (export "memory" (memory $memory "memory"))
               (export "get" (func $get)) (export "check" (func $check)) (export "write" (func $write))))))
             (func (export "run") (canon lift (core func $code "run"))))"#
    ))
}

#[test]
fn stdout() {
    // A million bytes in one write: more than the 64 KiB that streams usually take at once.
    let outcome = run(&writer("stdout", 1, 1_000_000), Limits::default());
    outcome.result.expect("fits");
    assert_eq!(outcome.stdout.len(), 1_000_000);
    // A gigabyte.
    let guest = writer("stdout", 1024, 1 << 20);
    ends(
        &guest,
        limits(|limits| limits.stdout = 3 * MIB),
        Kind::OutputTooLarge,
        "stdout is larger",
    );
    let outcome = run(&guest, limits(|limits| limits.stdout = 3 * MIB));
    assert_eq!(outcome.stdout.len() as u64, 3 * MIB, "what came before the limit is kept");
}

#[test]
fn stderr() {
    let guest = writer("stderr", 2, 1000);
    run(&guest, Limits::default()).result.expect("fits");
    ends(&guest, limits(|limits| limits.stderr = 1500), Kind::OutputTooLarge, "stderr is larger");
}

#[test]
fn host_calls() {
    let guest = writer("stdout", 1000, 1);
    run(&guest, Limits::default()).result.expect("2001 calls are few");
    ends(&guest, limits(|limits| limits.host_calls = 100), Kind::HostCalls, "100 times");
}

#[test]
fn handles() {
    let guest = component(
        r#"(component
             (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
             (alias export $poll "pollable" (type $pollable))
             (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
               (alias outer 1 $pollable (type $inner))
               (export "pollable" (type $same (eq $inner)))
               (export "subscribe-duration" (func (param "when" u64) (result (own $same))))))
             (core func $subscribe (canon lower (func $clock "subscribe-duration")))
             (core module $code
               (import "" "subscribe" (func $subscribe (param i64) (result i32)))
               (func (export "run") (loop (drop (call $subscribe (i64.const 1))) (br 0))))
             (core instance $code (instantiate $code (with "" (instance (export "subscribe" (func $subscribe))))))
             (func (export "run") (canon lift (core func $code "run"))))"#,
    );
    ends(&guest, limits(|limits| limits.handles = 100), Kind::Handles, "limit is 100");
}

/// Calls one function of `omniq:task` that takes bytes or text, again and again.
fn chatter(interface: &str, import: &str, lowered: &str, call: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
             {import}
             (core module $memory (memory (export "memory") 64)
               (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16)))
             (core instance $memory (instantiate $memory))
             (core func $say (canon lower (func $host "{lowered}") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
             (core module $code
               (import "" "memory" (memory 64))
               (import "" "say" (func $say {interface}))
               (func (export "run") (loop {call} (br 0))))
             (core instance $code (instantiate $code (with "" (instance
               (export "memory" (memory $memory "memory")) (export "say" (func $say))))))
             (func (export "run") (canon lift (core func $code "run"))))"#
    ))
}

#[test]
fn log_lines() {
    let guest = chatter(
        "(param i32 i32 i32 i32 i32)",
        r#"(import "omniq:task/log@0.1.0" (instance $host
             (type $level' (enum "trace" "debug" "info" "warn" "error"))
             (export "level" (type $level (eq $level')))
             (export "emit" (func (param "level" $level) (param "message" string) (param "fields" (list (tuple string string)))))))"#,
        "emit",
        "(call $say (i32.const 2) (i32.const 64) (i32.const 5) (i32.const 0) (i32.const 0))",
    );
    ends(&guest, limits(|limits| limits.log_lines = 10), Kind::LogLines, "more than 10 log lines");
}

#[test]
fn output() {
    let guest = chatter(
        "(param i32 i32 i32)",
        r#"(import "omniq:task/types@0.1.0" (instance $types
             (type $denial' (variant (case "not-granted" string) (case "over-quota" string)
               (case "bad-argument" string) (case "unavailable" string) (case "other" string)))
             (export "denial" (type (eq $denial')))))
           (alias export $types "denial" (type $denial))
           (import "omniq:task/output@0.1.0" (instance $host
             (alias outer 1 $denial (type $inner))
             (export "denial" (type $same (eq $inner)))
             (export "write" (func (param "bytes" (list u8)) (result (result (error $same)))))))"#,
        "write",
        "(call $say (i32.const 64) (i32.const 1000) (i32.const 0))",
    );
    ends(&guest, limits(|limits| limits.output = 10_000), Kind::OutputTooLarge, "10000 bytes");
}
