//! Why a component is refused: each message says what is wrong and what to do about it.
//!
//! Names come from the component and may be long, so that every message shortens them.

use std::fmt;

use omniq_model::Kind;

use super::known::INTERFACES;
use super::nearest;

/// A component that is not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no bytes.
    #[error("the file is empty; give a WebAssembly component, a `.wasm` file")]
    Empty,
    /// The bytes are something else.
    #[error("this is not WebAssembly but {looks_like}; give a component, a `.wasm` file")]
    NotWasm {
        /// What it is, as far as its beginning tells.
        looks_like: &'static str,
    },
    /// More bytes than allowed.
    #[error(
        "the component has {size} bytes, more than the {max} allowed; strip its debug information or raise the limit"
    )]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A module of the core language.
    #[error("this is a core module, not a component; {}", make_component(*preview1))]
    CoreModule {
        /// Whether it imports WASI 0.1, so that it needs the adapter.
        preview1: bool,
    },
    /// A binary format that is not known here.
    #[error(
        "the binary format has version {version:#x} of layer {layer}, which is unknown here; build the component with a current toolchain"
    )]
    Encoding {
        /// The version in its header.
        version: u16,
        /// The layer in its header: 0 is a module, 1 a component.
        layer: u16,
    },
    /// The bytes end too early.
    #[error(
        "the component is cut off: it ends within a part that begins before byte {offset}; build or copy it again"
    )]
    Truncated {
        /// Where reading stopped.
        offset: usize,
    },
    /// A rule of the format is broken.
    #[error(
        "the component is not valid, at byte {offset}: {message}; build it again with a current toolchain"
    )]
    Invalid {
        /// Where.
        offset: usize,
        /// Which rule, in the validator's words.
        message: String,
    },
    /// A feature of WebAssembly that the profile does not have.
    #[error("{}", feature(name, place.as_deref(), *in_full))]
    Feature {
        /// Its name, such as `component-model async`.
        name: String,
        /// Where a signature uses it, such as `jobs.resize param 2 field body: stream<u8>`.
        place: Option<String>,
        /// Whether the full profile has it.
        in_full: bool,
    },
    /// Components inside components, too many levels of them.
    #[error("components are nested more than {max} levels deep; compose it of fewer layers")]
    Nesting {
        /// The limit.
        max: usize,
    },
    /// Too many modules and components in it.
    #[error(
        "the component consists of more than {max} modules and components; compose it of fewer"
    )]
    TooManyParts {
        /// The limit.
        max: usize,
    },
    /// Too many instances of modules and components, those inside of others included.
    #[error(
        "the component makes more than {max} instances of modules and components when it starts; compose it of fewer"
    )]
    TooManyInstances {
        /// The limit.
        max: usize,
    },
    /// Too much to wire up between all instances.
    #[error(
        "the instances of the component have more than {max} imports, exports and functions together; compose it of fewer"
    )]
    TooManyItems {
        /// The limit.
        max: usize,
    },
    /// Too many elements, initial values and data segments in its modules.
    #[error(
        "the modules of the component have more than {max} table elements, globals and data segments together; split it"
    )]
    TooManyValues {
        /// The limit.
        max: usize,
    },
    /// Too much that core instances take beside their memories and tables.
    #[error(
        "the core instances of the component take more than {max} bytes for globals, function references and passive elements; compose it of fewer"
    )]
    TooMuchState {
        /// The limit.
        max: usize,
    },
    /// An instance of a component that it does not contain, whose size nobody knows beforehand.
    #[error(
        "the component instantiates a component that it is given or takes out of an instance; put that component into it"
    )]
    UnknownComponent,
    /// Too many exports.
    #[error("the component exports more than {max} functions and other items; split it")]
    TooManyExports {
        /// The limit.
        max: usize,
    },
    /// Too many imports.
    #[error("the component has more than {max} imports; compose it with what serves them")]
    TooManyImports {
        /// The limit.
        max: usize,
    },
    /// A type that nests too deep.
    #[error("`{}` has a type that is more than {max} levels deep; flatten it", shorten(function))]
    TypeDepth {
        /// The function.
        function: String,
        /// The limit.
        max: usize,
    },
    /// Types that are too large once they are written out.
    #[error(
        "the types of `{}` have more than {max} parts when written out; simplify them",
        shorten(function)
    )]
    TypeSize {
        /// The function.
        function: String,
        /// The limit.
        max: usize,
    },
    /// Types of all functions that are too large together.
    #[error(
        "the types of all functions together have more than {max} parts when written out; export fewer functions"
    )]
    AllTypesSize {
        /// The limit.
        max: usize,
    },
    /// Imports that nobody here serves.
    #[error("{}", unknown_imports(.0))]
    Imports(Vec<UnknownImport>),
    /// No export that could be called.
    #[error("the component has nothing to run: {}", nothing(.0))]
    NothingToRun(Vec<OtherExport>),
    /// Text that is no component either.
    #[error("the text is not WebAssembly, at line {line}, column {column}: {message}")]
    Text {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
}

