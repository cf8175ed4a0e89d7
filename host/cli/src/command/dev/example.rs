//! A command line that calls a function with arguments that fit.

use omniq::Module;
use omniq_model::wit::Type;

/// `omniq enqueue add add 1 1 --wait`
pub fn of(module: &Module) -> String {
    let name = &module.name;
    let Some(function) = module.functions.first() else {
        return format!("omniq enqueue {name} --wait -- ARGS…");
    };
    let args = function.signature.params.iter().map(|param| quoted(&word(&param.ty)));
    let words: Vec<_> = args.collect();
    let call = format!("omniq enqueue {name} {} {}", function.short, words.join(" "));
    format!("{} --wait", call.trim_end())
}

/// A value as the word of a command line.
fn word(ty: &Type) -> String {
    match ty {
        Type::String => String::from("text"),
        Type::Char => String::from("x"),
        other if other.is_bytes() => String::from("@FILE"),
        other => value(other),
    }
}

/// A value in WAVE; the first or least of its type.
fn value(ty: &Type) -> String {
    match ty {
        Type::Bool => String::from("true"),
        Type::F32 | Type::F64 => String::from("1.5"),
        Type::Char => String::from("'x'"),
        Type::String => String::from("\"text\""),
        Type::List(element) => format!("[{}]", value(element)),
        Type::Tuple(types) => {
            format!("({})", types.iter().map(value).collect::<Vec<_>>().join(", "))
        }
        Type::Record(record) => {
            let fields: Vec<_> = record
                .fields
                .iter()
                .map(|field| format!("{}: {}", field.name, value(&field.ty)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Type::Variant(variant) => match variant.cases.first() {
            Some(case) => match &case.ty {
                Some(ty) => format!("{}({})", case.name, value(ty)),
                None => case.name.clone(),
            },
            None => String::new(),
        },
        Type::Enum(labels) => labels.labels.first().cloned().unwrap_or_default(),
        Type::Flags(_) => String::from("{}"),
        Type::Option(_) => String::from("none"),
        Type::Result(result) => match &result.ok {
            Some(ty) => format!("ok({})", value(ty)),
            None => String::from("ok"),
        },
        _ => String::from("1"),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._-".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omniq_model::wit::{Field, Record};

    use super::*;

    #[test]
    fn arguments_fit_and_a_shell_takes_them() {
        let field = |name: &str, ty| Field { name: name.into(), ty };
        let record = Type::Record(Arc::new(Record {
            name: None,
            fields: vec![
                field("name", Type::String),
                field("tags", Type::List(Arc::new(Type::U8))),
            ],
        }));
        for (ty, expected) in [
            (Type::S32, "1"),
            (Type::String, "text"),
            (Type::List(Arc::new(Type::U8)), "@FILE"),
            (Type::Tuple([Type::U8, Type::Char].into()), r"'(1, '\''x'\'')'"),
            (record, "'{name: \"text\", tags: [1]}'"),
        ] {
            assert_eq!(quoted(&word(&ty)), expected);
        }
    }
}
