//! Random types, and random values of them, for property tests.
//!
//! A value is a `ciborium::Value` in the form that the mapping prescribes, so `ciborium`'s own encoder says what its
//! canonical CBOR is: an opinion independent of the code under test.

use std::sync::Arc;

use ciborium::Value;
use omniq_model::wit::{Case, Field, Labels, Record, ResultType, Signature, Type, Variant};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::Union;

use super::cbor::key_order;

/// Names that have been trouble: keywords of WAVE, other spellings, one whose head needs two bytes.
const NAMES: [&str; 14] = [
    "a",
    "b",
    "x1",
    "ok",
    "err",
    "none",
    "some",
    "true",
    "nan",
    "max-size",
    "size-max",
    "HTTP-port",
    "a-1",
    "a-name-of-more-than-23-bytes",
];

/// Any type, nested up to four levels.
pub(crate) fn ty() -> BoxedStrategy<Type> {
    let tree = leaf().prop_recursive(4, 24, 5, |inner| {
        let inner = inner.boxed();
        let optional = proptest::option::of(inner.clone()).boxed();
        prop_oneof![
            inner.clone().prop_map(|ty| Type::List(Arc::new(ty))),
            inner.clone().prop_map(|ty| Type::Option(Arc::new(ty))),
            vec(inner.clone(), 1..4).prop_map(|types| Type::Tuple(types.into())),
            fields(inner).prop_map(|fields| Type::Record(Arc::new(Record { name: None, fields }))),
            cases(optional.clone())
                .prop_map(|cases| Type::Variant(Arc::new(Variant { name: None, cases }))),
            (optional.clone(), optional)
                .prop_map(|(ok, err)| Type::Result(Arc::new(ResultType { ok, err }))),
        ]
    });
    tree.boxed()
}

/// A function's parameters of any type, up to four.
pub(crate) fn signature() -> BoxedStrategy<Signature> {
    let signature = |params| Signature { params, result: None, is_async: false };
    prop_oneof![1 => Just(signature(Vec::new())), 8 => fields(ty()).prop_map(signature)].boxed()
}

/// A type and a value of it, also as the canonical CBOR that `ciborium` makes of it.
pub(crate) fn typed() -> BoxedStrategy<(Type, Value, Vec<u8>)> {
    let typed = ty().prop_flat_map(|ty| (Just(ty.clone()), value(&ty)));
    typed.prop_map(|(ty, value)| (ty, value.clone(), encoded(&value))).boxed()
}

/// Any value of `ty`, maps in canonical order.
pub(crate) fn value(ty: &Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::U8 => int(0, u8::MAX.into()),
        Type::U16 => int(0, u16::MAX.into()),
        Type::U32 => int(0, u32::MAX.into()),
        Type::U64 => int(0, u64::MAX.into()),
        Type::S8 => int(i8::MIN.into(), i8::MAX.into()),
        Type::S16 => int(i16::MIN.into(), i16::MAX.into()),
        Type::S32 => int(i32::MIN.into(), i32::MAX.into()),
        Type::S64 => int(i64::MIN.into(), i64::MAX.into()),
        Type::F32 => {
            prop_oneof![select(FLOATS.as_slice()).prop_map(|float| float as f32), any::<f32>()]
                .prop_map(|float| {
                    Value::Float(if float.is_nan() { f64::NAN } else { float.into() })
                })
                .boxed()
        }
        Type::F64 => {
            prop_oneof![select(FLOATS.as_slice()), any::<f64>(), any::<f32>().prop_map(f64::from)]
                .prop_map(|float| Value::Float(if float.is_nan() { f64::NAN } else { float }))
                .boxed()
        }
        Type::Char => any::<char>().prop_map(|char| Value::Text(char.to_string())).boxed(),
        Type::String => text().prop_map(Value::Text).boxed(),
        Type::List(_) if ty.is_bytes() => vec(any::<u8>(), 0..40).prop_map(Value::Bytes).boxed(),
        Type::List(element) => vec(value(element), 0..4).prop_map(Value::Array).boxed(),
        Type::Tuple(types) => {
            types.iter().map(value).collect::<Vec<_>>().prop_map(Value::Array).boxed()
        }
        Type::Record(record) => entries(&record.fields),
        Type::Variant(variant) => {
            let cases = variant.cases.iter().map(|Case { name, ty }| match ty {
                Some(ty) => one_entry(name, value(ty)),
                None => Just(Value::Text(name.clone())).boxed(),
            });
            Union::new(cases).boxed()
        }
        Type::Enum(labels) => select(labels.labels.clone()).prop_map(Value::Text).boxed(),
        Type::Flags(labels) => {
            let labels = labels.labels.clone();
            let count = labels.len();
            subsequence(labels, 0..=count)
                .prop_map(|labels| Value::Array(labels.into_iter().map(Value::Text).collect()))
                .boxed()
        }
        Type::Option(inner) => {
            let wraps_option = matches!(**inner, Type::Option(_));
            let some =
                value(inner).prop_map(
                    move |value| if wraps_option { Value::Array(vec![value]) } else { value },
                );
            prop_oneof![Just(Value::Null), some].boxed()
        }
        Type::Result(result) => {
            let side = |name, ty: &Option<Type>| match ty {
                Some(ty) => one_entry(name, value(ty)),
                None => one_entry(name, Just(Value::Null).boxed()),
            };
            prop_oneof![side("ok", &result.ok), side("err", &result.err)].boxed()
        }
    }
}

