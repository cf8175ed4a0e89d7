//! The arguments of a call: by position or by name, from CBOR, JSON or the words of a command line.
//!
//! Arguments are stored as a canonical map from parameter name to value, all parameters present. So renaming a
//! parameter breaks stored calls, and adding an optional one at the end does not.

use std::io;

use omniq_model::wit::{Signature, Type};

use super::canonical::{Canonicalizer, Left, describe};
use super::cbor::Major;
use super::error::Noun;
use super::sink::Sink;
use super::{Bounds, Error, json, wave};

/// Reads the content of a file that a word names.
pub type ReadFile<'a> = &'a mut dyn FnMut(&str) -> io::Result<Vec<u8>>;

/// Checks arguments in CBOR: an array of them, or a map by name. Options may be left out, in an array at its end.
///
/// # Errors
/// The bytes are not CBOR, do not fit the signature, or exceed the bounds.
pub fn from_cbor(signature: &Signature, input: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Error> {
    read_cbor(signature, input, bounds).map_err(|error| error.of_call(signature))
}

/// Checks arguments in JSON: an array of them, or an object by name. Options may be left out, in an array at its end.
///
/// # Errors
/// The text is not JSON in UTF-8, does not fit the signature, or exceeds the bounds.
pub fn from_json(signature: &Signature, text: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Error> {
    json::read_args(signature, text, bounds)
}

/// Reads arguments from the words of a command line.
///
/// A word is the WAVE text of the next parameter, or `name=` and the WAVE text of that one. For a `string` or `char`
/// the word itself is the value unless it starts with a quote. `@file` stands for a file's content: bytes for
/// `list<u8>`, text for `string`, WAVE text for every other type. Options may be left out.
///
/// # Errors
/// A word names no parameter or one that has its value, a value does not fit, a parameter has none, a file cannot be
/// read, or the bounds are exceeded.
pub fn from_words(
    signature: &Signature,
    words: &[String],
    read_file: ReadFile<'_>,
    bounds: &Bounds,
) -> Result<Vec<u8>, Error> {
    read_words(signature, words, read_file, bounds).map_err(|error| error.of_call(signature))
}

/// Writes canonical arguments as a JSON object, in the order of the parameters.
///
/// # Errors
/// The bytes are not canonical arguments of the signature.
pub fn to_json(signature: &Signature, canonical: &[u8]) -> Result<String, Error> {
    json::write_args(signature, canonical)
}

/// Writes canonical arguments as WAVE writes those of a call: `(5, "a")`.
///
/// # Errors
/// The bytes are not canonical arguments of the signature.
pub fn to_wave(signature: &Signature, canonical: &[u8]) -> Result<String, Error> {
    wave::write_args(signature, canonical)
}

fn read_cbor(signature: &Signature, input: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Error> {
    let mut canonicalizer = Canonicalizer::new(input, bounds)?;
    canonicalizer.untag()?;
    if let Some(entries) = canonicalizer.members(Major::Map)? {
        canonicalizer.record(entries, &signature.params, Noun::Argument)?;
    } else if let Some(items) = canonicalizer.members(Major::Array)? {
        positional(&mut canonicalizer, items, signature)?;
    } else {
        let got = describe(&canonicalizer.reader);
        return Err(Error::expected("an array of arguments or a map of them by name", got));
    }
    canonicalizer.finish()
}

fn positional<'t>(
    input: &mut Canonicalizer<'_, 't>,
    mut left: Left,
    signature: &'t Signature,
) -> Result<(), Error> {
    let params = &signature.params;
    let mut record = input.sink.open_record(params, Noun::Argument);
    for (index, param) in params.iter().enumerate() {
        if left.next(&mut input.reader)?.is_none() {
            return input.sink.close_args(&record, index);
        }
        input.sink.key(&mut record, index)?;
        input.value(&param.ty).map_err(|error| error.within(&param.name))?;
    }
    let given = match left.next(&mut input.reader)? {
        None => params.len(),
        Some(_) => left.end().unwrap_or(params.len() + 1),
    };
    input.sink.close_args(&record, given)
}

fn read_words(
    signature: &Signature,
    words: &[String],
    read_file: ReadFile<'_>,
    bounds: &Bounds,
) -> Result<Vec<u8>, Error> {
    let params = &signature.params;
    let mut sink = Sink::new(bounds, words.iter().map(|word| word.len() + 16).sum());
    let mut record = sink.open_record(params, Noun::Argument);
    let mut position = 0;
    for word in words {
        let (index, text) = match split_name(word) {
            Some((name, text)) => (sink.find_field(&record, name)?, text),
            None => {
                position += 1;
                (position - 1, word.as_str())
            }
        };
        let Some(param) = params.get(index) else {
            return Err(Error::arity(params.len(), words.len()));
        };
        sink.key(&mut record, index)?;
        read_word(&mut sink, &param.ty, text, read_file)
            .map_err(|error| error.within(&param.name))?;
    }
    sink.close_record(&record)?;
    sink.finish()
}

/// Splits `name=text`; a word that starts like a value is not split, so `"a=b"` is text.
fn split_name(word: &str) -> Option<(&str, &str)> {
    let (name, text) = word.split_once('=')?;
    let mut chars = name.chars();
    let is_name = chars.next().is_some_and(|first| first.is_ascii_alphabetic())
        && chars.all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_'));
    is_name.then_some((name, text))
}

fn read_word<'t>(
    sink: &mut Sink<'t>,
    ty: &'t Type,
    text: &str,
    read_file: ReadFile<'_>,
) -> Result<(), Error> {
    // What is meant for a type is meant for the option of it as well.
    let inner = match ty {
        Type::Option(inner) => inner,
        _ => ty,
    };
    if let Some(name) = text.strip_prefix('@') {
        let content = read_file(name).map_err(|error| Error::file(name, error))?;
        if inner.is_bytes() {
            return sink.bytes(&content);
        }
        let got = format!("{} bytes that are not UTF-8", content.len());
        let content = String::from_utf8(content).map_err(|_| Error::mismatch(ty, got))?;
        return match inner {
            Type::String => sink.text(&content),
            _ => wave::read_into(sink, ty, &content),
        };
    }
    let is_option_text = inner != ty && (text == "none" || text.starts_with("some("));
    match inner {
        Type::String if !is_option_text && !text.starts_with('"') => sink.text(text),
        Type::Char if !is_option_text && !text.starts_with('\'') => sink.char(text),
        _ => wave::read_into(sink, ty, text),
    }
}
