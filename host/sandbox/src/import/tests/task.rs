//! Guests that say more through `omniq:task` than the host keeps.

use super::linked::{PAYLOAD, import};
use super::{Host, data, guest, run_to_end};
use crate::Call;

/// Sets a cursor of `length` bytes that says it is `media_type`; 0 if it was taken, else 100 and the number of the denial.
fn cursor(media_type: &str, length: u32) -> Vec<u8> {
    let types = import(PAYLOAD.interface, "0.1.0", PAYLOAD.types, PAYLOAD.body);
    let progress = import(
        "omniq:task/progress",
        "0.1.0",
        &[],
        r#"(export "heartbeat" (func (param "cursor" (option $payload)) (result (result (error $denial)))))"#,
    );
    let hosts = [Host {
        name: "heartbeat",
        func: "$omniq-task-progress \"heartbeat\"",
        ty: "(param i32 i32 i32 i32 i32 i32)",
    }];
    let body = format!(
        r#"{data}
           (func (export "run") (result i32)
             (call $heartbeat (i32.const 1) (i32.const 0) (i32.const {media}) (i32.const 0) (i32.const {length})
               (i32.const 2048))
             (if (result i32) (i32.load8_u (i32.const 2048))
               (then (i32.add (i32.const 100) (i32.load8_u (i32.const 2052))))
               (else (i32.const 0))))"#,
        data = data(media_type),
        media = media_type.len(),
    );
    guest(&format!("{types}{progress}"), &hosts, &body)
}

#[test]
fn a_cursor_is_bounded_with_what_it_says_it_is() {
    const OVER_QUOTA: u64 = 101;
    const BAD_ARGUMENT: u64 = 102;
    let long = |length: usize| format!("text/{}", "x".repeat(length - 5));
    for (media_type, length, answer) in [
        ("application/cbor", 64 << 10, 0),
        ("application/cbor", (64 << 10) + 1, OVER_QUOTA),
        (&long(255), 1, 0),
        (&long(256), 1, BAD_ARGUMENT),
        ("nothing", 1, BAD_ARGUMENT),
    ] {
        let ended = run_to_end(&cursor(media_type, length), Call::default());
        assert_eq!(ended, (answer, Vec::new()), "{media_type:.20} {length}");
    }
}
