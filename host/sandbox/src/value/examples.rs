//! The mapping by example: what `docs/values.md` shows, and what it says is accepted and refused.

use omniq_model::wit::Type;

use super::arbitrary::{labels, list, option, record, result, variant};
use super::cbor::canonicalize;
use super::{Bounds, json, wave};

fn bounds() -> Bounds {
    Bounds::default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    hex.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn some_or_size() -> Type {
    variant([("none", None), ("size", Some(Type::U32))])
}

/// Type, WAVE, JSON and canonical CBOR of one value each, as the documentation has them.
#[test]
fn the_documented_examples_hold() {
    let named =
        record([("name", Type::String), ("max-size", Type::U32), ("tag", option(Type::String))]);
    let state = Type::Enum(labels(None, ["ok", "not-found"]));
    let rights = Type::Flags(labels(None, ["read", "write", "exec"]));
    let deep = option(option(Type::U8));
    let rows = [
        (Type::Bool, "true", "true", "f5"),
        (Type::U8, "255", "255", "18ff"),
        (Type::S8, "-1", "-1", "20"),
        (Type::S32, "-1000", "-1000", "3903e7"),
        (Type::U64, "9007199254740991", "9007199254740991", "1b001fffffffffffff"),
        (Type::U64, "9007199254740992", r#""9007199254740992""#, "1b0020000000000000"),
        (Type::S64, "-9223372036854775808", r#""-9223372036854775808""#, "3b7fffffffffffffff"),
        (Type::F32, "1.5", "1.5", "f93e00"),
        (Type::F32, "0.1", "0.1", "fa3dcccccd"),
        (Type::F64, "0.1", "0.1", "fb3fb999999999999a"),
        (Type::F64, "1e300", "1e300", "fb7e37e43c8800759c"),
        (Type::F64, "-0.0", "-0.0", "f98000"),
        (Type::F64, "nan", r#""nan""#, "f97e00"),
        (Type::F64, "-inf", r#""-inf""#, "f9fc00"),
        (Type::Char, "'ß'", r#""ß""#, "62c39f"),
        (Type::String, r#""a\nb""#, r#""a\nb""#, "63610a62"),
        (list(Type::U8), "[1, 2, 255]", r#""AQL/""#, "430102ff"),
        (list(Type::U16), "[1, 500]", "[1,500]", "82011901f4"),
        (Type::Tuple([Type::U8, Type::String].into()), r#"(7, "x")"#, r#"[7,"x"]"#, "82076178"),
        (
            named,
            r#"{name: "x", max-size: 9, tag: none}"#,
            r#"{"name":"x","max-size":9,"tag":null}"#,
            "a363746167f6646e616d656178686d61782d73697a6509",
        ),
        (some_or_size(), "size(7)", r#"{"size":7}"#, "a16473697a6507"),
        (some_or_size(), "%none", r#""none""#, "646e6f6e65"),
        (state, "not-found", r#""not-found""#, "696e6f742d666f756e64"),
        (rights, "{read, exec}", r#"["read","exec"]"#, "826472656164 6465786563"),
        (option(Type::U8), "none", "null", "f6"),
        (option(Type::U8), "some(7)", "7", "07"),
        (deep.clone(), "none", "null", "f6"),
        (deep.clone(), "some(none)", "[null]", "81f6"),
        (deep, "some(some(7))", "[7]", "8107"),
        (result(Some(Type::U8), Some(Type::String)), "ok(7)", r#"{"ok":7}"#, "a1626f6b07"),
        (
            result(Some(Type::U8), Some(Type::String)),
            r#"err("x")"#,
            r#"{"err":"x"}"#,
            "a1636572726178",
        ),
        (result(None, None), "ok", r#"{"ok":null}"#, "a1626f6bf6"),
    ];
    let docs = include_str!("../../../../docs/values.md");
    for (ty, text, object, canonical) in rows {
        let canonical = bytes(canonical);
        let row = format!("| `{ty}` | `{text}` | `{object}` | `{}` |", hex(&canonical));
        assert!(docs.contains(&row), "docs/values.md lacks the row\n{row}");
        assert_eq!(
            hex(&canonicalize(&ty, &canonical, &bounds()).unwrap()),
            hex(&canonical),
            "{row}"
        );
        assert_eq!(hex(&wave::read(&ty, text, &bounds()).unwrap()), hex(&canonical), "{row}");
        assert_eq!(
            hex(&json::read(&ty, object.as_bytes(), &bounds()).unwrap()),
            hex(&canonical),
            "{row}"
        );
        assert_eq!(wave::write(&ty, &canonical).unwrap(), text);
        assert_eq!(json::write(&ty, &canonical).unwrap(), object);
    }
}

#[test]
fn cbor_is_accepted_in_other_forms() {
    let fields = record([("max-size", Type::U8), ("b", option(Type::U8))]);
    for (ty, input, canonical) in [
        // Longer than needed, tags, indefinite lengths.
        (Type::U8, "1b0000000000000007", "07"),
        (Type::F64, "fb3ff0000000000000", "f93c00"),
        (Type::F64, "fb7ff8000000000001", "f97e00"),
        (Type::F64, "1a00010000", "fa47800000"),
        (Type::F32, "20", "f9bc00"),
        (Type::F32, "fb3fb999999999999a", "fa3dcccccd"),
        (Type::F64, "00", "f90000"),
        (Type::String, "d9d9f77f61616162ff", "626162"),
        (list(Type::U8), "d8185f4101420203ff", "43010203"),
        (list(Type::U8), "83010203", "43010203"),
        (list(Type::U8), "9f01d9d9f702ff", "420102"),
        (list(Type::U8), "80", "40"),
        (list(Type::Bool), "9ff5f4ff", "82f5f4"),
        // Keys in any order and in three spellings, absent options.
        (fields.clone(), "a26162016 86d61782d73697a6507", "a2616201686d61782d73697a6507"),
        (fields.clone(), "a2686d61785f73697a65076162f6", "a26162f6686d61782d73697a6507"),
        (fields.clone(), "bf676d617853697a6507ff", "a26162f6686d61782d73697a6507"),
        (Type::Flags(labels(None, ["r", "w"])), "9f61776172ff", "8261726177"),
        (some_or_size(), "bf6473697a6507ff", "a16473697a6507"),
        (option(option(Type::Bool)), "9ff6ff", "81f6"),
    ] {
        let kept = canonicalize(&ty, &bytes(input), &bounds());
        assert_eq!(
            kept.map(|kept| hex(&kept)).map_err(|error| error.to_string()),
            Ok(canonical.to_owned()),
            "{input}"
        );
    }
}

#[test]
fn json_is_accepted_in_other_forms() {
    for (ty, input, canonical) in [
        (Type::U8, "7.0", "07"),
        (Type::S8, "-0", "00"),
        (Type::U64, "18446744073709551615", "1bffffffffffffffff"),
        (Type::U64, r#""18446744073709551615""#, "1bffffffffffffffff"),
        (Type::S64, "-9223372036854775808", "3b7fffffffffffffff"),
        (Type::U64, "9007199254740993", "1b0020000000000001"),
        (Type::F64, "7", "f94700"),
        (Type::F64, "100000000000000000000", "fb4415af1d78b58c40"),
        (Type::F32, "16777217", "fa4b800000"),
        (Type::F32, "1e-60", "f90000"),
        (Type::String, r#""\ud83d\ude00""#, "64f09f9880"),
        (list(Type::U8), "[1, 2, 3.0]", "43010203"),
        (list(Type::U8), r#""""#, "40"),
    ] {
        let kept = json::read(&ty, input.as_bytes(), &bounds());
        assert_eq!(
            kept.map(|kept| hex(&kept)).map_err(|error| error.to_string()),
            Ok(canonical.to_owned()),
            "{input}"
        );
    }
}

#[test]
fn wave_is_accepted_in_other_forms() {
    let fields = record([("max-size", Type::U8), ("b", option(Type::U8))]);
    for (ty, input, canonical) in [
        (Type::U8, " // a comment\n 7 // another", "07"),
        (Type::F32, "16777217", "fa4b800000"),
        (Type::F64, "inf", "f97c00"),
        (Type::F64, "25e-1", "f94100"),
        (Type::Char, r"'\u{1F600}'", "64f09f9880"),
        (Type::Char, "'\"'", "6122"),
        (Type::String, "\"\"\"\n  a\n   \\\"\n  \"\"\"", "64610a2022"),
        (Type::String, "\"\"\"\n\"\"\"", "60"),
        (list(Type::U8), "[]", "40"),
        (list(Type::Bool), "[true,false,]", "82f5f4"),
        (fields.clone(), "{maxSize: 7}", "a26162f6686d61782d73697a6507"),
        (fields, "{ b : 1, max_size: 7, }", "a2616201686d61782d73697a6507"),
        (record([("b", option(Type::U8))]), "{:}", "a16162f6"),
        (Type::Flags(labels(None, ["r", "w"])), "{w, %r}", "8261726177"),
        (Type::Flags(labels(None, ["r", "w"])), "{}", "80"),
        (Type::Enum(labels(None, ["ok"])), "ok", "626f6b"),
        (option(Type::U8), "7", "07"),
        (result(Some(Type::U8), None), "7", "a1626f6b07"),
        (option(some_or_size()), "%none", "646e6f6e65"),
        (option(some_or_size()), "none", "f6"),
    ] {
        let kept = wave::read(&ty, input, &bounds());
        assert_eq!(
            kept.map(|kept| hex(&kept)).map_err(|error| error.to_string()),
            Ok(canonical.to_owned()),
            "{input}"
        );
    }
}

#[test]
fn every_integer_type_ends_where_it_ends() {
    for (ty, least, most) in [
        (Type::U8, 0, i128::from(u8::MAX)),
        (Type::U16, 0, u16::MAX.into()),
        (Type::U32, 0, u32::MAX.into()),
        (Type::U64, 0, u64::MAX.into()),
        (Type::S8, i8::MIN.into(), i8::MAX.into()),
        (Type::S16, i16::MIN.into(), i16::MAX.into()),
        (Type::S32, i32::MIN.into(), i32::MAX.into()),
        (Type::S64, i64::MIN.into(), i64::MAX.into()),
    ] {
        for (int, fits) in [(least, true), (most, true), (least - 1, false), (most + 1, false)] {
            let text = int.to_string();
            let mut readings = vec![
                json::read(&ty, text.as_bytes(), &bounds()),
                wave::read(&ty, &text, &bounds()),
            ];
            // What CBOR's integers can say at all.
            if let Ok(int) = ciborium::value::Integer::try_from(int) {
                let input = super::arbitrary::encoded(&ciborium::Value::Integer(int));
                readings.push(canonicalize(&ty, &input, &bounds()));
            }
            for read in readings {
                match read {
                    Ok(_) => assert!(fits, "{int} is no {ty}"),
                    Err(error) => {
                        assert!(!fits, "{error}");
                        let message =
                            format!("the value must be {ty} ({least} to {most}), got {int}");
                        assert_eq!(error.to_string(), message);
                    }
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let item = record([("price", Type::U32), ("tag", option(Type::String))]);
    let order = record([
        ("items", list(item.clone())),
        ("state", Type::Enum(labels(Some("state"), ["open", "paid"]))),
    ]);
    let rights = Type::Flags(labels(None, ["read", "write"]));
    for (ty, input, message) in [
        (
            &order,
            r#"{"items":[{"price":1},{"price":-1}],"state":"open"}"#,
            "`items[1].price` must be u32 (0 to 4294967295), got -1",
        ),
        (
            &order,
            r#"{"items":[{"prise":1}],"state":"open"}"#,
            "`items[0]` has no field `prise`; did you mean `price`?",
        ),
        (
            &order,
            r#"{"items":[{}],"state":"open"}"#,
            "`items[0]` lacks the field `price` of type u32",
        ),
        (
            &order,
            r#"{"items":[],"state":"opne"}"#,
            "`state` must be state (one of open, paid), got \"opne\"; did you mean `open`?",
        ),
        (
            &order,
            r#"{"items":{},"state":"open"}"#,
            "`items` must be list<record { price: u32, tag: option<string> }>, got an object",
        ),
        (
            &order,
            "[]",
            "the value must be record { items: list<record { price: u32, tag: option<string…, got an array",
        ),
        (&item, r#"{"price":1,"price":1}"#, "the value has the field `price` twice"),
        (&item, r#"{"price":1,"tag":null,"price":1}"#, "the value has the field `price` twice"),
        (&Type::Bool, "1", "the value must be bool, got 1"),
        (&Type::U8, r#""7""#, "the value must be u8 (0 to 255), got \"7\""),
        (&Type::U8, "7.5", "the value must be u8 (0 to 255), got 7.5"),
        (&Type::U8, "7e0", "the value must be u8 (0 to 255), got 7e0"),
        (&Type::U64, r#""+7""#, "the value must be u64 (0 to 18446744073709551615), got \"+7\""),
        (&Type::U64, r#""007""#, "the value must be u64 (0 to 18446744073709551615), got \"007\""),
        (&Type::F32, "1e39", "the value must be f32, got 1e39"),
        (&Type::F64, "1e400", "the value must be f64, got 1e400"),
        (&Type::F64, r#""NaN""#, "the value must be f64, got \"NaN\""),
        (&Type::Char, r#""ab""#, "the value must be char (one Unicode scalar value), got \"ab\""),
        (&Type::Char, r#""""#, "the value must be char (one Unicode scalar value), got \"\""),
        (
            &list(Type::U8),
            r#""AQL""#,
            "the value must be list<u8> (base64 text or an array of bytes), got \"AQL\"",
        ),
        (
            &list(Type::U8),
            r#""AQJ=""#,
            "the value must be list<u8> (base64 text or an array of bytes), got \"AQJ=\"",
        ),
        (&list(Type::U8), "[1,256]", "`[1]` must be u8 (0 to 255), got 256"),
        (
            &Type::Tuple([Type::U8, Type::U8].into()),
            "[1]",
            "the value must be tuple<u8, u8>, got an array of 1",
        ),
        (
            &Type::Tuple([Type::U8, Type::U8].into()),
            "[1,2,3,4]",
            "the value must be tuple<u8, u8>, got an array of 4",
        ),
        (&rights, r#"["read","read"]"#, "the value has the flag `read` twice"),
        (
            &rights,
            r#"["reed"]"#,
            "`[0]` must be any of read, write, got \"reed\"; did you mean `read`?",
        ),
        (&rights, "[1]", "`[0]` must be any of read, write, got 1"),
        (&some_or_size(), r#""size""#, "the value must be {\"size\": u32}, got \"size\""),
        (
            &some_or_size(),
            r#"{"none":null}"#,
            "the value must be \"none\" without a payload, got an object",
        ),
        (&some_or_size(), r#"{"size":-1}"#, "`size` must be u32 (0 to 4294967295), got -1"),
        (
            &some_or_size(),
            r#"{"size":1,"none":null}"#,
            "the value must be one of none, size, got an object of more than one entry",
        ),
        (&some_or_size(), "{}", "the value must be one of none, size, got an empty object"),
        (
            &option(option(Type::U8)),
            "7",
            "the value must be null or an array of one option<u8>, got 7",
        ),
        (&option(option(Type::U8)), "[7,8]", "the value must be option<u8>, got an array of 2"),
        (
            &result(None, Some(Type::U8)),
            r#"{"ok":1}"#,
            "`ok` must be null, as it has no type, got 1",
        ),
        (&result(None, Some(Type::U8)), r#"{"err":null}"#, "`err` must be u8 (0 to 255), got null"),
        (
            &result(None, None),
            r#"{"fine":null}"#,
            "the value must be result, got an object with the key \"fine\"",
        ),
        (
            &Type::String,
            r#""\ud800""#,
            "the value is not valid JSON: unexpected end of hex escape at line 1 column 8",
        ),
        (
            &Type::String,
            r#""\ud800\u0041""#,
            "the value is not valid JSON: lone leading surrogate in hex escape at line 1 column 13",
        ),
        (
            &Type::String,
            r#""\udc00""#,
            "the value is not valid JSON: lone leading surrogate in hex escape at line 1 column 7",
        ),
        (&Type::U8, "1 2", "the value is not valid JSON: trailing characters at line 1 column 3"),
        (&Type::U8, "01", "the value is not valid JSON: invalid number at line 1 column 2"),
        (&Type::F64, "NaN", "the value is not valid JSON: expected value at line 1 column 1"),
    ] {
        let error = json::read(ty, input.as_bytes(), &bounds()).unwrap_err();
        assert_eq!(error.to_string(), message, "{input}");
    }
    for (ty, input, message) in [
        (
            &order,
            r#"{items: [{price: 1}, {price: -1}], state: open}"#,
            "`items[1].price` must be u32 (0 to 4294967295), got -1",
        ),
        (
            &order,
            r#"{items: [{prise: 1}], state: open}"#,
            "`items[0]` has no field `prise`; did you mean `price`?",
        ),
        (&order, "{items: []}", "the value lacks the field `state` of type state"),
        (&item, "{price: 1, price: 2}", "the value has the field `price` twice"),
        (
            &item,
            "{price 1}",
            "the value is not valid WAVE: `:` is expected, got 1 at line 1 column 8",
        ),
        (&Type::U8, "7.0", "the value must be u8 (0 to 255), got 7.0"),
        (&Type::U8, "007", "the value must be u8 (0 to 255), got 007"),
        (&Type::U8, "7x", "the value must be u8 (0 to 255), got 7x"),
        (&Type::U8, "", "the value must be u8 (0 to 255), got nothing"),
        (
            &Type::U8,
            "7 8",
            "the value is not valid WAVE: the end is expected, got 8 at line 1 column 3",
        ),
        (&Type::F64, "-nan", "the value must be f64, got -nan"),
        (&Type::F64, "1e400", "the value must be f64, got 1e400"),
        (&Type::String, "abc", "the value must be string, got abc"),
        (
            &Type::String,
            r#""abc"#,
            "the value is not valid WAVE: the closing `\"` is missing at line 1 column 1",
        ),
        (
            &Type::String,
            r#""\x""#,
            "the value is not valid WAVE: an escape is not one of \\\\ \\' \\\" \\t \\n \\r \\u{…} at line 1 column 1",
        ),
        (
            &Type::String,
            r#""\u{d800}""#,
            "the value is not valid WAVE: an escape is not one of \\\\ \\' \\\" \\t \\n \\r \\u{…} at line 1 column 1",
        ),
        (&Type::Char, "'ab'", "the value must be char (one Unicode scalar value), got \"ab\""),
        (&list(Type::U8), "[1, 256]", "`[1]` must be u8 (0 to 255), got 256"),
        (
            &list(Type::U8),
            "[1 2]",
            "the value is not valid WAVE: `,` or `]` is expected, got 2 at line 1 column 4",
        ),
        (
            &list(Type::Bool),
            "[true",
            "the value is not valid WAVE: `,` or `]` is expected, got nothing at line 1 column 6",
        ),
        (&list(Type::Bool), "[,]", "`[0]` must be bool, got ,"),
        (
            &Type::Tuple([Type::U8, Type::U8].into()),
            "(1)",
            "the value must be tuple<u8, u8>, got (1)",
        ),
        (
            &rights,
            "{read, reed}",
            "`[1]` must be any of read, write, got \"reed\"; did you mean `read`?",
        ),
        (&rights, "{read, read}", "the value has the flag `read` twice"),
        (
            &some_or_size(),
            "size",
            "the value is not valid WAVE: `(` and the payload of `size` is expected, got nothing at line 1 column 5",
        ),
        (&some_or_size(), "none(1)", "the value must be none without a payload, got none(…)"),
        (&option(option(Type::U8)), "7", "the value must be none or some(option<u8>), got 7"),
        (&result(None, None), "7", "the value must be result, got 7"),
    ] {
        let error = wave::read(ty, input, &bounds()).unwrap_err();
        assert_eq!(error.to_string(), message, "{input}");
    }
    for (ty, input, message) in [
        (&item, "a165707269636520", "`price` must be u32 (0 to 4294967295), got -1"),
        (&item, "a2657072696365016570726963650 1", "the value has the field `price` twice"),
        (
            &item,
            "a3657072696365016570726963650 16570726963650 1",
            "the value has the field `price` twice",
        ),
        (&item, "a1017f", "the value must be string, got 1"),
        (
            &rights,
            "826472656164 6472656564",
            "`[1]` must be any of read, write, got \"reed\"; did you mean `read`?",
        ),
        (&Type::Bool, "01", "the value must be bool, got 1"),
        (&Type::U8, "f93c00", "the value must be u8 (0 to 255), got 1.0"),
        (&Type::U8, "c2 41ff", "the value must be u8 (0 to 255), got the tag 2"),
        (&Type::F32, "1a01000001", "the value must be f32, got 16777217"),
        (&Type::F64, "1b0020000000000001", "the value must be f64, got 9007199254740993"),
        (&Type::F32, "fb7e37e43c8800759c", "the value must be f32, got 1e300"),
        (
            &Type::String,
            "6161 00",
            "the value is not valid CBOR: something follows the value at byte 2",
        ),
        (&Type::String, "61ff", "the value is not valid CBOR: text that is not UTF-8 at byte 1"),
        (
            &Type::String,
            "63eda080",
            "the value is not valid CBOR: text that is not UTF-8 at byte 1",
        ),
        (
            &Type::String,
            "7f61614162ff",
            "the value is not valid CBOR: a chunk of another kind than its string at byte 3",
        ),
        (
            &Type::String,
            "7f7fffff",
            "the value is not valid CBOR: a chunk of another kind than its string at byte 1",
        ),
        (
            &Type::String,
            "7f61c361a9ff",
            "the value is not valid CBOR: text that is not UTF-8 at byte 2",
        ),
        (&Type::Bool, "f814", "the value is not valid CBOR: a reserved simple value at byte 0"),
        (&Type::U8, "1f", "the value is not valid CBOR: a reserved byte at byte 0"),
        (&Type::U8, "", "the value is not valid CBOR: the input ends at byte 0"),
        (
            &list(Type::U8),
            "8118ff01",
            "the value is not valid CBOR: something follows the value at byte 3",
        ),
        (&list(Type::U8), "82011901 00", "`[1]` must be u8 (0 to 255), got 256"),
        (&option(Type::U8), "f7", "the value must be u8 (0 to 255), got undefined"),
        (&option(option(Type::U8)), "07", "the value must be option<option<u8>>, got 7"),
        (
            &option(option(Type::U8)),
            "820708",
            "the value must be option<option<u8>>, got an array of 2",
        ),
        (
            &some_or_size(),
            "a26473697a6507646e6f6e65f6",
            "the value must be one of none, size, got a map of 2",
        ),
        (
            &some_or_size(),
            "a16473697a",
            "the value is not valid CBOR: a length beyond the end of the input at byte 2",
        ),
    ] {
        let error = canonicalize(ty, &bytes(input), &bounds()).unwrap_err();
        assert_eq!(error.to_string(), message, "{input}");
    }
}
