//! Values as the user asked for them.

use omniq_model::Kind;
use omniq_model::wit::Type;
use omniq_sandbox::value;

use super::problem::Problem;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// WebAssembly Value Encoding: text as in WIT
    Wave,
    /// One line of JSON; failures are written to stdout as well
    Json,
    /// Deterministic CBOR, the form that OmniQ stores
    Cbor,
}

/// The bytes that go to stdout for a result of type `ty`; `None` where the function returns nothing.
///
/// # Errors
/// The value is not of its type, which no guest can bring about.
pub fn encode(format: Format, ty: Option<&Type>, cbor: &[u8]) -> Result<Vec<u8>, Problem> {
    let text = match (format, ty) {
        (Format::Cbor, _) => return Ok(cbor.to_vec()),
        (Format::Wave, None) => return Ok(Vec::new()),
        (Format::Json, None) => Ok(String::from("null")),
        (Format::Wave, Some(ty)) => value::wave::write(ty, cbor),
        (Format::Json, Some(ty)) => value::json::write(ty, cbor),
    };
    let text = text.map_err(|error| Problem::new(Kind::Host, error.to_string()))?;
    Ok((text + "\n").into_bytes())
}

/// A value in WAVE, for a message.
pub fn text_of(ty: &Type, cbor: &[u8]) -> String {
    value::wave::write(ty, cbor).unwrap_or_else(|_| format!("a {ty}"))
}
