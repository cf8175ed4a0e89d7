//! Bytes that are no component, and components that are not run.

use super::*;

#[track_caller]
fn message(bytes: &[u8]) -> String {
    let error = inspect(bytes, &Rules::default()).expect_err("accepted");
    assert_eq!(error.kind(), omniq_model::Kind::InvalidComponent);
    error.to_string()
}

#[test]
fn bytes_that_are_no_component_are_told_what_they_are() {
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (b"\x7fELF\x02\x01", "this is not WebAssembly but a native program"),
        (b"MZ\x90\0", "this is not WebAssembly but a Windows program"),
        (b"PK\x03\x04....", "this is not WebAssembly but an archive"),
        (b"\x1f\x8b\x08\0", "this is not WebAssembly but an archive"),
        (b"#!/bin/sh\n", "this is not WebAssembly but a script"),
        (b"package a:b;", "this is not WebAssembly but text"),
        (b"\xff\xfe\0\0", "this is not WebAssembly but some other data"),
        (b"\0as", "the component is cut off"),
        (b"\0asm\x0d\0", "the component is cut off"),
        (b"\0asm\x0e\0\x01\0", "the binary format has version 0xe of layer 1"),
        (b"\0asm\x02\0\0\0", "the binary format has version 0x2 of layer 0"),
        (
            b"\0asm\x01\0\0\0",
            "this is a core module, not a component; build it with `cargo build --target wasm32-wasip2`, or wrap it with `wasm-tools component new`",
        ),
        (b"\0asm\x0d\0\x01\0", "the component has nothing to run: it exports nothing"),
        (b"\0asm\x0d\0\x01\0\xff\x01x", "the component is not valid, at byte"),
    ] {
        let message = message(bytes);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_core_module_for_wasi_0_1_is_told_about_the_adapter() {
    let module = wat::parse_str(
        r#"(module (import "env" "x" (func)) (import "wasi_snapshot_preview1" "fd_write" (func)))"#,
    )
    .unwrap();
    assert!(message(&module).contains("--adapt wasi_snapshot_preview1"));
    assert!(message(&module[..module.len() - 3]).starts_with("this is a core module"));
}

#[test]
fn a_component_with_nothing_to_call_says_why_for_each_export() {
    assert_eq!(
        refused(&[r#"(type $r (resource (rep i32))) (export $R "blob" (type $r))
               (core module $m (func (export "open") (result i32) (i32.const 0)))
               (core instance $i (instantiate $m))
               (func $open (result (own $R)) (canon lift (core func $i "open")))
               (export "open" (func $open))
               (core module $empty) (export "code" (core module $empty))"#]),
        "the component has nothing to run: `open` (not a plain value: open result: resource blob), \
         `code` (a core module, not a function)"
    );
    // A WIT package in binary form holds types alone.
    assert!(
        refused(&[r#"(component $t) (export "t" (component $t))"#])
            .ends_with("(a component, not a function)")
    );
    assert!(
        refused(&[r#"(type $t u32) (export "t" (type $t))"#])
            .ends_with("export a function, or `wasi:cli/run`")
    );
}

#[test]
fn a_feature_outside_of_the_profile_is_named() {
    for (body, strict, full) in [
        ("(core module (memory i64 1))", "64-bit memories, which only the full profile runs", None),
        (
            "(core module (memory 1 1 shared))",
            "threads, which no profile runs",
            Some("threads, which no profile runs"),
        ),
        (
            "(core module (type (struct)))",
            "garbage-collected types, which only the full profile runs",
            None,
        ),
        ("(core module (tag))", "exceptions, which only the full profile runs", None),
        (
            "(core module (table 1 externref))",
            "garbage-collected types, which only the full profile runs",
            None,
        ),
        (
            "(core module (memory 1 (pagesize 1)))",
            "custom page sizes, which no profile runs",
            Some("custom page sizes, which no profile runs"),
        ),
        (
            "(type (list u8 4))",
            "lists of fixed length, which no profile runs",
            Some("lists of fixed length, which no profile runs"),
        ),
        (
            "(core func (canon backpressure.inc))",
            "component-model async, which only the full profile runs",
            None,
        ),
    ] {
        let bytes = binary(&[body, ADD, r#"(export "add" (func $add))"#]);
        assert_eq!(message(&bytes), format!("the component needs {strict}"));
        let rules = Rules { profile: Profile::Full, ..Rules::default() };
        let in_full = inspect(&bytes, &rules);
        match full {
            None => assert!(in_full.is_ok(), "{body}: {in_full:?}"),
            Some(full) => {
                assert_eq!(in_full.unwrap_err().to_string(), format!("the component needs {full}"));
            }
        }
    }
}

const ASYNC: &str = r#"
    (core module $am (func (export "wait") (result i32) (i32.const 0))
        (func (export "back") (param i32 i32 i32) (result i32) (i32.const 0)))
    (core instance $ai (instantiate $am))
    (func $wait async (canon lift (core func $ai "wait") async (callback (core func $ai "back"))))
    (export "wait" (func $wait))"#;

#[test]
fn an_async_function_needs_the_full_profile() {
    assert_eq!(
        refused(&[ASYNC]),
        "the component needs component-model async, which only the full profile runs: \
         wait is an async func"
    );
    let rules = Rules { profile: Profile::Full, ..Rules::default() };
    let inspection = inspect(&binary(&[ASYNC]), &rules).unwrap();
    assert!(inspection.function("wait").unwrap().signature.is_async);
}

#[test]
fn a_stream_in_a_signature_is_refused_with_its_path() {
    let body = r#"
        (type $r (record (field "name" u8) (field "body" (stream u8)))) (export $R "request" (type $r))
        (core module $sm (func (export "f") (param i32 i32 i32)))
        (core instance $si (instantiate $sm))
        (func $f (param "size" u8) (param "request" $R) (canon lift (core func $si "f")))
        (export "resize" (func $f))"#;
    let place = "resize param 2 field body: stream<u8>";
    assert_eq!(
        refused(&[body]),
        format!("the component needs component-model async, which no profile runs: {place}")
    );
    let rules = Rules { profile: Profile::Full, ..Rules::default() };
    assert_eq!(
        inspect(&binary(&[body]), &rules).unwrap_err().to_string(),
        format!("the component has nothing to run: `resize` (not a plain value: {place})")
    );
    // Beside a function that can be called it does no harm, but the profile must have the feature.
    let both = binary(&[body, ADD, r#"(export "add" (func $add))"#]);
    assert_eq!(
        message(&both),
        format!(
            "the component needs component-model async, which only the full profile runs: {place}"
        )
    );
    assert_eq!(inspect(&both, &rules).unwrap().functions.len(), 1);
}

#[test]
fn a_broken_rule_is_told_with_its_place() {
    // The export section: its id, its size, one export, a plain name of three letters, a function, and its index.
    let mut bytes = binary(&[ADD, r#"(export "add" (func $add))"#]);
    let section = [11, 9, 1, 0, 3, b'a', b'd', b'd', 1, 0];
    let at = bytes.windows(section.len()).position(|window| window == section).unwrap();
    bytes[at + section.len() - 1] = 9;
    let message = message(&bytes);
    assert!(message.starts_with("the component is not valid, at byte "), "{message}");
    assert!(message.contains("index out of bounds"), "{message}");
}
