//! What the error a function returned asks for: another attempt, when, or none.
//!
//! Three forms are understood, by the type of the error. `omniq:task/types.failure` says it in its field `retry`; a
//! record may have a field `retry-after-ms: option<u64>`; a variant or enum whose case begins with `permanent-` or
//! `fatal-` wants no further attempt. Anything else leaves it to the task's policy.

use std::time::Duration;

use omniq_model::Wish;
use omniq_model::wit::{Record, Type, Variant};
use omniq_sandbox::value::cbor::{Flaw, Reader};

/// The longest pause that an error may ask for. A retry in a thousand years is a mistake, and would keep its task for ever.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What an error asks for, and what it says for people, if it is a `failure`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Directive {
    pub wish: Wish,
    /// `code: message` of a `failure`.
    pub message: Option<String>,
}

/// Reads a function's error in canonical CBOR.
pub(super) fn read(ty: Option<&Type>, value: &[u8]) -> Directive {
    let read = match ty {
        Some(Type::Record(ty)) => record(ty, value),
        Some(Type::Variant(_) | Type::Enum(_)) => case(&mut Reader::new(value))
            .map(|(name, _)| Directive { wish: of_case(name), message: None }),
        _ => Ok(Directive::default()),
    };
    // The sandbox gives values of their type; one that is none asks for nothing.
    read.unwrap_or_default()
}

fn record(ty: &Record, value: &[u8]) -> Result<Directive, Flaw> {
    let is_failure = is_failure(ty);
    let has_delay = ty.fields.iter().any(|field| {
        field.name == "retry-after-ms"
            && matches!(&field.ty, Type::Option(inner) if **inner == Type::U64)
    });
    let mut directive = Directive::default();
    let (mut code, mut message) = ("", "");
    let mut reader = Reader::new(value);
    for _ in 0..reader.read_map()? {
        match reader.read_text()? {
            "code" if is_failure => code = reader.read_text()?,
            "message" if is_failure => message = reader.read_text()?,
            "retry" if is_failure => directive.wish = retry(&mut reader)?,
            "retry-after-ms" if has_delay && !reader.at_null() => {
                directive.wish = Wish::Retry(Some(millis(reader.read_int()?)));
            }
            _ => reader.skip()?,
        }
    }
    if is_failure {
        directive.message = Some(match (code, message) {
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        });
    }
    Ok(directive)
}

/// Whether a record is `omniq:task/types.failure`, whatever its owner calls it.
fn is_failure(ty: &Record) -> bool {
    let names: Vec<_> = ty.fields.iter().map(|field| field.name.as_str()).collect();
    names == ["code", "message", "retry", "details"]
        && ty.fields[0].ty == Type::String
        && ty.fields[1].ty == Type::String
        && matches!(&ty.fields[2].ty, Type::Variant(variant) if is_retry(variant))
}

fn is_retry(ty: &Variant) -> bool {
    let payload = |name: &str| match name {
        "after" | "snooze" => Some(Type::U64),
        "other" => Some(Type::String),
        _ => None,
    };
    ty.cases.iter().any(|case| case.name == "by-policy")
        && ty.cases.iter().all(|case| case.ty == payload(&case.name))
}

fn retry(reader: &mut Reader<'_>) -> Result<Wish, Flaw> {
    let (name, has_payload) = case(reader)?;
    Ok(match name {
        "after" => Wish::Retry(Some(millis(reader.read_int()?))),
        "snooze" => Wish::Snooze(millis(reader.read_int()?)),
        "never" => Wish::Fail,
        _ => {
            if has_payload {
                reader.skip()?;
            }
            Wish::None
        }
    })
}

/// The case of a variant or enum, and whether its value follows.
fn case<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, bool), Flaw> {
    // The major type of text is 3, that of a map 5.
    let has_payload = reader.peek().is_some_and(|first| first >> 5 == 5);
    if has_payload {
        reader.read_map()?;
    }
    Ok((reader.read_text()?, has_payload))
}

