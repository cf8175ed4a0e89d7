//! Components of other languages: each does the same five jobs, and gives the same answers.
//!
//! Real toolchains import most of WASI, in several versions, export more than they were asked for, and want megabytes of
//! memory before they start. All of that must just run, within the default limits and with nothing granted.

use crate::support::built::component;
use crate::support::omniq::Omniq;

/// Runs a job of a language's component; `None` if the component was left out.
fn job(language: &str, words: &[&str]) -> Option<String> {
    let file = component("polyglot", &format!("{language}.wasm"))?;
    Some(Omniq::new(["run", &file].iter().chain(words)).says())
}

fn answers(language: &str) {
    let says = |words: &[&str], expected: &str| {
        if let Some(answer) = job(language, words) {
            assert_eq!(answer.trim_end(), expected, "{language}: {words:?}");
        }
    };
    says(&["add", "5", "10"], "15");
    says(&["add", "2147483647", "1"], "-2147483648");
    says(&["greet", "name=Ada"], "\"Hello, Ada!\"");
    says(&["greet", "\"Zoë 🦀\""], "\"Hello, Zoë 🦀!\"");
    says(&["stats", "[1, 2, 6]"], "{count: 3, mean: 3.0, minimum: 1.0, maximum: 6.0}");
    says(&["parse", "\"42\""], "42");
    says(&["checksum", "[111, 109, 110, 105, 113]"], &fnv(b"omniq").to_string());

    let Some(file) = component("polyglot", &format!("{language}.wasm")) else { return };
    let refused = Omniq::new(["run", &file, "parse", "\"four\""]).in_json().end();
    assert_eq!(refused.code, 9, "{language}: {}", refused.stderr);
    assert_eq!(refused.error()["kind"], "err-result");
    assert_eq!(refused.error()["value"], "not a number: four");
}

/// FNV-1a with 64 bits (Fowler, Noll and Vo).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn python() {
    answers("python");
}

#[test]
fn javascript() {
    answers("javascript");
}

#[test]
fn typescript() {
    answers("typescript");
}

#[test]
fn c() {
    answers("c");
}

#[test]
fn cpp() {
    answers("cpp");
}

#[test]
fn zig() {
    answers("zig");
}

#[test]
fn go() {
    answers("go");
}

#[test]
fn commands_count_what_they_read() {
    for language in ["c-command", "zig-command", "go-command"] {
        let Some(file) = component("polyglot", &format!("{language}.wasm")) else { continue };
        let counted = Omniq::new(["run", &file]).stdin("to be\nor not to be\n").says();
        let numbers: Vec<u32> =
            counted.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers, [2, 6, 19], "{language}: {counted}");
    }
}
