//! Why a value was refused: where it is, what its type asks for, and what came.

use std::fmt::{self, Write as _};
use std::io;

use omniq_model::Kind;
use omniq_model::wit::{Signature, Type};

use super::cbor::Flaw;

/// Longest rendering of a value or a type in a message, in characters.
const SHOWN: usize = 60;

/// A value that does not fit its type, is not well-formed, or is larger than it may be.
///
/// The message names the place as a path, such as `items[3].price`; for arguments the path starts with the
/// parameter's name.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    /// The innermost step first: every level adds its own on the way out, so that success pays nothing for paths.
    path: Vec<Step>,
    problem: Problem,
    /// Shown where the shape of the whole argument list is the problem.
    signature: Option<String>,
}

#[derive(Debug)]
enum Step {
    Name(String),
    Index(usize),
}

/// What members of the failing place are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    Field,
    Argument,
    Flag,
}

#[derive(Debug)]
enum Problem {
    Mismatch { expected: String, got: String, hint: Option<String> },
    Missing { noun: Noun, name: String, ty: String },
    Unknown { noun: Noun, name: String, hint: Option<String> },
    Repeated { noun: Noun, name: String },
    Ambiguous { noun: Noun, name: String },
    Malformed { format: &'static str, detail: String },
    Arity { want: usize, got: usize },
    File { name: String, source: io::Error },
    Deep { limit: u32 },
    Many { limit: u64 },
    Large { limit: usize },
}

impl Error {
    fn new(problem: Problem) -> Self {
        Self(Box::new(Inner { path: Vec::new(), problem, signature: None }))
    }

    /// A value of `ty` is needed; `got` came.
    #[cold]
    pub(super) fn mismatch(ty: &Type, got: impl Into<String>) -> Self {
        Self::expected(expected(ty), got)
    }

    /// What `expected` says is needed; `got` came.
    #[cold]
    pub(super) fn expected(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::new(Problem::Mismatch { expected: expected.into(), got: got.into(), hint: None })
    }

    /// `label` is none of the names that `ty` knows; `nearest` may be the one that was meant.
    #[cold]
    pub(super) fn unknown_label(ty: &Type, label: &str, nearest: Option<&str>) -> Self {
        Self::new(Problem::Mismatch {
            expected: expected(ty),
            got: quoted(label),
            hint: nearest.map(|name| format!("did you mean `{name}`?")),
        })
    }

    #[cold]
    pub(super) fn missing(noun: Noun, name: &str, ty: &Type) -> Self {
        Self::new(Problem::Missing { noun, name: name.to_owned(), ty: shown(&ty.to_string()) })
    }

    #[cold]
    pub(super) fn unknown(noun: Noun, name: &str, nearest: Option<&str>) -> Self {
        let hint = nearest.map(|name| format!("did you mean `{name}`?"));
        Self::new(Problem::Unknown { noun, name: shown(name), hint })
    }

    #[cold]
    pub(super) fn repeated(noun: Noun, name: &str) -> Self {
        Self::new(Problem::Repeated { noun, name: name.to_owned() })
    }

    #[cold]
    pub(super) fn ambiguous(noun: Noun, name: &str) -> Self {
        Self::new(Problem::Ambiguous { noun, name: shown(name) })
    }

    #[cold]
    pub(super) fn malformed(format: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(Problem::Malformed { format, detail: detail.to_string() })
    }

    #[cold]
    pub(super) fn arity(want: usize, got: usize) -> Self {
        Self::new(Problem::Arity { want, got })
    }

    #[cold]
    pub(super) fn file(name: &str, source: io::Error) -> Self {
        Self::new(Problem::File { name: name.to_owned(), source })
    }

    #[cold]
    pub(super) fn too_deep(limit: u32) -> Self {
        Self::new(Problem::Deep { limit })
    }

    #[cold]
    pub(super) fn too_many(limit: u64) -> Self {
        Self::new(Problem::Many { limit })
    }

    #[cold]
    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(Problem::Large { limit })
    }

    /// The same error seen from one level up, where it happened in the member `name`.
    #[cold]
    pub(super) fn within(mut self, name: &str) -> Self {
        self.0.path.push(Step::Name(name.to_owned()));
        self
    }

    /// The same error seen from one level up, where it happened in element `index`.
    #[cold]
    pub(super) fn at(mut self, index: usize) -> Self {
        self.0.path.push(Step::Index(index));
        self
    }

    /// Shows `signature` with an error about the argument list as a whole.
    #[cold]
    pub(super) fn of_call(mut self, signature: &Signature) -> Self {
        let about_the_list = match &self.0.problem {
            Problem::Arity { .. } => true,
            Problem::Missing { noun, .. }
            | Problem::Unknown { noun, .. }
            | Problem::Repeated { noun, .. }
            | Problem::Ambiguous { noun, .. } => *noun == Noun::Argument,
            Problem::Mismatch { .. } => self.0.path.is_empty(),
            _ => false,
        };
        if about_the_list {
            self.0.signature = Some(signature.to_string());
        }
        self
    }

    /// Where it is: `items[3].price`. Empty for the value as a whole.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.path.iter().rev() {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Name(name) if path.is_empty() => write!(path, "{name}"),
                Step::Name(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        path
    }

    /// The type that is needed there, an integer's with its range; `None` where no single value is at fault.
    pub fn expected_type(&self) -> Option<&str> {
        match &self.0.problem {
            Problem::Mismatch { expected, .. } => Some(expected),
            Problem::Missing { ty, .. } => Some(ty),
            _ => None,
        }
    }