fn of_case(name: &str) -> Wish {
    if name.starts_with("permanent-") || name.starts_with("fatal-") {
        Wish::Fail
    } else {
        Wish::None
    }
}

fn millis(number: i128) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omniq_model::wit::{Case, Field, Labels};
    use omniq_sandbox::value::{Bounds, json};

    use super::*;

    fn field(name: &str, ty: Type) -> Field {
        Field { name: name.into(), ty }
    }

    fn case(name: &str, ty: Option<Type>) -> Case {
        Case { name: name.into(), ty }
    }

    fn record(fields: Vec<Field>) -> Type {
        Type::Record(Arc::new(Record { name: None, fields }))
    }

    fn failure() -> Type {
        let cases = vec![
            case("by-policy", None),
            case("after", Some(Type::U64)),
            case("never", None),
            case("snooze", Some(Type::U64)),
            case("other", Some(Type::String)),
        ];
        record(vec![
            field("code", Type::String),
            field("message", Type::String),
            field("retry", Type::Variant(Arc::new(Variant { name: None, cases }))),
            field("details", Type::Option(Arc::new(Type::String))),
        ])
    }

    #[track_caller]
    fn check(ty: &Type, json: &str, wish: Wish, message: Option<&str>) {
        let value = json::read(ty, json.as_bytes(), &Bounds::default()).unwrap();
        let expected = Directive { wish, message: message.map(str::to_owned) };
        assert_eq!(read(Some(ty), &value), expected, "{json}");
    }

    #[test]
    fn a_failure_says_what_is_to_follow() {
        let after = |retry: &str| {
            format!(r#"{{"code":"busy","message":"come back","retry":{retry},"details":null}}"#)
        };
        for (retry, wish) in [
            (r#""by-policy""#, Wish::None),
            (r#"{"after":1500}"#, Wish::Retry(Some(Duration::from_millis(1500)))),
            (r#""never""#, Wish::Fail),
            (r#"{"snooze":7}"#, Wish::Snooze(Duration::from_millis(7))),
            (r#"{"after":18446744073709551615}"#, Wish::Retry(Some(LONGEST))),
            (r#"{"snooze":2592000001}"#, Wish::Snooze(LONGEST)),
            (r#"{"other":"x"}"#, Wish::None),
        ] {
            check(&failure(), &after(retry), wish, Some("busy: come back"));
        }
    }

    #[test]
    fn names_of_cases_and_a_delay_are_understood_in_any_error() {
        let labels = |labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            Type::Enum(Arc::new(Labels { name: None, labels }))
        };
        let codes = labels(&["permanent-gone", "busy"]);
        check(&codes, r#""permanent-gone""#, Wish::Fail, None);
        check(&codes, r#""busy""#, Wish::None, None);
        let cases = vec![case("fatal-broken", Some(Type::U8)), case("busy", None)];
        let variant = Type::Variant(Arc::new(Variant { name: None, cases }));
        check(&variant, r#"{"fatal-broken":1}"#, Wish::Fail, None);
        let delay = field("retry-after-ms", Type::Option(Arc::new(Type::U64)));
        let ty = record(vec![field("why", Type::String), delay]);
        let wish = Wish::Retry(Some(Duration::from_millis(9)));
        check(&ty, r#"{"why":"x","retry-after-ms":9}"#, wish, None);
        let wish = Wish::Retry(Some(LONGEST));
        check(&ty, r#"{"why":"x","retry-after-ms":18446744073709551615}"#, wish, None);
        check(&ty, r#"{"why":"x","retry-after-ms":null}"#, Wish::None, None);
        check(&Type::String, r#""permanent-looking text""#, Wish::None, None);
    }

    #[test]
    fn what_is_no_value_of_its_type_asks_for_nothing() {
        for bytes in [&b""[..], b"\xa1", b"\x61", b"\xff"] {
            assert_eq!(read(Some(&failure()), bytes), Directive::default());
        }
    }
}
