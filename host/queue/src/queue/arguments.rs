//! Arguments in any of the forms they are given in, checked and brought into the form they are stored in.

use std::io;

use omniq_model::{CommandInput, Payload, record};
use omniq_sandbox::Limits;
use omniq_sandbox::value::{self, Bounds, args};
use serde::Serialize;

use super::catalog::Target;
use crate::error::{Error, Result};

/// Arguments as they were given.
#[derive(Debug, Clone)]
pub(crate) enum Arguments {
    /// By name, one after the other; each value in CBOR.
    Named(Vec<(String, Vec<u8>)>),
    Cbor(Vec<u8>),
    Json(Vec<u8>),
    Words(Vec<String>),
    /// Of a command.
    Command {
        args: Vec<String>,
        stdin: Vec<u8>,
    },
}

impl Default for Arguments {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl Arguments {
    /// All arguments of a Rust value.
    pub fn of(values: &impl Serialize) -> Result<Self> {
        Ok(Self::Cbor(cbor_of(values)?))
    }

    /// Adds one argument by its name.
    pub fn add(&mut self, name: String, value: &impl Serialize) -> Result<()> {
        let Self::Named(named) = self else {
            let text = format!(
                "the argument `{name}` is given beside all arguments at once; use one of the two ways"
            );
            return Err(Error::Invalid(text));
        };
        named.push((name, cbor_of(value)?));
        Ok(())
    }

    /// Checks them against what `target` takes, and gives them in the form they are stored in.
    pub fn check(self, target: &Target) -> Result<Payload> {
        let Some(signature) = &target.signature else { return self.for_command(target) };
        let bounds = Bounds::with_bytes(max_bytes());
        let checked = match self {
            Self::Named(named) => args::from_cbor(signature, &map_of(&named), &bounds),
            Self::Cbor(bytes) => match args::check_cbor(signature, &bytes, &bounds) {
                // Canonical already: stored as it came.
                Ok(std::borrow::Cow::Borrowed(_)) => return Ok(Payload::cbor(bytes)),
                Ok(std::borrow::Cow::Owned(canonical)) => Ok(canonical),
                Err(error) => Err(error),
            },
            Self::Json(text) => args::from_json(signature, &text, &bounds),
            Self::Words(words) => args::from_words(signature, &words, &mut no_files, &bounds),
            Self::Command { .. } => {
                let text =
                    format!("`{}` is a function; give it arguments, not a command's", target.shown);
                return Err(Error::Shape(text));
            }
        };
        checked.map(Payload::cbor).map_err(|error| refused(target, error))
    }

    fn for_command(self, target: &Target) -> Result<Payload> {
        let (args, stdin) = match self {
            Self::Command { args, stdin } => (args, stdin),
            Self::Named(named) if named.is_empty() => Default::default(),
            _ => {
                let text = format!("the command `{}` takes no typed arguments", target.shown);
                return Err(Error::Shape(text));
            }
        };
        let input = CommandInput { args, stdin: stdin.into(), unknown: Default::default() };
        let bytes = record::encode(&input);
        if bytes.len() > max_bytes() {
            let max = max_bytes();
            let got = bytes.len();
            return Err(Error::Invalid(format!(
                "arguments and standard input have {got} bytes, more than the {max} allowed"
            )));
        }
        Ok(Payload::cbor(bytes))
    }
}

/// The most bytes of arguments: what the sandbox takes.
fn max_bytes() -> usize {
    static MAX: std::sync::LazyLock<usize> =
        std::sync::LazyLock::new(|| usize::try_from(Limits::default().args).unwrap_or(usize::MAX));
    *MAX
}

fn refused(target: &Target, error: value::Error) -> Error {
    Error::Arguments { function: target.shown.clone(), error: error.into() }
}

/// Whoever hands words on must not be able to have files of this machine read.
fn no_files(_name: &str) -> io::Result<Vec<u8>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "files are not read here; give the value itself",
    ))
}

fn cbor_of(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| Error::Value(format!("the arguments cannot be serialized: {error}")))?;
    Ok(bytes)
}

/// A CBOR map of names and values that are CBOR already (RFC 8949 §3.1: major type 5, then pairs).
fn map_of(named: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes =
        Vec::with_capacity(9 + named.iter().map(|(n, v)| 9 + n.len() + v.len()).sum::<usize>());
    head(&mut bytes, 5, named.len() as u64);
    for (name, value) in named {
        head(&mut bytes, 3, name.len() as u64);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

/// The head of a CBOR item: its major type and an argument, in the shortest form.
fn head(bytes: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..24 => bytes.push(major | argument as u8),
        24..0x100 => bytes.extend_from_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            bytes.push(major | 25);
            bytes.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            bytes.push(major | 26);
            bytes.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            bytes.push(major | 27);
            bytes.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omniq_model::wit::{Field, Signature, Type};
    use omniq_model::{Digest, ModuleRef};

    use super::*;

    fn target(params: &[(&str, Type)]) -> Target {
        let params = params.iter().map(|(name, ty)| Field { name: (*name).into(), ty: ty.clone() });
        let signature =
            Signature { params: params.collect(), result: Some(Type::S32), is_async: false };
        let module = ModuleRef {
            digest: Digest::from_sha256([0; 32]),
            name: "m".parse().unwrap(),
            version: "1".parse().unwrap(),
            unknown: Default::default(),
        };
        let shown = format!("m@1 f{signature}");
        Target { module, function: "f".into(), shown, signature: Some(signature) }
    }

    #[test]
    fn every_form_gives_the_same_stored_arguments() {
        let add = target(&[("a", Type::S32), ("name", Type::List(Arc::new(Type::String)))]);
        let expected = Arguments::of(&(5, ["x"])).unwrap().check(&add).unwrap();
        let mut named = Arguments::default();
        named.add("name".into(), &["x"]).unwrap();
        named.add("a".into(), &5).unwrap();
        for form in [
            named,
            Arguments::Json(br#"{"a": 5, "name": ["x"]}"#.to_vec()),
            Arguments::Words(vec!["5".into(), r#"["x"]"#.into()]),
            Arguments::Cbor(expected.bytes.clone()),
        ] {
            assert_eq!(form.clone().check(&add).unwrap(), expected, "{form:?}");
        }
    }

    #[test]
    fn what_does_not_fit_names_place_and_type() {
        let add = target(&[("a", Type::S32), ("b", Type::S32)]);
        for (form, text) in [
            (Arguments::of(&(5, "ten")).unwrap(), "`b` must be s32"),
            (Arguments::Json(b"[1".to_vec()), "JSON"),
            (Arguments::default(), "`a` of type s32 is missing"),
            (Arguments::Words(vec!["@/etc/passwd".into()]), "could not be read"),
            (Arguments::Command { args: vec![], stdin: vec![] }, "is a function"),
        ] {
            let error = form.check(&add).unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("m@1 f(a: s32, b: s32) -> s32"),
                "{error}"
            );
        }
    }

    #[test]
    fn one_way_of_giving_arguments_at_a_time() {
        let mut all = Arguments::of(&(1, 2)).unwrap();
        assert!(all.add("a".into(), &1).is_err());
        let command = Target { signature: None, ..target(&[]) };
        assert!(all.check(&command).unwrap_err().to_string().contains("takes no typed arguments"));
        assert!(Arguments::default().check(&command).is_ok());
    }
}
