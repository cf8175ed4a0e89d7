//! The arguments of a call: by position or by name, from CBOR, JSON or the words of a command line.
//!
//! Arguments are stored as a canonical map from parameter name to value, all parameters present. So renaming a
//! parameter breaks stored calls, and adding an optional one at the end does not.

use std::borrow::Cow;
use std::io;

use omniq_model::wit::{Signature, Type};

use super::cbor::{Canonicalizer, Left, Major, describe, is_canonical_map};
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

/// As [`from_cbor`], without a copy where the arguments are in canonical form already, as stored ones are.
///
/// # Errors
/// As [`from_cbor`].
pub fn check_cbor<'a>(
    signature: &Signature,
    input: &'a [u8],
    bounds: &Bounds,
) -> Result<Cow<'a, [u8]>, Error> {
    // The map itself counts as a value.
    let items = bounds.items.saturating_sub(1);
    if input.len() <= bounds.bytes && is_canonical_map(&signature.params, input, items) {
        return Ok(Cow::Borrowed(input));
    }
    from_cbor(signature, input, bounds).map(Cow::Owned)
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

#[cfg(test)]
mod tests {
    use omniq_model::Kind;

    use super::super::arbitrary::{labels, list, option, params, record};
    use super::*;

    fn resize() -> Signature {
        params([
            ("image", list(Type::U8)),
            ("max-width", Type::U32),
            ("filter", option(Type::String)),
            ("mode", option(Type::Enum(labels(Some("mode"), ["fit", "none"])))),
        ])
    }

