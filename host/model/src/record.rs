//! How records are written down: CBOR maps with small integer keys, open at the end.
//!
//! Several versions of OmniQ work on one store at the same time. A field that this version does not know is kept in
//! `unknown` and written back unchanged, so an older process that rewrites a record loses nothing. A key is never
//! reused for another meaning; fields equal to their default are not written.

use std::collections::BTreeMap;

use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Fields of a newer version, by their key.
pub type Unknown = BTreeMap<u64, Value>;

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} is not readable: {reason}")]
pub struct DecodeError {
    /// Which record, such as `task`.
    pub what: &'static str,
    /// What is wrong with the bytes.
    pub reason: String,
}

/// Writes a record as CBOR.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    ciborium::into_writer(record, &mut bytes)
        .expect("records have no value that CBOR cannot hold, and a vector takes all");
    bytes
}

/// How long the stored form of a record is, without making it.
pub fn encoded_len<T: Serialize>(record: &T) -> usize {
    let mut count = Count(0);
    ciborium::into_writer(record, &mut count)
        .expect("records have no value that CBOR cannot hold, and counting never fails");
    count.0
}

/// Takes everything and keeps only how much it was.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a record; `what` names it in the error.
///
/// # Errors
/// [`DecodeError`] when the bytes are not that record, or when something follows it.
pub fn decode<T: DeserializeOwned>(what: &'static str, mut bytes: &[u8]) -> Result<T, DecodeError> {
    // Nesting is bounded by the reader's own default; our records nest less than ten deep.
    let record = ciborium::from_reader(&mut bytes)
        .map_err(|error| DecodeError { what, reason: error.to_string() })?;
    if bytes.is_empty() {
        Ok(record)
    } else {
        Err(DecodeError { what, reason: format!("{} bytes follow it", bytes.len()) })
    }
}

/// Whether a field need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares a record: a struct whose fields have integer keys.
///
/// `1 => id: TaskId` must be there; `2 => labels: Labels = default` is left out when it equals its default. Every record
/// ends with a field `unknown`, which holds what a newer version wrote.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $key:literal => $field:ident : $ty:ty $(= $default:ident)?, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )+
            /// Fields of a newer version, kept as they are.
            pub unknown: $crate::record::Unknown,
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut count = self.unknown.len();
                $( if $crate::record::record!(@written self $field $($default)?) { count += 1; } )+
                let mut map = serializer.serialize_map(Some(count))?;
                $( if $crate::record::record!(@written self $field $($default)?) {
                    map.serialize_entry(&($key as u64), &self.$field)?;
                } )+
                for (key, value) in &self.unknown {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a map with integer keys")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $( let mut $field: Option<$ty> = None; )+
                        let mut unknown = $crate::record::Unknown::new();
                        while let Some(key) = map.next_key::<u64>()? {
                            match key {
                                $( $key => $field = Some(map.next_value()?), )+
                                other => { unknown.insert(other, map.next_value()?); }
                            }
                        }
                        Ok($name {
                            $( $field: $crate::record::record!(@taken $field $key $($default)?), )+
                            unknown,
                        })
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
    (@written $self:ident $field:ident) => { true };
    (@written $self:ident $field:ident default) => { !$crate::record::is_default(&$self.$field) };
    (@taken $field:ident $key:literal) => {
        match $field {
            Some(value) => value,
            None => return Err(serde::de::Error::custom(concat!(
                "field ", stringify!($key), " (`", stringify!($field), "`) is missing"
            ))),
        }
    };
    (@taken $field:ident $key:literal default) => { $field.unwrap_or_default() };
}
pub(crate) use record;

/// Declares an enum that is written as a small number and keeps numbers of a newer version as `Other`.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $number:literal $text:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )+
            /// Written by a newer version; this one leaves it alone.
            Other(u8),
        }

        impl $name {
            /// Every value this version knows, in the order of its declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The number it is stored as; it never changes.
            pub const fn number(self) -> u8 {
                match self { $($name::$variant => $number,)+ $name::Other(number) => number }
            }

            /// The value stored as `number`.
            pub const fn from_number(number: u8) -> Self {
                match number { $($number => $name::$variant,)+ other => $name::Other(other) }
            }

            /// The word for it, as people and programs read it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ $name::Other(_) => "unknown" }
            }

            /// The value with that [`name`](Self::name).
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.name())
                } else {
                    serializer.serialize_u8(self.number())
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                u8::deserialize(deserializer).map(Self::from_number)
            }
        }
    };
}
pub(crate) use numbered;

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        /// What an old version knows.
        pub struct Old {
            /// First.
            1 => id: u32,
            /// Second.
            2 => name: String = default,
        }
    }

    record! {
        /// What a new version writes.
        pub struct New {
            /// First.
            1 => id: u32,
            /// Second.
            2 => name: String = default,
            /// Third.
            9 => extra: Vec<u32> = default,
        }
    }

    #[test]
    fn an_old_version_gives_back_what_it_does_not_know() {
        let new = New { id: 7, name: "n".into(), extra: vec![1, 2], unknown: Unknown::new() };
        let mut old: Old = decode("old", &encode(&new)).unwrap();
        old.name = "changed".into();
        let back: New = decode("new", &encode(&old)).unwrap();
        assert_eq!((back.id, back.name.as_str(), back.extra), (7, "changed", vec![1, 2]));
    }

    #[test]
    fn defaults_are_not_written_and_required_fields_are_missed() {
        let bytes = encode(&Old { id: 7, name: String::new(), unknown: Unknown::new() });
        assert_eq!(bytes, [0xa1, 1, 7]);
        let error = decode::<Old>("old", &[0xa0]).unwrap_err();
        assert!(error.to_string().contains("field 1 (`id`) is missing"), "{error}");
        assert!(decode::<Old>("old", &[0xa1, 1, 7, 0]).is_err(), "a byte follows");
        assert!(decode::<Old>("old", &[]).is_err());
    }
}
