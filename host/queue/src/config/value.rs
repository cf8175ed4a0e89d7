//! What a setting's text may be, type by type: reading, showing, and the words for what is allowed.
//!
//! Every source is text by the time it comes here, so a variable, a flag and a line of a file mean the same. What is
//! shown reads back.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::quantity::{Bytes, Count, Span};

/// A value of a setting.
pub(crate) trait Value: Sized {
    /// What may be written, for messages and the docs.
    const FORMS: &'static str;

    /// Reads text that is not empty; an error adds to what [`Self::FORMS`] says and may be empty.
    fn read(text: &str) -> Result<Self, String>;

    /// Text that reads back; secrets are hidden.
    fn show(&self) -> String;

    /// For programs: numbers as numbers, times in seconds; secrets are hidden.
    fn json(&self) -> Json {
        Json::String(self.show())
    }
}

/// A setting without a value is written as nothing.
impl<T: Value> Value for Option<T> {
    const FORMS: &'static str = T::FORMS;

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }

    fn json(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::json)
    }
}

impl Value for bool {
    const FORMS: &'static str = "`true` or `1`, `false` or `0`";

    fn read(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(String::new()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn json(&self) -> Json {
        json!(self)
    }
}

impl Value for Duration {
    const FORMS: &'static str = "a time such as `30s`, `5m`, `500ms`, or a number of seconds";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map(|span: Span| span.0).map_err(|_| String::new())
    }

    fn show(&self) -> String {
        Span(*self).to_string()
    }

    fn json(&self) -> Json {
        // Whole seconds are by far the most frequent, and look better without a fraction.
        if self.subsec_nanos() == 0 { json!(self.as_secs()) } else { json!(self.as_secs_f64()) }
    }
}

impl Value for Bytes {
    const FORMS: &'static str = "a size such as `65536`, `64KiB` or `1.5GiB`";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn json(&self) -> Json {
        json!(self.0)
    }
}

impl Value for Count {
    const FORMS: &'static str = "a number such as `10000`, `5e9` or `20G`";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn json(&self) -> Json {
        json!(self.0)
    }
}

/// Whole numbers.
macro_rules! whole {
    ($($ty:ty),+) => {
        $(impl Value for $ty {
            const FORMS: &'static str = "a whole number";

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| String::new())
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn json(&self) -> Json {
                json!(self.get())
            }
        })+
    };
}

whole!(NonZeroU16, NonZeroU32);

impl Value for PathBuf {
    const FORMS: &'static str = "the path of a folder";

    fn read(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err(String::from("a path holds no NUL"));
        }
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// Declares a choice between names: an enum, its names, and how it is read.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal $(or $alias:literal)*, )+ }
        forms $forms:literal
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// How it is written.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        /// Reads a name in capitals or small letters.
        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let is = |name: &str| name.eq_ignore_ascii_case(text);
                $( if is($text) $(|| is($alias))* { return Ok(Self::$variant); } )+
                Err(String::from($forms))
            }
        }

        impl $crate::config::value::Value for $name {
            const FORMS: &'static str = $forms;

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| String::new())
            }

            fn show(&self) -> String {
                self.name().to_owned()
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Value + PartialEq + std::fmt::Debug>(rows: &[(&str, Option<T>)]) {
        for (text, expected) in rows {
            let read = T::read(text).ok();
            assert_eq!(read.as_ref(), expected.as_ref(), "{text}");
            if let Some(value) = read {
                assert_eq!(T::read(&value.show()).ok().as_ref(), Some(&value), "{text} shown");
            }
        }
    }

    #[test]
    fn texts_of_each_type() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        check(&[
            ("1", Some(true)),
            ("TRUE", Some(true)),
            ("0", Some(false)),
            ("yes", None),
            ("2", None),
        ]);
        check(&[
            ("30", seconds(30)),
            ("30s", seconds(30)),
            ("5m", seconds(300)),
            ("-1", None),
            ("soon", None),
        ]);
        check(&[("64KiB", Some(Bytes(65536))), ("64 XB", None)]);
        check(&[("20G", Some(Count(20_000_000_000))), ("many", None)]);
        check(&[("8", NonZeroU32::new(8)), ("0", None), ("4294967296", None), ("1.5", None)]);
        check(&[("a/b", Some(PathBuf::from("a/b"))), ("a\0b", None)]);
        check::<Option<bool>>(&[("", Some(None)), ("1", Some(Some(true))), ("x", None)]);
    }

    #[test]
    fn programs_get_numbers() {
        for (json, expected) in [
            (Duration::from_secs(300).json(), "300"),
            (Duration::from_millis(1500).json(), "1.5"),
            (Bytes(8192).json(), "8192"),
            (true.json(), "true"),
            (None::<bool>.json(), "null"),
            (PathBuf::from("x").json(), "\"x\""),
        ] {
            assert_eq!(json.to_string(), expected);
        }
    }
}
