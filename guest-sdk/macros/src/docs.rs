//! Doc comments, and the custom section that carries them: WIT's own docs do not survive into a component.
//!
//! The format of the section is a promise to those who read it, and is written down in `docs/tasks-in-rust.md`.

use serde_json::{Map, Value, json};
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

use crate::model::{Body, Case, Field, Payload, Tasks};

/// The doc comment that these attributes are, without the indentation that all its lines share.
pub fn of(attributes: &[Attribute]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let Meta::NameValue(meta) = &attribute.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value
        {
            lines.extend(text.value().split('\n').map(str::to_owned));
        }
    }
    let blank = |line: &str| line.trim().is_empty();
    let shared = lines
        .iter()
        .filter(|line| !blank(line))
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    let lines: Vec<_> =
        lines.iter().map(|line| line.get(shared..).unwrap_or_default().trim_end()).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// What the section holds: one line of JSON, ended by a newline, since sections of one name are joined by the linker.
pub fn section(tasks: &Tasks, interface: &str) -> String {
    let functions =
        tasks.functions.iter().map(|function| (&function.name, entry(&function.docs, Vec::new())));
    let types = tasks.types.iter().map(|def| {
        let members: Vec<_> = match &def.body {
            Body::Record(fields) => fields.iter().map(|field| (&field.name, &field.docs)).collect(),
            Body::Enum(cases) | Body::Variant(cases) => {
                cases.iter().map(|case| (&case.name, &case.docs)).collect()
            }
        };
        (&def.name, entry(&def.docs, members))
    });
    let made = tasks.types.iter().flat_map(|def| match &def.body {
        Body::Variant(cases) => cases.as_slice(),
        _ => &[],
    });
    let made = made.filter_map(|case| match &case.payload {
        Payload::Record(name, fields) => Some((name, made_entry(case, fields))),
        _ => None,
    });
    let mut section = Map::new();
    section.insert("version".to_owned(), json!(1));
    section.insert("interface".to_owned(), json!(interface));
    insert_text(&mut section, "docs", &tasks.docs);
    insert_map(&mut section, "functions", functions);
    insert_map(&mut section, "types", types.chain(made));
    format!("{}\n", Value::Object(section))
}

fn made_entry(case: &Case, fields: &[Field]) -> Value {
    entry(&case.docs, fields.iter().map(|field| (&field.name, &field.docs)).collect())
}

fn entry(docs: &str, members: Vec<(&String, &String)>) -> Value {
    let mut entry = Map::new();
    insert_text(&mut entry, "docs", docs);
    let members = members.into_iter().map(|(name, docs)| (name, Value::from(docs.as_str())));
    insert_map(&mut entry, "members", members);
    Value::Object(entry)
}

/// Leaves out what says nothing.
fn insert_text(into: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        into.insert(key.to_owned(), text.into());
    }
}

fn insert_map<'a>(
    into: &mut Map<String, Value>,
    key: &str,
    entries: impl Iterator<Item = (&'a String, Value)>,
) {
    let says_nothing = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let entries: Map<_, _> = entries
        .filter(|(_, value)| !says_nothing(value))
        .map(|(name, value)| (name.clone(), value))
        .collect();
    if !entries.is_empty() {
        into.insert(key.to_owned(), Value::Object(entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_holds_what_was_commented() {
        let module = syn::parse_quote! {
            /// Pictures.
            mod tasks {
                /// Shrinks a picture.
                ///
                ///     an example
                pub fn resize(width: u32) -> Result<Thumb, Error> { todo!() }
                pub fn silent() {}
                pub struct Thumb {
                    /// In pixels.
                    width: u32,
                    height: u32,
                }
                /// Why not.
                pub enum Error { /** Too large. */ Large { /// In bytes.
                    limit: u64 } }
            }
        };
        let tasks = crate::read::module(&module).unwrap();
        let section = section(&tasks, "component:images/tasks");
        assert!(section.ends_with("}\n") && section.matches('\n').count() == 1, "{section}");
        let value: Value = serde_json::from_str(&section).unwrap();
        let expected = json!({
            "version": 1,
            "interface": "component:images/tasks",
            "docs": "Pictures.",
            "functions": { "resize": { "docs": "Shrinks a picture.\n\n    an example" } },
            "types": {
                "thumb": { "members": { "width": "In pixels." } },
                "error": { "docs": "Why not.", "members": { "large": "Too large." } },
                "error-large": { "docs": "Too large.", "members": { "limit": "In bytes." } },
            },
        });
        assert_eq!(value, expected);
    }
}
