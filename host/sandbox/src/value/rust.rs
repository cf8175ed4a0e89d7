//! Values of Rust programs, through serde: arguments from anything that can be serialized, results into anything that
//! can be deserialized.
//!
//! Names are WIT's, kebab-case; fields of arguments may be snake_case as Rust has them. Types that are to be read back,
//! and enums in both directions, say `#[serde(rename_all = "kebab-case")]`. Bytes may be a `Vec<u8>` in arguments; in
//! results they want `serde_bytes` or the like, since serde takes a plain `Vec<u8>` for a list of numbers.

use omniq_model::wit::Signature;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Bounds, Error, args};

/// Why a Rust value could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RustError {
    /// It serializes to something that CBOR cannot say.
    #[error("the arguments cannot be serialized: {0}")]
    Serialize(String),
    /// It does not fit the signature.
    #[error(transparent)]
    Mismatch(#[from] Error),
    /// The value has another shape than the Rust type.
    #[error("the value cannot be read as `{ty}`: {reason}")]
    Deserialize {
        /// The Rust type.
        ty: &'static str,
        /// What serde said.
        reason: String,
    },
}

/// Arguments in canonical CBOR from a tuple or array (in order), or a struct or map (by name).
///
/// # Errors
/// [`RustError::Mismatch`] if they do not fit the signature.
pub fn args<T: Serialize + ?Sized>(
    signature: &Signature,
    values: &T,
    bounds: &Bounds,
) -> Result<Vec<u8>, RustError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(values, &mut bytes)
        .map_err(|error| RustError::Serialize(error.to_string()))?;
    Ok(args::from_cbor(signature, &bytes, bounds)?)
}

/// A result in canonical CBOR as a Rust value.
///
/// # Errors
/// [`RustError::Deserialize`] if it has another shape.
pub fn result<T: DeserializeOwned>(canonical: &[u8]) -> Result<T, RustError> {
    ciborium::from_reader(canonical).map_err(|error| RustError::Deserialize {
        ty: std::any::type_name::<T>(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use omniq_model::wit::{Field, Type};
    use serde::Deserialize;

    use super::*;

    fn add() -> Signature {
        let param = |name: &str| Field { name: name.to_owned(), ty: Type::S32 };
        Signature {
            params: vec![param("first-number"), param("b")],
            result: Some(Type::S32),
            is_async: false,
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Numbers {
        b: i32,
        first_number: i32,
    }

    #[test]
    fn arguments_come_in_order_or_by_name() {
        let in_order = args(&add(), &(5, -10), &Bounds::default()).unwrap();
        let by_name = Numbers { b: -10, first_number: 5 };
        assert_eq!(args(&add(), &by_name, &Bounds::default()).unwrap(), in_order);
        let refused = args(&add(), &(5, "ten"), &Bounds::default()).unwrap_err();
        assert!(refused.to_string().contains("`b` must be s32"), "{refused}");
    }

    #[test]
    fn a_result_is_read_or_says_why_not() {
        assert_eq!(result::<i32>(&[0x0f]).unwrap(), 15);
        let refused = result::<String>(&[0x0f]).unwrap_err();
        assert!(refused.to_string().contains("String"), "{refused}");
    }
}
