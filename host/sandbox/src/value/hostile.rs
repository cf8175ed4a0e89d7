//! Input that is meant to hurt: every piece of it ends in an error, soon, and without the memory it asks for.

use omniq_model::Kind;
use omniq_model::wit::Type;

use super::arbitrary::{list, option, params, record};
use super::cbor::{Reader, canonicalize};
use super::{Bounds, Error, args, json, wave};

const ALL: Bounds = Bounds { depth: 64, items: 1_000_000, bytes: 8 << 20 };

fn nested(levels: usize) -> Type {
    (0..levels).fold(Type::Bool, |ty, _| list(ty))
}

fn types() -> Vec<Type> {
    vec![
        Type::Bool,
        Type::U64,
        Type::F64,
        Type::Char,
        Type::String,
        list(Type::U8),
        list(Type::String),
        nested(40),
        Type::Tuple([Type::U8, Type::String].into()),
        record([("a", Type::U8), ("b", option(Type::String))]),
        option(option(list(Type::U8))),
    ]
}

fn is_mismatch(result: Result<Vec<u8>, Error>) -> bool {
    result.is_err_and(|error| error.kind() == Kind::ArgsMismatch && !error.is_too_large())
}

fn is_too_large(result: Result<Vec<u8>, Error>) -> bool {
    result.is_err_and(|error| error.kind() == Kind::ArgsTooLarge && error.is_too_large())
}

#[test]
fn lengths_that_the_input_does_not_have_are_refused() {
    for ty in types() {
        for major in [2_u8, 3, 4, 5] {
            for length in [100, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
                let mut bomb = vec![major << 5 | 27];
                bomb.extend(length.to_be_bytes());
                assert!(is_mismatch(canonicalize(&ty, &bomb, &ALL)), "{ty}");
                assert!(
                    is_mismatch(args::from_cbor(&params([("a", ty.clone())]), &bomb, &ALL)),
                    "{ty}"
                );
                assert!(Reader::new(&bomb).skip().is_err());
                assert!(json::write(&ty, &bomb).is_err() && wave::write(&ty, &bomb).is_err());
            }
        }
    }
}

#[test]
fn nesting_follows_the_type_and_ends_at_the_bound() {
    let levels = 1_000_000;
    for ty in types() {
        for opening in [0x81, 0x9f, 0xbf, 0xd8, 0x7f, 0x5f, 0xc1] {
            assert!(is_mismatch(canonicalize(&ty, &vec![opening; levels], &ALL)), "{ty}");
        }
        assert!(is_mismatch(canonicalize(&ty, &[0xd8, 24].repeat(levels), &ALL)));
        for opening in
            ["[", "{", "(", "[[{", "{\"a\":", "{a:", "some(", "\"", "'", "\"\"\"", "-", "//"]
        {
            let text = opening.repeat(levels / opening.len());
            assert!(is_mismatch(json::read(&ty, text.as_bytes(), &ALL)), "{ty}: {opening}");
            assert!(is_mismatch(wave::read(&ty, &text, &ALL)), "{ty}: {opening}");
        }
    }
    for (levels, fits) in [(64, true), (65, false), (400, false)] {
        let ty = nested(levels);
        let text = format!("{}true{}", "[".repeat(levels), "]".repeat(levels));
        let mut input = vec![0x81; levels];
        input.push(0xf5);
        for read in [
            canonicalize(&ty, &input, &ALL),
            json::read(&ty, text.as_bytes(), &ALL),
            wave::read(&ty, &text, &ALL),
        ] {
            if fits { assert_eq!(read.unwrap(), input) } else { assert!(is_too_large(read)) }
        }
        // No bound is so high that the parsers themselves give up first.
        let deepest = Bounds { depth: u32::MAX, ..ALL };
        assert_eq!(json::read(&ty, text.as_bytes(), &deepest).is_ok(), levels <= 100);
    }
}

#[test]
fn strings_of_a_million_chunks_are_only_as_long_as_they_are() {
    let mut chunks = [0x61, b'a'].repeat(1_000_000);
    chunks.insert(0, 0x7f);
    chunks.push(0xff);
    assert_eq!(canonicalize(&Type::String, &chunks, &ALL).unwrap().len(), 1_000_005);
    let mut empty = vec![0x60; 1_000_000];
    empty.insert(0, 0x7f);
    assert!(is_mismatch(canonicalize(&Type::String, &empty, &ALL)), "the break is missing");
    empty.push(0xff);
    assert_eq!(canonicalize(&Type::String, &empty, &ALL).unwrap(), [0x60]);
}

