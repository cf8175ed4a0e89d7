//! Adds up a CSV table by groups: a component with its own WIT, built by `cargo component build`.
//!
//! The types and the trait come from `wit/world.wit`; cargo-component writes them to `bindings.rs` at every build.

#[rustfmt::skip]
#[allow(clippy::all, warnings, reason = "written by cargo-component")]
mod bindings;
mod summary;

use bindings::exports::example::report::tables::{Error, Guest, Query, Summary};

struct Report;

impl Guest for Report {
    fn summarize(csv: Vec<u8>, query: Query) -> Result<Summary, Error> {
        summary::summarize(&csv, &query)
    }

    fn columns(csv: Vec<u8>) -> Result<Vec<String>, Error> {
        summary::columns(&csv)
    }
}

bindings::export!(Report with_types_in bindings);
