//! The value mapping: the first bytes make a type, the others are given to every reader as a value of it.
//!
//! Nothing may panic, and what one reader accepts must survive the way through every writer and reader.
#![no_main]

use std::sync::Arc;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use omniq_model::wit::{Case, Field, Labels, Record, ResultType, Signature, Type, Variant};
use omniq_sandbox::value::{Bounds, Error, args, cbor, json, wave};

const BOUNDS: Bounds = Bounds { depth: 32, items: 10_000, bytes: 1 << 16 };

fuzz_target!(|data: &[u8]| {
    let mut bytes = Unstructured::new(data);
    let Ok(fields) = fields(&mut bytes, 4) else { return };
    let input = bytes.take_rest();
    let text = String::from_utf8_lossy(input);

    let ty = &fields[0].ty;
    for read in [
        cbor::canonicalize(ty, input, &BOUNDS),
        json::read(ty, input, &BOUNDS),
        wave::read(ty, &text, &BOUNDS),
    ] {
        if let Some(canonical) = accepted(read) {
            assert_eq!(cbor::canonicalize(ty, &canonical, &BOUNDS).unwrap(), canonical);
            let text = json::write(ty, &canonical).unwrap();
            assert_eq!(json::read(ty, text.as_bytes(), &BOUNDS).unwrap(), canonical, "{text}");
            let text = wave::write(ty, &canonical).unwrap();
            assert_eq!(wave::read(ty, &text, &BOUNDS).unwrap(), canonical, "{text}");
        }
    }
    // Writers are given what was checked before; anything else must still be no more than an error.
    let _ = (accepted(json::write(ty, input)), accepted(wave::write(ty, input)));

    let signature = Signature { params: fields, result: None, is_async: false };
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for read in [
        args::from_cbor(&signature, input, &BOUNDS),
        args::from_json(&signature, input, &BOUNDS),
        args::from_words(&signature, &words, &mut |name| Ok(name.as_bytes().to_vec()), &BOUNDS),
    ] {
        if let Some(canonical) = accepted(read) {
            assert_eq!(args::from_cbor(&signature, &canonical, &BOUNDS).unwrap(), canonical);
            let text = args::to_json(&signature, &canonical).unwrap();
            assert_eq!(
                args::from_json(&signature, text.as_bytes(), &BOUNDS).unwrap(),
                canonical,
                "{text}"
            );
            args::to_wave(&signature, &canonical).unwrap();
        }
    }
});

/// The value, if there is one; an error must say something.
fn accepted<T>(read: Result<T, Error>) -> Option<T> {
    read.inspect_err(|error| assert!(!error.to_string().is_empty() && error.path().len() < 10_000))
        .ok()
}

fn ty(bytes: &mut Unstructured<'_>, depth: u32) -> arbitrary::Result<Type> {
    let kinds = if depth == 0 { 16 } else { 23 };
    Ok(match bytes.int_in_range(0..=kinds - 1)? {
        0 => Type::Bool,
        1 => Type::U8,
        2 => Type::U16,
        3 => Type::U32,
        4 => Type::U64,
        5 => Type::S8,
        6 => Type::S16,
        7 => Type::S32,
        8 => Type::S64,
        9 => Type::F32,
        10 => Type::F64,
        11 => Type::Char,
        12 => Type::String,
        13 => Type::List(Arc::new(Type::U8)),
        14 => Type::Enum(Arc::new(labels(bytes)?)),
        15 => Type::Flags(Arc::new(labels(bytes)?)),
        16 => Type::List(Arc::new(ty(bytes, depth - 1)?)),
        17 | 18 => Type::Option(Arc::new(ty(bytes, depth - 1)?)),
        19 => {
            let length = bytes.int_in_range(1..=3)?;
            let types: Result<Vec<Type>, _> = (0..length).map(|_| ty(bytes, depth - 1)).collect();
            Type::Tuple(types?.into())
        }
        20 => Type::Record(Arc::new(Record { name: None, fields: fields(bytes, depth - 1)? })),
        21 => {
            let cases: Result<_, _> = names(bytes)?
                .into_iter()
                .map(|name| Ok(Case { name, ty: optional(bytes, depth - 1)? }))
                .collect();
            Type::Variant(Arc::new(Variant { name: None, cases: cases? }))
        }
        _ => Type::Result(Arc::new(ResultType {
            ok: optional(bytes, depth - 1)?,
            err: optional(bytes, depth - 1)?,
        })),
    })
}

fn optional(bytes: &mut Unstructured<'_>, depth: u32) -> arbitrary::Result<Option<Type>> {
    if bytes.arbitrary()? { ty(bytes, depth).map(Some) } else { Ok(None) }
}

fn fields(bytes: &mut Unstructured<'_>, depth: u32) -> arbitrary::Result<Vec<Field>> {
    let names = names(bytes)?.into_iter();
    names.map(|name| Ok(Field { name, ty: ty(bytes, depth)? })).collect()
}

fn labels(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Labels> {
    Ok(Labels { name: None, labels: names(bytes)? })
}

/// At least one name, each once; sometimes more than a search without an index takes.
fn names(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Vec<String>> {
    const NAMES: [&str; 8] =
        ["a", "b", "ok", "err", "none", "max-size", "a-1", "a-name-of-more-than-23-bytes"];
    let count = match bytes.int_in_range(0..=40)? {
        40 => 30,
        few => few % 3 + 1,
    };
    let first = bytes.int_in_range(0..=NAMES.len() - 1)?;
    Ok((first..first + count)
        .map(|at| NAMES.get(at).map_or_else(|| format!("n{at}"), |&name| name.to_owned()))
        .collect())
}