impl Error {
    /// What went wrong, as a program sees it.
    pub fn kind(&self) -> Kind {
        Kind::InvalidComponent
    }
}

/// An import that nobody here serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownImport {
    /// Its name, as the component states it.
    pub name: String,
    /// What is wrong with it, and what was perhaps meant.
    pub reason: String,
}

/// An export that is no callable function, and why; it does no harm beside those that are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OtherExport {
    /// Its name in full.
    pub name: String,
    /// Why it is not callable.
    pub reason: String,
}

fn make_component(preview1: bool) -> &'static str {
    if preview1 {
        "it uses WASI 0.1, so build it with `cargo build --target wasm32-wasip2`, or wrap it with \
         `wasm-tools component new --adapt wasi_snapshot_preview1.wasm`"
    } else {
        "build it with `cargo build --target wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    }
}

fn feature(name: &str, place: Option<&str>, in_full: bool) -> String {
    let place = place.map_or(String::new(), |place| format!(": {}", shorten(place)));
    if in_full {
        format!("the component needs {name}, which only the full profile runs{place}")
    } else {
        format!("the component needs {name}, which no profile runs{place}")
    }
}

fn unknown_imports(imports: &[UnknownImport]) -> String {
    let each =
        imports.iter().map(|import| format!("`{}` ({})", shorten(&import.name), import.reason));
    let what = if imports.len() == 1 { "an import" } else { "imports" };
    format!(
        "the component needs {what} that nobody here serves: {}; build it without, or compose it with a component \
         that exports what it needs",
        list(each)
    )
}

fn nothing(exports: &[OtherExport]) -> String {
    if exports.is_empty() {
        return "it exports nothing; export a function, or `wasi:cli/run`".to_owned();
    }
    list(exports.iter().map(|export| format!("`{}` ({})", shorten(&export.name), export.reason)))
}

/// What is known of WebAssembly's features, in the words people know them by.
pub(super) fn feature_name(features: wasmparser::WasmFeatures) -> String {
    let known = [
        ("cm_async", "component-model async"),
        ("cm_map", "maps"),
        ("cm_fixed_length_lists", "lists of fixed length"),
        ("cm_error_context", "error contexts"),
        ("cm_values", "component values"),
        ("gc", "garbage-collected types"),
        ("gc_types", "garbage-collected types"),
        ("function_references", "typed function references"),
        ("exceptions", "exceptions"),
        ("legacy_exceptions", "legacy exceptions"),
        ("threads", "threads"),
        ("memory64", "64-bit memories"),
        ("custom_page_sizes", "custom page sizes"),
    ];
    let names: Vec<_> = features.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    match names.first() {
        Some(name) => known
            .iter()
            .find(|(key, _)| key == name)
            .map_or_else(|| name.replace('_', "-"), |(_, words)| (*words).to_owned()),
        None => "a feature".to_owned(),
    }
}

/// The known interface that was perhaps meant.
pub(super) fn similar_interface(name: &str) -> Option<&'static str> {
    nearest::suggestion(name, INTERFACES.iter().map(|interface| interface.name))
}

/// The first ten of `items`, separated by commas, and how many more there are.
pub(super) fn list(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    const SHOWN: usize = 10;
    let mut items = items.into_iter();
    let shown: Vec<_> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// At most 200 characters of a text on one line.
pub(super) fn shorten(text: &str) -> String {
    const MAX: usize = 200;
    let mut characters = text.chars().map(|character| match character {
        '\n' | '\t' => ' ',
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    });
    let mut short: String = characters.by_ref().take(MAX).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_long_names_are_cut() {
        assert_eq!(list(["a", "b"]), "a, b");
        assert_eq!(list(1..=12), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
        assert_eq!(shorten("a\nb\u{7}"), "a b\u{fffd}");
        assert_eq!(shorten(&"é".repeat(201)), format!("{}…", "é".repeat(200)));
    }
}