    /// A short rendering of what came instead.
    pub fn got(&self) -> Option<&str> {
        match &self.0.problem {
            Problem::Mismatch { got, .. } => Some(got),
            Problem::Unknown { name, .. } => Some(name),
            _ => None,
        }
    }

    /// What may have been meant; already part of the message.
    pub fn hint(&self) -> Option<&str> {
        match &self.0.problem {
            Problem::Mismatch { hint, .. } | Problem::Unknown { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// Whether a bound was exceeded, by a value that may fit its type.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self.0.problem,
            Problem::Deep { .. } | Problem::Many { .. } | Problem::Large { .. }
        )
    }

    /// Whether it is the bound on bytes that was exceeded, which whoever calls sets, and no other.
    pub fn is_too_many_bytes(&self) -> bool {
        matches!(self.0.problem, Problem::Large { .. })
    }

    /// What a program sees of it.
    pub fn kind(&self) -> Kind {
        match &self.0.problem {
            Problem::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::TimedOut => Kind::Timeout,
                _ => Kind::Usage,
            },
            _ if self.is_too_large() => Kind::ArgsTooLarge,
            _ => Kind::ArgsMismatch,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.path() {
            path if path.is_empty() => "the value".to_owned(),
            path => format!("`{path}`"),
        };
        match &self.0.problem {
            Problem::Mismatch { expected, got, .. } => {
                write!(f, "{place} must be {expected}, got {got}")?
            }
            Problem::Missing { noun: Noun::Argument, name, ty } => {
                write!(f, "the argument `{name}` of type {ty} is missing")?;
            }
            Problem::Missing { noun, name, ty } => {
                write!(f, "{place} lacks the {noun} `{name}` of type {ty}")?;
            }
            Problem::Unknown { noun: Noun::Argument, name, .. } => {
                write!(f, "there is no argument `{name}`")?
            }
            Problem::Unknown { noun, name, .. } => write!(f, "{place} has no {noun} `{name}`")?,
            Problem::Repeated { noun: Noun::Argument, name } => {
                write!(f, "the argument `{name}` is given twice")?;
            }
            Problem::Repeated { noun, name } => write!(f, "{place} has the {noun} `{name}` twice")?,
            Problem::Ambiguous { noun, name } => {
                write!(
                    f,
                    "{place} has more than one {noun} that `{name}` could mean; write it in kebab-case"
                )?;
            }
            Problem::Malformed { format, detail } => {
                write!(f, "{place} is not valid {format}: {detail}")?
            }
            Problem::Arity { want, got } => {
                let plural = if *want == 1 { "" } else { "s" };
                write!(f, "the function takes {want} argument{plural}, got {got}")?;
            }
            Problem::File { name, .. } => {
                write!(f, "{place} could not be read from the file `{name}`")?
            }
            Problem::Deep { limit } => {
                write!(f, "{place} is nested more than {limit} levels deep")?
            }
            Problem::Many { limit } => write!(f, "{place} goes beyond {limit} values in all")?,
            Problem::Large { limit } => write!(f, "{place} goes beyond {limit} bytes in all")?,
        }
        if let Some(hint) = self.hint() {
            write!(f, "; {hint}")?;
        }
        match &self.0.signature {
            Some(signature) => write!(f, "; the signature is `{signature}`"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.problem {
            Problem::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Flaw> for Error {
    #[cold]
    fn from(flaw: Flaw) -> Self {
        Self::malformed("CBOR", flaw)
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Noun::Field => "field",
            Noun::Argument => "argument",
            Noun::Flag => "flag",
        })
    }
}

/// The integers a type holds; `None` for every other type.
#[inline]
pub(super) fn integer_range(ty: &Type) -> Option<(i128, i128)> {
    Some(match ty {
        Type::U8 => (0, u8::MAX.into()),
        Type::U16 => (0, u16::MAX.into()),
        Type::U32 => (0, u32::MAX.into()),
        Type::U64 => (0, u64::MAX.into()),
        Type::S8 => (i8::MIN.into(), i8::MAX.into()),
        Type::S16 => (i16::MIN.into(), i16::MAX.into()),
        Type::S32 => (i32::MIN.into(), i32::MAX.into()),
        Type::S64 => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

/// A type as a message names it, with what its name alone does not tell.
fn expected(ty: &Type) -> String {
    if let Some((least, most)) = integer_range(ty) {
        return format!("{ty} ({least} to {most})");
    }
    let named = |choices: Vec<&str>, which: &str| match ty.name() {
        Some(name) => format!("{name} ({which} {})", shown(&choices.join(", "))),
        None => format!("{which} {}", shown(&choices.join(", "))),
    };
    match ty {
        Type::Char => "char (one Unicode scalar value)".to_owned(),
        Type::Enum(labels) => named(labels.labels.iter().map(String::as_str).collect(), "one of"),
        Type::Flags(labels) => named(labels.labels.iter().map(String::as_str).collect(), "any of"),
        Type::Variant(variant) => {
            named(variant.cases.iter().map(|case| &*case.name).collect(), "one of")
        }
        _ => shown(&ty.to_string()),
    }
}

/// `text`, cut to what a message can hold.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `text` in quotes with what is not printable escaped, cut to what a message can hold.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (count, char) in text.chars().enumerate() {
        if count == SHOWN {
            quoted.push('…');
            break;
        }
        quoted.extend(char.escape_debug());
    }
    quoted.push('"');
    quoted
}