    fn words(signature: &Signature, words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let mut read_file = |name: &str| match name {
            "cat.png" => Ok(vec![1, 2]),
            "text" => Ok("é {".into()),
            "raw" => Ok(vec![0xff]),
            "wave" => Ok(b"7 // seven\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let read = from_words(signature, &words, &mut read_file, &Bounds::default());
        read.map(|canonical| to_wave(signature, &canonical).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_call_in_many_forms() {
        let signature = resize();
        let canonical = from_json(&signature, br#"["AQI=", 7]"#, &Bounds::default()).unwrap();
        assert_eq!(
            to_json(&signature, &canonical).unwrap(),
            r#"{"image":"AQI=","max-width":7,"filter":null,"mode":null}"#
        );
        assert_eq!(to_wave(&signature, &canonical).unwrap(), "([1, 2], 7, none, none)");
        for json in [
            r#"{"max-width":7,"image":[1,2]}"#,
            r#"{"image":"AQI=","maxWidth":7,"filter":null}"#,
            r#"{"image":"AQI=","max_width":7.0}"#,
            r#"["AQI=",7,null,null]"#,
        ] {
            assert_eq!(
                from_json(&signature, json.as_bytes(), &Bounds::default()).unwrap(),
                canonical,
                "{json}"
            );
        }
        // Positional of definite and indefinite length, tagged, and by name.
        for cbor in [
            &b"\x82\x42\x01\x02\x07"[..],
            b"\x9f\x42\x01\x02\x07\xff",
            b"\xd9\xd9\xf7\x82\x42\x01\x02\x07",
            b"\xbf\x69max_width\x07\x65image\x42\x01\x02\xff",
        ] {
            assert_eq!(
                from_cbor(&signature, cbor, &Bounds::default()).unwrap(),
                canonical,
                "{cbor:02x?}"
            );
        }
        for given in [
            &["[1, 2]", "7"][..],
            &["[1,2]", "max-width=7"],
            &["max_width=7", "image=[1, 2]"],
            &["@cat.png", "@wave"],
            &["image=@cat.png", "maxWidth=@wave", "mode=none"],
        ] {
            assert_eq!(words(&signature, given).unwrap(), "([1, 2], 7, none, none)", "{given:?}");
        }
    }

    #[test]
    fn words_are_taken_as_they_are_where_that_is_text() {
        let text = params([("s", Type::String)]);
        for (word, value) in [
            ("Ada", r#"("Ada")"#),
            ("42", r#"("42")"#),
            ("true", r#"("true")"#),
            ("", r#"("")"#),
            (" a, \\n", r#"(" a, \\n")"#),
            ("https://example.com", r#"("https://example.com")"#),
            (r#""Ada""#, r#"("Ada")"#),
            (r#""a=b""#, r#"("a=b")"#),
            ("s=a=b", r#"("a=b")"#),
            ("1=b", r#"("1=b")"#),
            ("@text", r#"("é {")"#),
        ] {
            assert_eq!(words(&text, &[word]).unwrap(), value, "{word}");
        }
        let option_text = params([("s", option(Type::String))]);
        for (word, value) in [
            ("Ada", r#"(some("Ada"))"#),
            ("none", "(none)"),
            (r#"some("Ada")"#, r#"(some("Ada"))"#),
            (r#""none""#, r#"(some("none"))"#),
            ("@text", r#"(some("é {"))"#),
        ] {
            assert_eq!(words(&option_text, &[word]).unwrap(), value, "{word}");
        }
        assert_eq!(words(&params([("c", Type::Char)]), &["é"]).unwrap(), "('é')");
        assert_eq!(words(&params([("c", Type::Char)]), &["'\\n'"]).unwrap(), "('\\n')");
        assert_eq!(
            words(&params([("b", option(list(Type::U8)))]), &["@raw"]).unwrap(),
            "(some([255]))"
        );
    }

    #[test]
    fn words_that_do_not_fit_say_why() {
        let signature = resize();
        let shape = "; the signature is `(image: list<u8>, max-width: u32, filter: option<string>, mode: option<mode>)`";
        for (given, message) in [
            (&["[]", "-3"][..], "`max-width` must be u32 (0 to 4294967295), got -3".to_owned()),
            (&["[]"], format!("the argument `max-width` of type u32 is missing{shape}")),
            (
                &["[]", "1", "a", "fit", "2"],
                format!("the function takes 4 arguments, got 5{shape}"),
            ),
            (
                &["[]", "maxwidth=1"],
                format!("there is no argument `maxwidth`; did you mean `max-width`?{shape}"),
            ),
            (&["[]", "1", "image=[]"], format!("the argument `image` is given twice{shape}")),
            (&["max-width=1", "2"], "`image` must be list<u8>, got 2".to_owned()),
            (
                &["[]", "1", "@raw"],
                "`filter` must be option<string>, got 1 bytes that are not UTF-8".to_owned(),
            ),
            (
                &["[]", "1", "x", "fill"],
                "`mode` must be mode (one of fit, none), got \"fill\"; did you mean `fit`?"
                    .to_owned(),
            ),
            (
                &["[]", "@nothing"],
                "`max-width` could not be read from the file `nothing`".to_owned(),
            ),
            (
                &["[]", "1 2"],
                "`max-width` is not valid WAVE: the end is expected, got 2 at line 1 column 3"
                    .to_owned(),
            ),
        ] {
            assert_eq!(words(&signature, given).unwrap_err(), message, "{given:?}");
        }
        let error = from_words(
            &signature,
            &["@nothing".to_owned()],
            &mut |_| Err(io::ErrorKind::NotFound.into()),
            &Bounds::default(),
        );
        assert_eq!(error.unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn lists_of_arguments_that_do_not_fit_show_the_signature() {
        let add = params([("a", Type::S32), ("b", Type::S32)]);
        let nested = params([("item", record([("price", list(Type::U8))]))]);
        let shape = "; the signature is `(a: s32, b: s32)`";
        for (json, cbor, message) in [
            ("[1]", &b"\x81\x01"[..], format!("the function takes 2 arguments, got 1{shape}")),
            (
                "[1,2,3,[]]",
                b"\x84\x01\x02\x03\x80",
                format!("the function takes 2 arguments, got 4{shape}"),
            ),
            (
                r#"{"a":1}"#,
                b"\xa1\x61a\x01",
                format!("the argument `b` of type s32 is missing{shape}"),
            ),
            (
                r#"{"a":1,"c":2}"#,
                b"\xa2\x61a\x01\x61c\x01",
                format!("there is no argument `c`; did you mean `a`?{shape}"),
            ),
            (
                r#"{"a":1,"a":2}"#,
                b"\xa2\x61a\x01\x61a\x01",
                format!("the argument `a` is given twice{shape}"),
            ),
            (
                "7",
                b"\x07",
                format!(
                    "the value must be an array of arguments or an object of them by name, got 7{shape}"
                ),
            ),
            (
                r#"[1,"2"]"#,
                b"\x82\x01\x612",
                "`b` must be s32 (-2147483648 to 2147483647), got \"2\"".to_owned(),
            ),
        ] {
            let error = from_json(&add, json.as_bytes(), &Bounds::default()).unwrap_err();
            assert_eq!(error.to_string(), message);
            let error = from_cbor(&add, cbor, &Bounds::default()).unwrap_err();
            assert_eq!(error.to_string(), message.replace("an object of", "a map of"));
        }
        let error =
            from_json(&nested, br#"{"item":{"price":[1,-1]}}"#, &Bounds::default()).unwrap_err();
        assert_eq!((error.path().as_str(), error.got()), ("item.price[1]", Some("-1")));
        assert_eq!(error.expected_type(), Some("u8 (0 to 255)"));
        assert_eq!(error.kind(), Kind::ArgsMismatch);
    }

    #[test]
    fn a_function_without_parameters_takes_nothing() {
        let none = params([]);
        for json in ["[]", "{}"] {
            assert_eq!(from_json(&none, json.as_bytes(), &Bounds::default()).unwrap(), [0xa0]);
        }
        assert_eq!(from_cbor(&none, b"\x80", &Bounds::default()).unwrap(), [0xa0]);
        assert_eq!(words(&none, &[]).unwrap(), "()");
        assert!(
            words(&none, &["1"]).unwrap_err().starts_with("the function takes 0 arguments, got 1")
        );
    }
}
