//! WAVE, the text people type: values written as WIT would write them (`wave_ebnf.md` of the crate `wasm-wave`).
//!
//! The reader is one pass over the text, directed by the type, into canonical CBOR. The parser of `wasm-wave` is not
//! used: it builds a tree of some fifty bytes per value first, and its lexer recurses per character wherever the
//! optimiser does not turn that into a loop, so a few megabytes of text exhaust the stack. Tests hold the two to the
//! same values. Beyond the grammar, keys may be written in snake_case and camelCase, and labels that are also keywords
//! need no `%` where the type leaves no doubt.

mod read;
mod text;
mod write;

use omniq_model::wit::{Signature, Type};

pub(super) use self::read::read_into;
use self::write::WaveFormat;
use super::print;
use super::sink::Sink;
use super::{Bounds, Error};

/// Reads a value of `ty` from WAVE text and gives it as canonical CBOR.
///
/// # Errors
/// The text is not WAVE, does not fit the type, or exceeds the bounds.
pub fn read(ty: &Type, text: &str, bounds: &Bounds) -> Result<Vec<u8>, Error> {
    let mut sink = Sink::new(bounds, text.len());
    read_into(&mut sink, ty, text)?;
    sink.finish()
}

/// Writes a value of `ty`, given as canonical CBOR, as WAVE text on one line.
///
/// # Errors
/// The bytes are not the canonical CBOR of a value of `ty`.
pub fn write(ty: &Type, canonical: &[u8]) -> Result<String, Error> {
    print::value::<WaveFormat>(ty, canonical)
}

/// Writes canonical arguments as the arguments of a WAVE call, `(1, "a")`, in the order of the parameters.
pub(super) fn write_args(signature: &Signature, canonical: &[u8]) -> Result<String, Error> {
    print::fields::<WaveFormat>(&signature.params, canonical, ('(', ')'), |_, _| {})
}
