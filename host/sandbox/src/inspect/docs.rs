//! The documentation that travels inside a component, in the custom section `omniq:task`.
//!
//! The section holds JSON: `{"version": 1, "functions": {"resize": {"docs": "Makes it smaller."}}}`. A linker joins
//! sections of one name, so that several such texts may follow each other. Documentation is advice: what cannot be
//! read is reported beside it and never makes a component unusable.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::name::{FunctionName, position};
use super::{Function, error::shorten};

/// The text kept of one function, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// The entries looked at in a component: as many as it may have functions.
const MAX_ENTRIES: usize = 1000;
/// How often it is said that something could not be read.
const MAX_NOTES: usize = 3;

#[derive(Deserialize)]
struct Section {
    version: u32,
    #[serde(default)]
    functions: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    docs: Option<String>,
}

/// Gives each function the documentation that the sections have for it, and returns what could not be read.
pub(super) fn add(functions: &mut [Function], sections: &[&[u8]]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut entries = BTreeMap::new();
    // An error is the last thing that its section gives.
    let parts = sections
        .iter()
        .flat_map(|section| serde_json::Deserializer::from_slice(section).into_iter::<Section>());
    for part in parts {
        let reason = match part {
            Ok(part) if part.version == 1 => {
                entries.extend(part.functions);
                continue;
            }
            Ok(part) => format!("its version {} is unknown here", part.version),
            Err(error) => shorten(&error.to_string()),
        };
        notes.push(format!("documentation in section `omniq:task` is left out: {reason}"));
        if notes.len() == MAX_NOTES {
            break;
        }
    }
    let names: Vec<FunctionName> = functions.iter().map(|function| function.name.clone()).collect();
    let names: Vec<&FunctionName> = names.iter().collect();
    for (name, entry) in entries.into_iter().take(MAX_ENTRIES) {
        if let (Some(docs), Some(index)) = (entry.docs, position(&name, &names)) {
            functions[index].docs = Some(cut(docs.trim())).filter(|docs| !docs.is_empty());
        }
    }
    notes
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}
