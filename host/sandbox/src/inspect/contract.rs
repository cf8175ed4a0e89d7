//! The signatures of the exports that have a meaning of their own: a command's entry and the two of a handler.

use std::sync::Arc;

use omniq_model::wit::{Case, Field, Record, ResultType, Signature, Type, Variant};

/// `wasi:cli/run#run`
pub(super) fn command_run() -> Signature {
    returns(Vec::new(), result(None, None))
}

/// `omniq:task/handler#run`
pub(super) fn handler_run() -> Signature {
    let payload = || record(vec![field("media-type", Type::String), field("body", bytes())]);
    let retry = variant(vec![
        case("by-policy", None),
        case("after", Some(Type::U64)),
        case("never", None),
        case("snooze", Some(Type::U64)),
        case("other", Some(Type::String)),
    ]);
    let failure = record(vec![
        field("code", Type::String),
        field("message", Type::String),
        field("retry", retry),
        field("details", Type::Option(Arc::new(payload()))),
    ]);
    let params = vec![field("target", Type::String), field("args", payload())];
    returns(params, result(Some(payload()), Some(failure)))
}

/// `omniq:task/describe#tasks`
pub(super) fn describe_tasks() -> Signature {
    let schema = || Type::Option(Arc::new(Type::String));
    let entry = record(vec![
        field("target", Type::String),
        field("summary", Type::String),
        field("args-schema", schema()),
        field("result-schema", schema()),
    ]);
    returns(Vec::new(), Type::List(Arc::new(entry)))
}

/// Whether two signatures mean the same values, whatever their types are called.
pub(super) fn same(a: &Signature, b: &Signature) -> bool {
    a.is_async == b.is_async
        && same_fields(&a.params, &b.params)
        && same_optional(a.result.as_ref(), b.result.as_ref())
}

fn same_type(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Record(a), Type::Record(b)) => same_fields(&a.fields, &b.fields),
        (Type::Variant(a), Type::Variant(b)) => {
            a.cases.len() == b.cases.len()
                && a.cases
                    .iter()
                    .zip(&b.cases)
                    .all(|(a, b)| a.name == b.name && same_optional(a.ty.as_ref(), b.ty.as_ref()))
        }
        (Type::List(a), Type::List(b)) | (Type::Option(a), Type::Option(b)) => same_type(a, b),
        (Type::Result(a), Type::Result(b)) => {
            same_optional(a.ok.as_ref(), b.ok.as_ref())
                && same_optional(a.err.as_ref(), b.err.as_ref())
        }
        // The contract has no tuples, enums or flags, so that what is left compares as it is.
        _ => a == b,
    }
}

fn same_fields(a: &[Field], b: &[Field]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name && same_type(&a.ty, &b.ty))
}

fn same_optional(a: Option<&Type>, b: Option<&Type>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_type(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn returns(params: Vec<Field>, result: Type) -> Signature {
    Signature { params, result: Some(result), is_async: false }
}

fn bytes() -> Type {
    Type::List(Arc::new(Type::U8))
}

fn record(fields: Vec<Field>) -> Type {
    Type::Record(Arc::new(Record { name: None, fields }))
}

fn variant(cases: Vec<Case>) -> Type {
    Type::Variant(Arc::new(Variant { name: None, cases }))
}

fn result(ok: Option<Type>, err: Option<Type>) -> Type {
    Type::Result(Arc::new(ResultType { ok, err }))
}

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.to_owned(), ty }
}

fn case(name: &str, ty: Option<Type>) -> Case {
    Case { name: name.to_owned(), ty }
}
