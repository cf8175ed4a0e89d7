//! The types of the component model as plain data: what a function takes and gives back.
//!
//! A signature is read once from a component and then needs no component, and no engine, any more: arguments are
//! checked against it wherever work is accepted. Only *value* types exist here; a function that takes or returns a
//! resource, stream or future has no signature. Source of the type system: the component model's WIT specification.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The type of a value.
///
/// Equality ignores nothing: two records with the same fields and other names differ. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// `bool`
    Bool,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `s8`
    S8,
    /// `s16`
    S16,
    /// `s32`
    S32,
    /// `s64`
    S64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`: one Unicode scalar value.
    Char,
    /// `string`: Unicode text.
    String,
    /// `list<T>`. A list of `u8` is a byte string in every encoding.
    List(Arc<Type>),
    /// `tuple<A, B, …>`
    Tuple(Arc<[Type]>),
    /// `record { … }`
    Record(Arc<Record>),
    /// `variant { … }`
    Variant(Arc<Variant>),
    /// `enum { … }`
    Enum(Arc<Labels>),
    /// `flags { … }`
    Flags(Arc<Labels>),
    /// `option<T>`
    Option(Arc<Type>),
    /// `result<T, E>`, either side of which may be absent.
    Result(Arc<ResultType>),
}

/// A record: named fields, all present.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The name its interface exports it under; `None` where it has none.
    pub name: Option<String>,
    /// The fields, in the order they are declared; names are kebab-case and unique.
    pub fields: Vec<Field>,
}

/// A named and typed place: a record's field or a function's parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Kebab-case, as declared.
    pub name: String,
    /// What it holds.
    pub ty: Type,
}

/// A variant: exactly one of its cases, some of which carry a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// The name its interface exports it under; `None` where it has none.
    pub name: Option<String>,
    /// The cases, in the order they are declared.
    pub cases: Vec<Case>,
}

/// One case of a [`Variant`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// Kebab-case, as declared.
    pub name: String,
    /// The value it carries, if any.
    pub ty: Option<Type>,
}

/// The labels of an enum (one of them) or of flags (any of them).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Labels {
    /// The name its interface exports it under; `None` where it has none.
    pub name: Option<String>,
    /// Kebab-case, in the order they are declared.
    pub labels: Vec<String>,
}

/// Both sides of a `result`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultType {
    /// What success carries, if anything.
    pub ok: Option<Type>,
    /// What failure carries, if anything.
    pub err: Option<Type>,
}

/// What a function takes and gives back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// The parameters, in order; names are unique.
    pub params: Vec<Field>,
    /// What it returns, if anything.
    pub result: Option<Type>,
    /// Whether it is an `async func`, which only the full profile of the sandbox runs.
    pub is_async: bool,
}

impl Type {
    /// Whether this is `list<u8>`, which every encoding treats as bytes.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Type::List(element) if **element == Type::U8)
    }

    /// The name the type was declared under, if it is a named type.
    pub fn name(&self) -> Option<&str> {
        match self {
            Type::Record(record) => record.name.as_deref(),
            Type::Variant(variant) => variant.name.as_deref(),
            Type::Enum(labels) | Type::Flags(labels) => labels.name.as_deref(),
            _ => None,
        }
    }

    /// The types this one is made of, in declaration order.
    pub fn children(&self) -> Vec<&Type> {
        match self {
            Type::List(ty) | Type::Option(ty) => vec![ty],
            Type::Tuple(types) => types.iter().collect(),
            Type::Record(record) => record.fields.iter().map(|field| &field.ty).collect(),
            Type::Variant(variant) => {
                variant.cases.iter().filter_map(|case| case.ty.as_ref()).collect()
            }
            Type::Result(result) => [&result.ok, &result.err].into_iter().flatten().collect(),
            _ => Vec::new(),
        }
    }

    /// The WIT declaration of a named type, such as `record point { x: s32, y: s32 }`; `None` for every other type.
    pub fn declaration(&self) -> Option<String> {
        let name = self.name()?;
        Some(match self {
            Type::Record(record) => {
                let fields: Vec<_> = record
                    .fields
                    .iter()
                    .map(|field| format!("{}: {}", field.name, field.ty))
                    .collect();
                format!("record {name} {{ {} }}", fields.join(", "))
            }
            Type::Variant(variant) => {
                let cases: Vec<_> = variant.cases.iter().map(Case::to_string).collect();
                format!("variant {name} {{ {} }}", cases.join(", "))
            }
            Type::Enum(labels) => format!("enum {name} {{ {} }}", labels.labels.join(", ")),
            Type::Flags(labels) => format!("flags {name} {{ {} }}", labels.labels.join(", ")),
            _ => return None,
        })
    }
}

impl Signature {
    /// Every named type the signature mentions, each once, the ones it depends on first.
    pub fn named_types(&self) -> Vec<&Type> {
        fn visit<'a>(ty: &'a Type, seen: &mut Vec<&'a Type>) {
            if seen.contains(&ty) {
                return;
            }
            for child in ty.children() {
                visit(child, seen);
            }
            if ty.name().is_some() {
                seen.push(ty);
            }
        }
        let mut seen = Vec::new();
        for ty in self.params.iter().map(|param| &param.ty).chain(&self.result) {
            visit(ty, &mut seen);
        }
        seen
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ty {
            Some(ty) => write!(f, "{}({ty})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Writes the type as WIT does: a named type by its name, every other one in full.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        match self {
            Type::Bool => f.write_str("bool"),
            Type::U8 => f.write_str("u8"),
            Type::U16 => f.write_str("u16"),
            Type::U32 => f.write_str("u32"),
            Type::U64 => f.write_str("u64"),
            Type::S8 => f.write_str("s8"),
            Type::S16 => f.write_str("s16"),
            Type::S32 => f.write_str("s32"),
            Type::S64 => f.write_str("s64"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("string"),
            Type::List(element) => write!(f, "list<{element}>"),
            Type::Option(inner) => write!(f, "option<{inner}>"),
            Type::Tuple(types) => write!(f, "tuple<{}>", join(types.iter())),
            Type::Record(record) => {
                write!(
                    f,
                    "record {{ {} }}",
                    join(record.fields.iter().map(|field| format!("{}: {}", field.name, field.ty)))
                )
            }
            Type::Variant(variant) => write!(f, "variant {{ {} }}", join(&variant.cases)),
            Type::Enum(labels) => write!(f, "enum {{ {} }}", labels.labels.join(", ")),
            Type::Flags(labels) => write!(f, "flags {{ {} }}", labels.labels.join(", ")),
            Type::Result(result) => match (&result.ok, &result.err) {
                (None, None) => f.write_str("result"),
                (Some(ok), None) => write!(f, "result<{ok}>"),
                (None, Some(err)) => write!(f, "result<_, {err}>"),
                (Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
            },
        }
    }
}

/// Writes the signature without the function's name: `(a: s32, b: s32) -> s32`.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.params.iter().map(|param| format!("{}: {}", param.name, param.ty));
        write!(f, "({})", join(params))?;
        match &self.result {
            Some(result) => write!(f, " -> {result}"),
            None => Ok(()),
        }
    }
}

fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point() -> Type {
        let field = |name: &str| Field { name: name.to_owned(), ty: Type::S32 };
        Type::Record(Arc::new(Record {
            name: Some("point".to_owned()),
            fields: vec![field("x"), field("y")],
        }))
    }

    #[test]
    fn a_signature_reads_like_wit() {
        let result = ResultType { ok: Some(Type::List(Arc::new(point()))), err: None };
        let signature = Signature {
            params: vec![
                Field { name: "at".to_owned(), ty: point() },
                Field { name: "size".to_owned(), ty: Type::Tuple([Type::U32, Type::F64].into()) },
            ],
            result: Some(Type::Result(Arc::new(result))),
            is_async: false,
        };
        assert_eq!(
            signature.to_string(),
            "(at: point, size: tuple<u32, f64>) -> result<list<point>>"
        );
        let declared: Vec<_> =
            signature.named_types().into_iter().filter_map(Type::declaration).collect();
        assert_eq!(declared, ["record point { x: s32, y: s32 }"]);
    }
}
