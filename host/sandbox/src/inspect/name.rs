//! How exports are named, and how a name that somebody typed finds the function it means.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use omniq_model::Kind;
use serde::{Deserialize, Serialize};

use super::error::shorten;
use super::nearest;

/// The name of a function, in full: `add` at the component's root, or `acme:jobs/calc@1.0.0#add` in an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct FunctionName {
    /// The interface that exports it, exactly as the component names it; `None` at the root.
    pub interface: Option<String>,
    /// The name inside the interface.
    pub function: String,
}

impl FunctionName {
    /// Its short form inside its interface: `calc.add`, without the package and the version.
    fn in_interface(&self) -> Option<String> {
        let interface = Interface::parse(self.interface.as_deref()?);
        Some(format!("{}.{}", interface.short(), self.function))
    }

    /// Its form without the version: `acme:jobs/calc#add`.
    fn without_version(&self) -> Option<String> {
        let interface = Interface::parse(self.interface.as_deref()?);
        Some(format!("{}#{}", interface.name, self.function))
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{interface}#{}", self.function),
            None => f.write_str(&self.function),
        }
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.to_string()
    }
}

/// Reads the full form; every text is one.
impl From<String> for FunctionName {
    fn from(text: String) -> Self {
        match text.rsplit_once('#') {
            Some((interface, function)) => {
                Self { interface: Some(interface.to_owned()), function: function.to_owned() }
            }
            None => Self { interface: None, function: text },
        }
    }
}

impl FromStr for FunctionName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.to_owned().into())
    }
}

/// An interface's name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interface<'a> {
    /// Without the version: `acme:jobs/calc`.
    pub(super) name: &'a str,
    /// `1.0.0`
    pub(super) version: Option<&'a str>,
}

impl<'a> Interface<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        match text.split_once('@') {
            Some((name, version)) => Self { name, version: Some(version) },
            None => Self { name: text, version: None },
        }
    }

    /// Without the package: `calc`.
    pub(super) fn short(&self) -> &'a str {
        self.name.rsplit_once('/').map_or(self.name, |(_package, short)| short)
    }

    /// Whether somebody who writes `wanted` can mean this one.
    fn answers_to(&self, wanted: &Interface<'_>) -> bool {
        (wanted.name == self.name || wanted.name == self.short())
            && (wanted.version.is_none() || wanted.version == self.version)
    }
}

/// A name that means no function, or several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such function.
    #[error("{}", not_found(wanted, nearest, *more))]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// The short names of the most similar functions, the nearest first; at most ten.
        nearest: Vec<String>,
        /// How many functions there are besides.
        more: usize,
    },
    /// There are several such functions.
    #[error("`{}` names several functions; say which: {}", shorten(wanted), some(candidates, *more))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The short names of those it can mean; at most ten.
        candidates: Vec<String>,
        /// How many it can mean besides.
        more: usize,
    },
}

impl LookupError {
    /// What went wrong, as a program sees it.
    pub fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// A short name takes a look at every function, so that an error has no more than a person would read.
const LISTED: usize = 10;

fn not_found(wanted: &str, nearest: &[String], more: usize) -> String {
    let start = format!("the component has no function `{}`", shorten(wanted));
    if nearest.is_empty() {
        return start;
    }
    let all = some(nearest, more);
    match nearest::suggestion(wanted, nearest.iter().map(String::as_str)) {
        Some(name) => format!("{start} (it has {all}); did you mean `{}`?", shorten(name)),
        None => format!("{start}; it has {all}"),
    }
}

fn some(names: &[String], more: usize) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", shorten(name))).collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Finds the function that `wanted` means among `names`.
///
/// The full form always means its own function. Every shorter one means whatever it fits, as long as that is one.
pub(super) fn find(wanted: &str, names: &[&FunctionName]) -> Result<usize, LookupError> {
    let fitting = candidates(wanted, names);
    let listed = |names_of: &[&FunctionName]| {
        names_of.iter().take(LISTED).map(|name| short(name, names)).collect()
    };
    match fitting[..] {
        [only] => Ok(only),
        [] => {
            let (_, function) = split(wanted);
            let sorted =
                nearest::sorted_by(function, names.to_vec(), |name| name.function.as_str());
            let more = sorted.len().saturating_sub(LISTED);
            Err(LookupError::NotFound { wanted: wanted.to_owned(), nearest: listed(&sorted), more })
        }
        _ => {
            let fitting: Vec<_> = fitting.iter().map(|index| names[*index]).collect();
            let (candidates, more) = (listed(&fitting), fitting.len().saturating_sub(LISTED));
            Err(LookupError::Ambiguous { wanted: wanted.to_owned(), candidates, more })
        }
    }
}

/// Finds the function that `wanted` means, if it is one; without the cost of saying why not.
pub(super) fn position(wanted: &str, names: &[&FunctionName]) -> Option<usize> {
    match candidates(wanted, names)[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// The shortest form that [`find`] understands as `name`.
pub(super) fn short(name: &FunctionName, names: &[&FunctionName]) -> String {
    let forms = [Some(name.function.clone()), name.in_interface(), name.without_version()];
    forms
        .into_iter()
        .flatten()
        .find(|form| matches!(candidates(form, names)[..], [only] if names[only] == name))
        .unwrap_or_else(|| name.to_string())
}

fn candidates(wanted: &str, names: &[&FunctionName]) -> Vec<usize> {
    let (interface, function) = split(wanted);
    let fits = |name: &FunctionName| {
        name.function == function
            && match (&interface, &name.interface) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wanted), Some(interface)) => Interface::parse(interface).answers_to(wanted),
            }
    };
    let is_full = |name: &FunctionName| match &name.interface {
        Some(interface) => {
            wanted.strip_prefix(interface.as_str()).and_then(|rest| rest.strip_prefix('#'))
                == Some(name.function.as_str())
        }
        None => wanted == name.function,
    };
    match names.iter().position(|name| is_full(name)) {
        Some(exact) => vec![exact],
        None => (0..names.len()).filter(|index| fits(names[*index])).collect(),
    }
}

