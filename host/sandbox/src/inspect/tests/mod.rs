//! Whole components, written as text: what inspection says of them, and why it refuses them.

mod exports;
mod hostile;
mod imports;
mod real;
mod refusals;
mod text;

use super::*;
use export::Exports;

/// `(a: s32, b: s32) -> s32`, lifted from a real core function, without imports.
const ADD: &str = r#"
    (core module $m (func (export "add") (param i32 i32) (result i32)
        (i32.add (local.get 0) (local.get 1))))
    (core instance $i (instantiate $m))
    (func $add (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add")))"#;

/// The binary form of `(component …)` around the parts.
fn binary(parts: &[&str]) -> Vec<u8> {
    let text = format!("(component {})", parts.join("\n"));
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// What the default rules make of a component of these parts.
fn check(parts: &[&str]) -> Result<Inspection, Error> {
    inspect(&binary(parts), &Rules::default())
}

#[track_caller]
fn accepted(parts: &[&str]) -> Inspection {
    check(parts).unwrap_or_else(|error| panic!("{error}"))
}

/// The message with which the default rules refuse a component of these parts.
#[track_caller]
fn refused(parts: &[&str]) -> String {
    let error = check(parts).expect_err("accepted");
    assert_eq!(error.kind(), omniq_model::Kind::InvalidComponent);
    error.to_string()
}

/// A component that imports the interface and exports it again: its types without any code. Only the exports of such
/// a component can be looked at, since nobody serves its import.
fn interface(name: &str, body: &str) -> Vec<u8> {
    binary(&[&format!(r#"(import "{name}" (instance $i {body})) (export "{name}" (instance $i))"#)])
}

/// The exports of a component, whatever it imports, with the features on that messages need.
fn exports(binary: &[u8], rules: &Rules) -> Result<Exports, Error> {
    match read::read(binary, profile::EXPLAINED, rules) {
        Ok(component) => export::read(&component, rules),
        Err(Failure::Feature(feature)) => panic!("{feature:?} is off"),
        Err(Failure::Other(error)) => Err(error),
    }
}

/// Each line `name(signature)`.
fn signatures(exports: &Exports) -> Vec<String> {
    exports
        .functions
        .iter()
        .map(|function| format!("{}{}", function.name, function.signature))
        .collect()
}

/// Each line `name: reason`.
fn reasons(others: &[OtherExport]) -> Vec<String> {
    others.iter().map(|other| format!("{}: {}", other.name, other.reason)).collect()
}
