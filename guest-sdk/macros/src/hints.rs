//! What to write instead of a type that WIT does not have.

use quote::ToTokens;
use syn::{GenericArgument, Path, PathArguments, Type};

/// For a `Result` of another crate, whose error is not visible.
pub const BOTH_SIDES: &str = "name both sides: `Result<T, E>`; `E` may be `omniq::Failure`";

/// For a type that is a part of itself, with or without a `Box` between.
pub const RECURSIVE: &str = "it would contain itself, and WIT knows no recursive types; keep all nodes in one `Vec` and refer to them by index";

/// For a type that nothing is known of.
pub const DECLARED_ELSEWHERE: &str =
    "declare it in this module, or take a type that can be used and convert it";

/// A type as its author would write it.
pub fn text(tokens: impl ToTokens) -> String {
    let spaced = tokens.to_token_stream().to_string();
    // Tokens come with a space between any two of them.
    [
        (" < ", "<"),
        (" >", ">"),
        ("< ", "<"),
        (" <", "<"),
        (" ,", ","),
        (" :: ", "::"),
        (":: ", "::"),
    ]
    .into_iter()
    .chain([
        ("& ", "&"),
        ("[ ", "["),
        (" ]", "]"),
        ("( ", "("),
        (" )", ")"),
        (" ;", ";"),
        ("* ", "*"),
    ])
    .fold(spaced, |text, (from, to)| text.replace(from, to))
}

/// For a type that has a name; `None` for one that nothing is known of.
pub fn for_path(path: &Path) -> Option<String> {
    let last = path.segments.last()?;
    let name = last.ident.to_string();
    let arguments: Vec<String> = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter(|argument| !matches!(argument, GenericArgument::Lifetime(_)))
            .map(text)
            .collect(),
        _ => Vec::new(),
    };
    let instead = match (name.as_str(), arguments.as_slice()) {
        ("usize", []) => "its size depends on the platform; use `u32` or `u64`".to_owned(),
        ("isize", []) => "its size depends on the platform; use `i32` or `i64`".to_owned(),
        ("u128" | "i128", []) => {
            "integers have at most 64 bits; use `u64`, or a `String` of digits".to_owned()
        }
        ("str", []) => "use `String`".to_owned(),
        ("HashMap" | "BTreeMap" | "IndexMap", [key, value, ..]) => {
            format!("use `Vec<({key}, {value})>`")
        }
        (
            "HashSet" | "BTreeSet" | "IndexSet" | "VecDeque" | "LinkedList" | "BinaryHeap",
            [item, ..],
        ) => {
            format!("use `Vec<{item}>`")
        }
        ("Box" | "Rc" | "Arc", [inner]) if inner.starts_with("dyn ") && inner.contains("Error") => {
            failure_instead()
        }
        ("Box" | "Rc" | "Arc", [inner]) if inner.starts_with("dyn ") => {
            "there are no trait objects; use an enum with a case for each type".to_owned()
        }
        ("Box" | "Rc" | "Arc" | "Cell" | "RefCell" | "Mutex" | "RwLock" | "Cow", [inner]) => {
            match inner.as_str() {
                "str" => "use `String`".to_owned(),
                inner => format!("use `{inner}`"),
            }
        }
        ("Path" | "PathBuf" | "OsStr" | "OsString" | "CString" | "Url" | "Uuid", []) => {
            "use `String`".to_owned()
        }
        ("Bytes" | "BytesMut", []) => "use `Vec<u8>`".to_owned(),
        ("Value", []) => {
            "use a struct with the fields that are expected, or a `String` of JSON".to_owned()
        }
        ("Duration" | "TimeDelta", _) => {
            "use `u64` and say in its name that it counts milliseconds".to_owned()
        }
        ("SystemTime" | "Instant" | "DateTime" | "Zoned" | "Timestamp", _) => {
            "use `u64` milliseconds since 1970, or a `String` such as `2026-01-31T12:00:00Z`"
                .to_owned()
        }
        ("Result", _) => BOTH_SIDES.to_owned(),
        ("Error", _) => failure_instead(),
        _ => return None,
    };
    Some(instead)
}

fn failure_instead() -> String {
    "use `omniq::Failure`, into which `?` turns every error, or an enum of this module".to_owned()
}

/// For a type that has no name.
pub fn for_shape(ty: &Type) -> String {
    match ty {
        Type::Array(array) => {
            format!("lists have no fixed length; use `Vec<{}>`", text(&array.elem))
        }
        Type::Slice(slice) => format!("use `Vec<{}>`", text(&slice.elem)),
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => "use `String`".to_owned(),
            Type::Slice(slice) => format!("use `Vec<{}>`", text(&slice.elem)),
            other => format!("use `{}`", text(other)),
        },
        Type::ImplTrait(_) => "name one type".to_owned(),
        Type::TraitObject(_) => {
            "there are no trait objects; use an enum with a case for each type".to_owned()
        }
        Type::FnPtr(_) => {
            "functions are not values that can be sent; use an enum of what is to be done"
                .to_owned()
        }
        Type::Ptr(_) => "an address means nothing outside of the task; use the value".to_owned(),
        Type::Never(_) => "return `Result<T, E>`, or nothing".to_owned(),
        _ => "write the type out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ty: &str, expected: &str) {
        let ty: Type = syn::parse_str(ty).unwrap();
        let hint = match &ty {
            Type::Path(path) => for_path(&path.path).unwrap_or_default(),
            other => for_shape(other),
        };
        assert!(hint.contains(expected), "{}: {hint}", text(&ty));
    }

    #[test]
    fn the_replacement_is_named() {
        for (ty, expected) in [
            ("usize", "`u32` or `u64`"),
            ("std::collections::HashMap<String, Vec<u8>>", "`Vec<(String, Vec<u8>)>`"),
            ("HashSet<(u8, u8)>", "`Vec<(u8, u8)>`"),
            ("Box<Thumb>", "`Thumb`"),
            ("Cow<'a, str>", "`String`"),
            ("Box<dyn std::error::Error + Send>", "`omniq::Failure`"),
            ("anyhow::Error", "`omniq::Failure`"),
            ("[u8; 32]", "`Vec<u8>`"),
            ("&'static str", "`String`"),
            ("impl Iterator<Item = u8>", "name one type"),
        ] {
            check(ty, expected);
        }
    }

    #[test]
    fn types_are_shown_as_they_were_written() {
        for written in [
            "Vec<(String, u32)>",
            "std::io::Result<u8>",
            "&[u8]",
            "[u8; 4]",
            "Option<&str>",
            "*const u8",
        ] {
            let ty: Type = syn::parse_str(written).unwrap();
            assert_eq!(text(&ty), written);
        }
    }
}
