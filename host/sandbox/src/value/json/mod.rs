//! JSON, the friendly edge: what people and web clients write and read.
//!
//! Parsing is `serde_json`'s, directed by the type so that nothing is kept but the canonical CBOR being written.
//! Numbers are taken as text and read by their type, so integers of 64 bits and floats are exact.

mod read;
mod scalar;
mod write;

use omniq_model::wit::{Signature, Type};

use self::read::{Target, parse};
use self::write::Json;
use super::print::{self, Format};
use super::{Bounds, Error};

/// Reads a value of `ty` from JSON text in UTF-8 and gives it as canonical CBOR.
///
/// # Errors
/// The text is not JSON, does not fit the type, or exceeds the bounds.
pub fn read(ty: &Type, text: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Error> {
    parse(text, bounds, Target::Value(ty))
}

/// Reads arguments: an array of them, or an object by name.
pub(super) fn read_args(
    signature: &Signature,
    text: &[u8],
    bounds: &Bounds,
) -> Result<Vec<u8>, Error> {
    parse(text, bounds, Target::Args(&signature.params)).map_err(|error| error.of_call(signature))
}

/// Writes a value of `ty`, given as canonical CBOR, as JSON text on one line.
///
/// # Errors
/// The bytes are not the canonical CBOR of a value of `ty`.
pub fn write(ty: &Type, canonical: &[u8]) -> Result<String, Error> {
    print::value::<Json>(ty, canonical)
}

/// Writes canonical arguments as an object, in the order of the parameters.
pub(super) fn write_args(signature: &Signature, canonical: &[u8]) -> Result<String, Error> {
    print::fields::<Json>(&signature.params, canonical, ('{', '}'), Json::key)
}
