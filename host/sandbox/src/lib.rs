//! Runs WebAssembly components under hard limits: typed values in, typed values and a bill out. Useful without a queue.
//!
#![cfg_attr(feature = "engine", doc = "```no_run")]
#![cfg_attr(not(feature = "engine"), doc = "```ignore")]
//! use omniq_sandbox::{Call, Output, Sandbox, value};
//!
//! let sandbox = Sandbox::builder().open()?;
//! let module = sandbox.load(&std::fs::read("add.wasm")?)?;
//! let add = module.function("add")?;
//! let args = value::args::from_json(add.signature(), b"[5, 10]", &value::Bounds::default())?;
//! let outcome = add.call_blocking(&args, Call::default());
//! assert_eq!(outcome.result?, Output::Value(vec![15]));
//! println!("{} units of fuel", outcome.usage.fuel);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without the feature `engine` the crate reads, checks and prints: [`inspect`] and [`value`] need no engine.

pub mod inspect;
pub mod value;

#[cfg(feature = "engine")]
mod abi;
#[cfg(feature = "engine")]
pub mod cache;
#[cfg(feature = "engine")]
mod call;
#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "engine")]
mod error;
#[cfg(feature = "engine")]
mod grant;
#[cfg(feature = "engine")]
pub mod import;
#[cfg(feature = "engine")]
mod limit;
#[cfg(feature = "engine")]
mod module;
#[cfg(feature = "engine")]
mod outcome;
#[cfg(feature = "engine")]
mod seam;

pub use inspect::{Inspection, Profile, Rules};

#[cfg(feature = "engine")]
pub use {
    call::{Admission, Call, Command},
    engine::{Allocation, ENGINE_VERSION},
    error::Error,
    grant::{Clock, DirGrant, GrantError, Grants, Random},
    limit::{Cancel, Limits},
    module::{Builder, Function, Module, Sandbox, Step},
    outcome::{Denial, Failure, Frame, Outcome, Output, Usage},
};
