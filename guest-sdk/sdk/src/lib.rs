//! Write OmniQ tasks as plain Rust functions.
//!
//! ```
//! # use omniq_guest as omniq;
//! #[omniq::tasks]
//! mod tasks {
//!     /// How often a word occurs in a text, in any case.
//!     pub fn count(text: &str, word: String) -> u64 {
//!         text.split_whitespace().filter(|w| w.eq_ignore_ascii_case(&word)).count() as u64
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Depend on this crate as `omniq = { package = "omniq-guest", … }`, build with
//! `cargo build --target wasm32-wasip2`, and `omniq run FILE count …` calls the function.
//!
//! The macro [`tasks`] turns a module into a component, without a `.wit` file. Everything else here is a thin wrapper
//! around what the host offers to a running task: [`context`], [`progress`], [`log`] and [`output`]. What a task does
//! not use, its component does not ask for. [`Failure`] says what is to happen after an attempt failed.
//!
//! Outside of a component, which is where the unit tests of a task run, the wrappers work too: every request succeeds
//! and has no effect, [`context::get`] tells of a first and only attempt, and log lines go to stderr.
//!
//! The guide for authors is `docs/tasks-in-rust.md`.

pub mod context;
mod contract;
mod failure;
pub mod handler;
pub mod log;
mod native;
pub mod output;
mod payload;
pub mod progress;

pub use failure::{Denial, Failure, Retry};
pub use handler::Handler;
pub use omniq_guest_macros::tasks;
pub use payload::Payload;

/// What the macros refer to; not meant to be used by hand, and free to change.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::omniq;
    pub use crate::contract::{from_wit, into_wit};
    pub use crate::handler::export;
    pub use wit_bindgen;
}

mod bindings {
    //! What `wit/` says, as Rust.
    #![allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
    #![allow(
        clippy::allow_attributes_without_reason,
        unsafe_code,
        reason = "written by wit-bindgen"
    )]
    wit_bindgen::generate!({ world: "imports", path: "../../wit", generate_unused_types: true });
}
