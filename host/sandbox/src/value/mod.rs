//! Values: what goes into a function and comes out of it, as CBOR, JSON and WAVE text.
//!
//! `docs/values.md` is the specification; a module here implements one encoding each. The hub is *canonical CBOR*:
//! every reader makes it, every writer starts from it, and the engine lowers it into a guest and lifts it out again.
//! Everything is a single pass directed by the [`Type`](omniq_model::wit::Type): there is no tree of boxed values, so
//! a `list<u8>` is copied in one piece and a million numbers are a million small writes. Every reader works within
//! [`Bounds`] and tells what is wrong through [`Error`].
//!
//! Nothing here needs the engine, so any process that only accepts work can check it.

pub mod args;
pub mod cbor;
pub mod json;
pub mod rust;
pub mod wave;

mod bounds;
mod error;
pub(crate) mod few;
mod names;
mod print;
mod sink;

pub use bounds::Bounds;
pub use error::Error;

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod laws;