/// Takes `calc.add`, `calc#add`, `acme:jobs/calc@1.0.0#add` or `add` apart.
fn split(wanted: &str) -> (Option<Interface<'_>>, &str) {
    // A version has dots as well, so a `#` decides; the last dot does where there is none.
    let parts = wanted.rsplit_once('#').or_else(|| wanted.rsplit_once('.'));
    match parts {
        Some((interface, function)) => (Some(Interface::parse(interface)), function),
        None => (None, wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<FunctionName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(all: &[&str], wanted: &str, expected: Result<&str, &str>) {
        let all = names(all);
        let all: Vec<_> = all.iter().collect();
        let found = find(wanted, &all).map(|index| all[index].to_string());
        match expected {
            Ok(name) => assert_eq!(found.as_deref(), Ok(name), "{wanted}"),
            Err(message) => assert_eq!(found.unwrap_err().to_string(), message, "{wanted}"),
        }
    }

    const ALL: &[&str] = &[
        "resize",
        "acme:jobs/calc@1.0.0#add",
        "acme:jobs/calc@1.0.0#sub",
        "acme:jobs/calc@2.0.0#add",
        "other:jobs/calc#div",
        "math#sub",
        "math#resize",
    ];

    #[test]
    fn every_form_that_means_one_function_finds_it() {
        for (wanted, expected) in [
            ("resize", "resize"),
            ("math.resize", "math#resize"),
            ("math#resize", "math#resize"),
            ("calc.sub", "acme:jobs/calc@1.0.0#sub"),
            ("calc#sub", "acme:jobs/calc@1.0.0#sub"),
            ("calc@1.0.0#add", "acme:jobs/calc@1.0.0#add"),
            ("calc@2.0.0.add", "acme:jobs/calc@2.0.0#add"),
            ("acme:jobs/calc.sub", "acme:jobs/calc@1.0.0#sub"),
            ("acme:jobs/calc#sub", "acme:jobs/calc@1.0.0#sub"),
            ("acme:jobs/calc@2.0.0#add", "acme:jobs/calc@2.0.0#add"),
            ("acme:jobs/calc@2.0.0.add", "acme:jobs/calc@2.0.0#add"),
            ("div", "other:jobs/calc#div"),
        ] {
            check(ALL, wanted, Ok(expected));
        }
    }

    #[test]
    fn a_name_for_several_lists_them() {
        check(
            ALL,
            "add",
            Err("`add` names several functions; say which: \
                 `acme:jobs/calc@1.0.0#add`, `acme:jobs/calc@2.0.0#add`"),
        );
        check(ALL, "sub", Err("`sub` names several functions; say which: `calc.sub`, `math.sub`"));
        // The short forms of the two packages would be the same, so both are given in a longer one.
        check(
            &["a:x/calc@1.0.0#add", "b:x/calc#add"],
            "calc.add",
            Err("`calc.add` names several functions; say which: `a:x/calc#add`, `b:x/calc#add`"),
        );
    }

    #[test]
    fn a_name_for_none_suggests_the_nearest() {
        check(
            &["resize", "calc#add"],
            "rezise",
            Err(
                "the component has no function `rezise` (it has `resize`, `add`); did you mean `resize`?",
            ),
        );
        check(
            &["add"],
            "acme:jobs/calc@1.0.0#add",
            Err("the component has no function `acme:jobs/calc@1.0.0#add`; it has `add`"),
        );
        check(&[], "add", Err("the component has no function `add`"));
        for wanted in ["", "#", ".", "a.", ".add", "#add", "calc@3.0.0#add", "é#ü"] {
            let all = names(ALL);
            let all: Vec<_> = all.iter().collect();
            assert!(matches!(find(wanted, &all), Err(LookupError::NotFound { .. })), "{wanted}");
        }
    }

    #[test]
    fn the_short_form_leads_back_to_its_function() {
        let all = names(ALL);
        let all: Vec<_> = all.iter().collect();
        let short: Vec<_> = all.iter().map(|name| short(name, &all)).collect();
        assert_eq!(
            short,
            [
                "resize",
                "acme:jobs/calc@1.0.0#add",
                "calc.sub",
                "acme:jobs/calc@2.0.0#add",
                "div",
                "math.sub",
                "math.resize"
            ]
        );
        for (index, form) in short.iter().enumerate() {
            assert_eq!(find(form, &all), Ok(index));
        }
    }

    #[test]
    fn a_function_may_have_the_name_of_an_interface() {
        let all = ["a:b/c@1.0.0", "a:b/c@1.0.0#add", "add"];
        for name in all {
            check(&all, name, Ok(name));
        }
    }

    #[test]
    fn a_name_is_text_in_json() {
        let name = &names(&["acme:jobs/calc@1.0.0#add"])[0];
        let written = serde_json::to_string(name).unwrap();
        assert_eq!(written, "\"acme:jobs/calc@1.0.0#add\"");
        assert_eq!(&serde_json::from_str::<FunctionName>(&written).unwrap(), name);
    }
}
