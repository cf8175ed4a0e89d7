//! Numbers and bytes, from the text that JSON has for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omniq_model::wit::Type;

use crate::value::Error;
use crate::value::cbor::Major;
use crate::value::sink::Sink;

/// Writes what base64 text stands for; `None` if it is not base64.
pub(super) fn base64(sink: &mut Sink<'_>, text: &str) -> Option<Result<(), Error>> {
    let padding = text.bytes().rev().take_while(|&byte| byte == b'=').count();
    let length = (text.len() / 4 * 3).checked_sub(padding)?;
    if let Err(error) = sink.room(length) {
        return Some(Err(error));
    }
    sink.out.head(Major::Bytes, length as u64);
    let start = sink.out.len();
    STANDARD.decode_vec(text, sink.out.buffer()).ok()?;
    (sink.out.len() - start == length).then_some(Ok(()))
}

/// The integer that a token of JSON says, fractions of zeros allowed; `quotable` if it may be a decimal string.
///
/// An integer too long for any type is not one.
pub(super) fn integer(token: &str, quotable: bool) -> Option<i128> {
    /// Digits of 2⁶⁴, the most a type needs.
    const DIGITS: usize = 20;
    let quoted = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let number = match quoted {
        Some(inner) if quotable => inner,
        Some(_) => return None,
        None => token,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if quoted.is_none() => (whole, fraction),
        _ => (number, ""),
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let plain = !digits.is_empty()
        && digits.len() <= DIGITS
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = digits == "0" || !digits.starts_with('0');
    let whole =
        (plain && shortest && fraction.bytes().all(|byte| byte == b'0')).then_some(whole)?;
    whole.parse().ok()
}

/// The float of type `ty` nearest to a token of JSON.
pub(super) fn float(ty: &Type, token: &str) -> Option<f64> {
    match token {
        r#""nan""# => return Some(f64::NAN),
        r#""inf""# => return Some(f64::INFINITY),
        r#""-inf""# => return Some(f64::NEG_INFINITY),
        _ if !token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            return None;
        }
        _ => {}
    }
    // Straight to the width that is asked for: by way of `f64` a number would be rounded twice.
    let value = if *ty == Type::F32 {
        f64::from(token.parse::<f32>().ok()?)
    } else {
        token.parse().ok()?
    };
    value.is_finite().then_some(value)
}
