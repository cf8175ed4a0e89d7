//! The table of settings: the rows that code, messages and documentation share, and how sections are declared.

use serde_json::Value as Json;

use super::origin::Origin;
pub use super::setting::ROWS;

/// All that is known of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// Its key in `omniq.toml`: section, dot, name.
    pub key: &'static str,
    /// The variable it is read from, and its aliases.
    pub variables: &'static [&'static str],
    /// What it is when nobody sets it, as it would be written; empty where it has no value then.
    pub default: &'static str,
    /// What having no value means; empty where it always has one.
    pub unset: &'static str,
    /// The least and the most, as they would be written.
    pub range: Option<(&'static str, &'static str)>,
    /// What may be written.
    pub forms: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

impl Row {
    /// The part of the key before the dot.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(section, _)| section)
    }

    /// What may be written, with its range.
    pub fn allowed(&self) -> String {
        match self.range {
            Some((from, to)) => format!("{}, from {from} to {to}", self.forms),
            None => self.forms.to_owned(),
        }
    }

    /// What may be written, in a few words: `a time, from 1s to 1h`.
    pub fn brief(&self) -> String {
        let forms = self.forms.split(" such as").next().unwrap_or(self.forms);
        match self.range {
            Some((from, to)) => format!("{forms}, from {from} to {to}"),
            None => forms.to_owned(),
        }
    }

    /// What it is when nobody sets it, in words where it then has no value.
    pub fn default_text(&self) -> &'static str {
        if self.default.is_empty() { self.unset } else { self.default }
    }
}

/// A value in use, ready to be shown. Secrets are hidden.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Shown {
    /// Which setting it is of.
    pub row: &'static Row,
    /// For people: reads back, and is empty where there is no value.
    pub text: String,
    /// For programs: times in seconds, sizes in bytes, `null` where there is no value.
    pub json: Json,
    /// Where it came from.
    pub origin: Origin,
}

/// A section whose settings are shown as they were read.
pub(super) trait Section {
    /// The keys, the texts for people and the values for programs.
    fn show(&self) -> Vec<(&'static str, String, Json)>;
}

/// The setting of a key.
pub(crate) fn row(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key == key)
}

/// The setting of a key that is written in the code.
pub(crate) fn known(key: &'static str) -> &'static Row {
    row(key).expect("the keys in the code are in the table")
}

/// The sections of the file, each once, in the order of the table.
pub(crate) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    ROWS.iter()
        .map(Row::section)
        .filter(move |section| std::mem::replace(&mut last, section) != *section)
}

/// Declares all sections: for each a struct with a field per setting, and how it is read and shown; for all of them the
/// rows of the table.
///
/// `field: Type = "key", ["VARIABLE", "ALIAS"], default "text" or "what no value means", from "least" to "most";`
macro_rules! settings {
    (
        $(
            $(#[doc = $section_doc:literal])+
            $visibility:vis struct $name:ident {
                $(
                    $(#[doc = $doc:literal])+
                    $field:ident: $ty:ty = $key:literal, [$variable:literal $(, $alias:literal)*],
                    default $default:literal $(or $unset:literal)? $(, from $from:literal to $to:literal)?;
                )+
            }
        )+
    ) => {
        /// Every setting, in the order of the documentation.
        pub static ROWS: &[$crate::config::table::Row] = &[$($(
            $crate::config::table::Row {
                key: $key,
                variables: &[$variable $(, $alias)*],
                default: $default,
                unset: concat!($($unset)?),
                range: $crate::config::table::settings!(@range $($from, $to)?),
                forms: <$ty as $crate::config::value::Value>::FORMS,
                doc: concat!($($doc, "\n"),+),
            },
        )+)+];

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            $visibility struct $name {
                $(
                    $(#[doc = $doc])+
                    #[doc = ""]
                    #[doc = concat!(
                        "`", $variable, "`, `", $key, "` in the file. Default: ",
                        $default $(, $unset)?, "." $(, " From ", $from, " to ", $to, ".")?
                    )]
                    pub $field: $ty,
                )+
            }

            impl $name {
                pub(in $crate::config) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Self {
                    Self { $($field: reader.get($crate::config::table::known($key)),)+ }
                }

            }

            impl $crate::config::table::Section for $name {
                fn show(&self) -> Vec<(&'static str, String, serde_json::Value)> {
                    use $crate::config::value::Value as _;
                    vec![$(($key, self.$field.show(), self.$field.json()),)+]
                }
            }
        )+
    };
    (@range) => { None };
    (@range $from:literal, $to:literal) => { Some(($from, $to)) };
}
pub(crate) use settings;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_and_variables_are_unique_and_sections_stand_together() {
        let keys: BTreeSet<_> = ROWS.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), ROWS.len());
        let variables: Vec<_> = ROWS.iter().flat_map(|row| row.variables).collect();
        assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len());
        assert!(variables.iter().all(|name| name.starts_with("OMNIQ_")));
        assert_eq!(sections().collect::<BTreeSet<_>>().len(), sections().count());
    }

    #[test]
    fn every_row_says_what_it_is_when_nobody_sets_it() {
        for row in ROWS {
            assert!(row.default.is_empty() != row.unset.is_empty(), "{}", row.key);
            assert!(row.key.split('.').count() == 2 && !row.doc.trim().is_empty(), "{}", row.key);
        }
    }
}
