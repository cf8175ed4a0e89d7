//! Inspection of bytes that nobody has looked at: it ends, it never panics, and what it says of a component holds.
//!
//! An input is read three times: as a component, as the text form of one, and as damage to one of a few valid
//! components, since nearly all random bytes are refused at their first section.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use omniq_sandbox::inspect::{Error, Inspection, Profile, Rules, inspect, text};

/// Valid components to damage, in binary form.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    [
        include_str!("../seeds/inspect/functions.wat"),
        include_str!("../seeds/inspect/types.wat"),
        include_str!("../seeds/inspect/command.wat"),
        include_str!("../seeds/inspect/async.wat"),
        include_str!("../seeds/inspect/nested.wat"),
    ]
    .map(|seed| text::to_binary(seed.as_bytes(), None).expect("a seed is valid").into_owned())
    .into()
});

fuzz_target!(|input: &[u8]| {
    check(input);
    if let Ok(binary) = text::to_binary(input, Some("input.wat")) {
        check(&binary);
    }
    if let [seed, damage @ ..] = input {
        check(&damaged(&SEEDS[usize::from(*seed) % SEEDS.len()], damage));
    }
});

/// Does to a component what `damage` says, four bytes at a time: a place, what to do there, and a byte to do it with.
fn damaged(component: &[u8], damage: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    for step in damage.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([step[0], step[1]])) % (bytes.len() + 1);
        match step[2] % 4 {
            0 => bytes.insert(at, step[3]),
            1 => drop(bytes.drain(at..(at + usize::from(step[3])).min(bytes.len()))),
            2 => bytes.extend_from_within(at..(at + usize::from(step[3])).min(bytes.len())),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= step[3];
                }
            }
        }
    }
    bytes
}

fn check(bytes: &[u8]) {
    let full = inspect(bytes, &Rules { profile: Profile::Full, ..Rules::default() });
    let strict = inspect(bytes, &Rules::default());
    for result in [&full, &strict] {
        match result {
            Ok(inspection) => check_inspection(inspection, bytes),
            Err(error) => check_error(error),
        }
    }
    if let Ok(strict) = strict {
        assert_eq!(Ok(strict), full, "what the strict profile runs the full one runs as well");
    }
}

fn check_inspection(inspection: &Inspection, bytes: &[u8]) {
    assert_eq!(inspection.size, bytes.len() as u64);
    assert!(!inspection.shapes().is_empty());
    for function in &inspection.functions {
        let full = function.name.to_string();
        assert_eq!(inspection.function(&full), Ok(function));
        let short = inspection.short_name(&function.name);
        assert_eq!(inspection.function(&short), Ok(function), "{short}");
        assert!(short.len() <= full.len(), "{short} is longer than {full}");
    }
    let json = serde_json::to_string(inspection).expect("an inspection has only text and numbers");
    let read: Inspection = serde_json::from_str(&json).expect("its own JSON can be read");
    assert_eq!(&read, inspection);
}

fn check_error(error: &Error) {
    let message = error.to_string();
    // Ten names of at most 200 characters, each with a reason.
    assert!(!message.is_empty() && message.chars().count() < 6000, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}