#[test]
fn more_than_the_bounds_is_too_large() {
    let few = Bounds { items: 1000, ..ALL };
    let small = Bounds { bytes: 1000, ..ALL };
    let bools = list(Type::Bool);

    let many =
        |length: u16| [&[0x99][..], &length.to_be_bytes(), &vec![0xf5; length.into()]].concat();
    assert!(canonicalize(&bools, &many(999), &few).is_ok());
    assert!(is_too_large(canonicalize(&bools, &many(1000), &few)));
    let text = format!("[{}true]", "true,".repeat(999));
    assert!(is_too_large(json::read(&bools, text.as_bytes(), &few)));
    assert!(is_too_large(wave::read(&bools, &text, &few)));

    assert!(is_too_large(canonicalize(&bools, &many(1000), &small)));
    assert!(is_too_large(json::read(&bools, text.as_bytes(), &small)));
    let text = format!("\"{}\"", "a".repeat(1000));
    assert!(is_too_large(json::read(&Type::String, text.as_bytes(), &small)));
    assert!(is_too_large(wave::read(&Type::String, &text, &small)));
    assert!(is_too_large(json::read(
        &list(Type::U8),
        text.as_bytes(),
        &Bounds { bytes: 700, ..ALL }
    )));
    let text = format!("[{}1]", "1,".repeat(1000));
    assert!(is_too_large(json::read(&list(Type::U8), text.as_bytes(), &small)));
    assert!(is_too_large(wave::read(&list(Type::U8), &text, &small)));
    let read = args::from_words(
        &params([("a", list(Type::U8))]),
        &["@a".to_owned()],
        &mut |_| Ok(vec![0; 1000]),
        &small,
    );
    assert!(is_too_large(read));
}

#[test]
fn a_small_input_cannot_grow_without_bound() {
    // Absent options are written out: 30 bytes for each empty map.
    let name = "an-option-with-a-long-name-1";
    let ty = list(record([(name, option(Type::U8)), ("b", option(Type::U8))]));
    let small = Bounds { bytes: 200_000, ..ALL };
    let length: u16 = 50_000;
    let input = [&[0x99][..], &length.to_be_bytes(), &vec![0xa0; length.into()]].concat();
    assert!(is_too_large(canonicalize(&ty, &input, &small)));
    assert!(is_too_large(canonicalize(&ty, &input, &Bounds { items: 100_000, ..ALL })));
    assert!(canonicalize(&ty, &input, &ALL).is_ok());
}

#[test]
fn a_bulk_list_of_bytes_is_one_value() {
    let bytes = vec![7; 5 << 20];
    let mut input = vec![0x5a];
    input.extend((5_u32 << 20).to_be_bytes());
    input.extend(&bytes);
    let one = Bounds { items: 1, ..ALL };
    assert_eq!(canonicalize(&list(Type::U8), &input, &one).unwrap(), input);
    let text = json::write(&list(Type::U8), &input).unwrap();
    assert_eq!(json::read(&list(Type::U8), text.as_bytes(), &one).unwrap(), input);
}

/// The least of several measurements of `work`: a busy machine may make some of them longer, hardly all.
fn least(mut work: impl FnMut()) -> std::time::Duration {
    let measured = (0..5).map(|_| {
        let started = std::time::Instant::now();
        work();
        started.elapsed()
    });
    measured.min().expect("five of them")
}

/// A component may declare tens of thousands of cases, and a task may come with a list of the last of them.
#[test]
fn values_of_a_type_of_many_cases_cost_little_more_than_those_of_few() {
    let cases = |many: usize| {
        Type::Variant(std::sync::Arc::new(omniq_model::wit::Variant {
            name: None,
            cases: (0..many)
                .map(|case| omniq_model::wit::Case { name: format!("case{case:05}"), ty: None })
                .collect(),
        }))
    };
    let labels = |many: usize| {
        Type::Enum(std::sync::Arc::new(omniq_model::wit::Labels {
            name: None,
            labels: (0..many).map(|label| format!("case{label:05}")).collect(),
        }))
    };
    let kinds: [&dyn Fn(usize) -> Type; 2] = [&cases, &labels];
    for kind in kinds {
        let [few, many] = [2, 20_000].map(|length| {
            let mut value = vec![0x99, 0x27, 0x10]; // a list of 10 000
            for _ in 0..10_000 {
                value.push(0x69);
                value.extend(format!("case{:05}", length - 1).bytes());
            }
            let ty = list(kind(length));
            let signature = params([("a", ty.clone())]);
            let args = [&[0xa1, 0x61, b'a'][..], &value].concat();
            let checked =
                least(|| assert_eq!(args::from_cbor(&signature, &args, &ALL).unwrap(), args));
            let printed = least(|| assert!(json::write(&ty, &value).unwrap().len() > 100_000));
            [checked, printed]
        });
        for (few, many) in few.into_iter().zip(many) {
            // One after the other it would be thousands of times as long.
            assert!(many < few * 200, "{many:?}, with two names {few:?}");
        }
    }
}