/// Any values for `fields`, as the canonical map of a record or of arguments.
pub(crate) fn entries(fields: &[Field]) -> BoxedStrategy<Value> {
    let mut fields: Vec<&Field> = fields.iter().collect();
    fields.sort_by(|a, b| key_order(&a.name, &b.name));
    let names: Vec<Value> = fields.iter().map(|field| Value::Text(field.name.clone())).collect();
    let values: Vec<_> = fields.iter().map(|field| value(&field.ty)).collect();
    values.prop_map(move |values| Value::Map(names.iter().cloned().zip(values).collect())).boxed()
}

/// What `ciborium` writes.
pub(crate) fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// `list<T>`
pub(crate) fn list(element: Type) -> Type {
    Type::List(Arc::new(element))
}

/// `option<T>`
pub(crate) fn option(inner: Type) -> Type {
    Type::Option(Arc::new(inner))
}

/// `record { … }`, without a name.
pub(crate) fn record<const N: usize>(fields: [(&str, Type); N]) -> Type {
    Type::Record(Arc::new(Record { name: None, fields: params(fields).params }))
}

/// `variant { … }`, without a name.
pub(crate) fn variant<const N: usize>(cases: [(&str, Option<Type>); N]) -> Type {
    let cases = cases.into_iter().map(|(name, ty)| Case { name: name.to_owned(), ty }).collect();
    Type::Variant(Arc::new(Variant { name: None, cases }))
}

/// The labels of an enum or of flags.
pub(crate) fn labels<const N: usize>(name: Option<&str>, labels: [&str; N]) -> Arc<Labels> {
    Arc::new(Labels { name: name.map(str::to_owned), labels: labels.map(str::to_owned).into() })
}

/// `result<T, E>`
pub(crate) fn result(ok: Option<Type>, err: Option<Type>) -> Type {
    Type::Result(Arc::new(ResultType { ok, err }))
}

/// A function with these parameters and no result.
pub(crate) fn params<const N: usize>(params: [(&str, Type); N]) -> Signature {
    let params = params.into_iter().map(|(name, ty)| Field { name: name.to_owned(), ty }).collect();
    Signature { params, result: None, is_async: false }
}

/// Floats at which formats and widths end.
const FLOATS: [f64; 20] = [
    0.0,
    -0.0,
    1.0,
    1.5,
    0.1,
    -4.1,
    65504.0,
    65505.0,
    5.960_464_477_539_063e-8,
    2.980_232_238_769_531_3e-8,
    6.103_515_625e-5,
    16_777_216.0,
    16_777_217.0,
    3.402_823_466_385_288_6e38,
    1e-45,
    9_007_199_254_740_993.0,
    1.797_693_134_862_315_7e308,
    5e-324,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

fn leaf() -> BoxedStrategy<Type> {
    let labels = || names().prop_map(|labels| Arc::new(Labels { name: None, labels }));
    let plain = select(vec![
        Type::Bool,
        Type::U8,
        Type::U16,
        Type::U32,
        Type::U64,
        Type::S8,
        Type::S16,
        Type::S32,
        Type::S64,
        Type::F32,
        Type::F64,
        Type::Char,
        Type::String,
        Type::List(Arc::new(Type::U8)),
    ]);
    prop_oneof![14 => plain, 1 => labels().prop_map(Type::Enum), 1 => labels().prop_map(Type::Flags)].boxed()
}

fn names() -> BoxedStrategy<Vec<String>> {
    subsequence(NAMES.to_vec(), 1..6)
        .prop_shuffle()
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
        .boxed()
}

fn fields(ty: BoxedStrategy<Type>) -> BoxedStrategy<Vec<Field>> {
    let fields = names().prop_flat_map(move |names| {
        let types = vec(ty.clone(), names.len());
        (Just(names), types)
    });
    fields
        .prop_map(|(names, types)| {
            names.into_iter().zip(types).map(|(name, ty)| Field { name, ty }).collect()
        })
        .boxed()
}

fn cases(ty: BoxedStrategy<Option<Type>>) -> BoxedStrategy<Vec<Case>> {
    let cases = names().prop_flat_map(move |names| {
        let types = vec(ty.clone(), names.len());
        (Just(names), types)
    });
    cases
        .prop_map(|(names, types)| {
            names.into_iter().zip(types).map(|(name, ty)| Case { name, ty }).collect()
        })
        .boxed()
}

/// Integers of all sizes, the ends of the range and its neighbours among them.
fn int(least: i128, most: i128) -> BoxedStrategy<Value> {
    let near =
        |at: i128| (at.saturating_sub(2).max(least)..=at.saturating_add(2).min(most)).boxed();
    let edges = [0, 24, 0xff, 0x1_0000, 1 << 31, 1 << 32, (1 << 53) - 1, least, most];
    let edges = edges.into_iter().filter(|edge| (least..=most).contains(edge)).map(near);
    let int = prop_oneof![Union::new(edges), least..=most];
    int.prop_map(|int| Value::Integer(int.try_into().unwrap())).boxed()
}

fn text() -> BoxedStrategy<String> {
    let awkward =
        select("\"'\\\n\r\t\0\u{7f}\u{301}\u{202e}{}[]():,%/ é😀".chars().collect::<Vec<_>>());
    vec(prop_oneof![awkward, any::<char>(), proptest::char::range('a', 'z')], 0..30)
        .prop_map(String::from_iter)
        .boxed()
}

fn one_entry(name: &str, value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let name = Value::Text(name.to_owned());
    value.prop_map(move |value| Value::Map(vec![(name.clone(), value)])).boxed()
}
