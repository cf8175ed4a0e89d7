//! Reads everything a component says about itself from its bytes: functions with their types, imports with the
//! capabilities they need, what kind of task it is.
//!
//! Nothing is compiled and nothing runs. The work is bounded whatever the bytes are: their number, the nesting of
//! components, the functions and the depth and size of types all have limits, and all but the code is validated before
//! it is looked at. Code is validated when it is compiled.
//!
//! ```
//! use omniq_sandbox::inspect::{Rules, inspect, text};
//!
//! let component = text::to_binary(
//!     br#"(component
//!         (core module $m (func (export "add") (param i32 i32) (result i32)
//!             (i32.add (local.get 0) (local.get 1))))
//!         (core instance $i (instantiate $m))
//!         (func (export "add") (param "a" s32) (param "b" s32) (result s32)
//!             (canon lift (core func $i "add"))))"#,
//!     None,
//! )?;
//! let inspection = inspect(&component, &Rules::default())?;
//! assert_eq!(inspection.function("add").unwrap().signature.to_string(), "(a: s32, b: s32) -> s32");
//! # Ok::<_, omniq_sandbox::inspect::Error>(())
//! ```

mod contract;
mod count;
mod docs;
mod error;
mod export;
mod import;
pub mod known;
mod name;
pub mod nearest;
mod profile;
mod read;
#[cfg(test)]
mod tests;
pub mod text;
mod types;
mod weigh;

use omniq_model::Digest;
use omniq_model::wit::Signature;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmparser::WasmFeatures;

pub use error::{Error, OtherExport, UnknownImport};
pub use import::Import;
pub use known::Capability;
pub use name::{FunctionName, LookupError};
pub use profile::Profile;

#[cfg(feature = "engine")]
pub(crate) use count::core_instances;
use read::Failure;

/// What a component may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The features it may use. Default [`Profile::Strict`].
    pub profile: Profile,
    /// Its size in bytes. Default 32 MiB.
    pub max_bytes: usize,
    /// The instances of core modules and components it may make when it starts, those inside of others included; a
    /// component of a real toolchain makes four to forty. Default 1,000.
    pub max_instances: usize,
    /// The functions it may export, and everything else that is no type. Default 1,000.
    pub max_functions: usize,
    /// How deep a type may nest; a plain `u32` is one level. Default 32, at most 100.
    pub max_type_depth: usize,
    /// How many parts the types of one function may have when written out, a long name counting as several; all
    /// functions together may have fifty times as many. Default 10,000.
    pub max_type_nodes: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            profile: Profile::Strict,
            max_bytes: 32 << 20,
            max_instances: 1000,
            max_functions: 1000,
            max_type_depth: 32,
            max_type_nodes: 10_000,
        }
    }
}

/// What a component says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The identity of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The functions that can be called with plain values, in the order it exports them; the one of a handler is
    /// among them.
    pub functions: Vec<Function>,
    /// The interface that makes it a command, such as `wasi:cli/run@0.2.3`.
    pub command: Option<String>,
    /// The function that makes it a handler, such as `omniq:task/handler@0.1.0#run`.
    pub handler: Option<FunctionName>,
    /// The function that describes what a handler answers to, such as `omniq:task/describe@0.1.0#tasks`.
    pub describe: Option<FunctionName>,
    /// What it asks for, in its own order.
    pub imports: Vec<Import>,
    /// Exports that are left alone, and why.
    pub others: Vec<OtherExport>,
    /// What it was made with, as it claims.
    pub producers: Producers,
    /// What else a person may want to know, such as documentation that could not be read.
    pub notes: Vec<String>,
}

/// A function that can be called with plain values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: FunctionName,
    /// What it takes and gives back.
    pub signature: Signature,
    /// What its author says about it, as Markdown.
    pub docs: Option<String>,
}

/// What a component was made with, from its `producers` sections; a claim that nobody checks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Producers {
    /// Source languages, such as `Rust`.
    pub languages: Vec<String>,
    /// Compilers and other tools with their versions, such as `rustc 1.95.0`.
    pub tools: Vec<String>,
}

/// A way to run a component; one component may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Its functions are called with typed values.
    Functions,
    /// It is run like a program: arguments, stdin and environment in, stdout and stderr out.
    Command,
    /// It takes bytes through `omniq:task/handler`.
    Handler,
}

/// The bytes of a component together with what they say about themselves: what was inspected once can be
/// [loaded](crate::Sandbox::load_inspected) without reading it again.
#[derive(Debug, Clone)]
pub struct Inspected {
    bytes: Vec<u8>,
    rules: Rules,
    inspection: Inspection,
}

impl Inspected {
    /// Inspects a component.
    ///
    /// # Errors
    /// As [`inspect`].
    pub fn new(bytes: Vec<u8>, rules: Rules) -> Result<Self, Error> {
        let inspection = inspect(&bytes, &rules)?;
        Ok(Self { bytes, rules, inspection })
    }

    /// The component itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it was held to.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What it says about itself.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }
}

/// Components from this size on are hashed on a thread of their own while they are read.
const HASHED_ASIDE: usize = 1 << 20;

/// Reads what a component says about itself.
///
/// # Errors
/// Every [`Error`] means that the component is not run here; the message says why and what to do.
pub fn inspect(bytes: &[u8], rules: &Rules) -> Result<Inspection, Error> {
    if bytes.len() > rules.max_bytes {
        return Err(Error::TooLarge { size: bytes.len() as u64, max: rules.max_bytes as u64 });
    }
    if bytes.len() < HASHED_ASIDE {
        return read_all(bytes, rules, || Sha256::digest(bytes).into());
    }
    std::thread::scope(|scope| {
        let hash = || Sha256::digest(bytes).into();
        match std::thread::Builder::new().spawn_scoped(scope, hash) {
            Ok(hashing) => read_all(bytes, rules, || hashing.join().unwrap_or_else(|_| hash())),
            Err(_) => read_all(bytes, rules, hash),
        }
    })
}

fn read_all(
    bytes: &[u8],
    rules: &Rules,
    hash: impl FnOnce() -> [u8; 32],
) -> Result<Inspection, Error> {
    let component =
        read::read(bytes, rules.profile.features(), rules).map_err(|failure| match failure {
            Failure::Feature(missing) => explain_feature(bytes, rules, missing),
            Failure::Other(error) => error,
        })?;
    let imports = import::read(&component)?;
    let mut exports = export::read(&component, rules)?;
    if exports.functions.is_empty() && exports.command.is_none() {
        return Err(Error::NothingToRun(exports.others));
    }
    let notes = docs::add(&mut exports.functions, &component.docs);
    Ok(Inspection {
        digest: Digest::from_sha256(hash()),
        size: bytes.len() as u64,
        functions: exports.functions,
        command: exports.command,
        handler: exports.handler,
        describe: exports.describe,
        imports,
        others: exports.others,
        producers: component.producers,
        notes,
    })
}

/// Says where a component uses a feature that its profile lacks, if one of its signatures does.
fn explain_feature(bytes: &[u8], rules: &Rules, missing: WasmFeatures) -> Error {
    // With more features on the types can be read, for the message alone; what fails now just makes it shorter.
    let exports = read::read(bytes, profile::EXPLAINED, rules)
        .ok()
        .and_then(|component| export::read(&component, rules).ok())
        .unwrap_or_default();
    let place = exports.places.into_iter().find(|place| place.feature.intersects(missing));
    let full = Profile::Full.features();
    // In the full profile a signature with a stream is left alone, which helps only if there is another one.
    let in_full = full.contains(missing) && (place.is_none() || !exports.functions.is_empty());
    Error::Feature {
        name: error::feature_name(missing),
        place: place.map(|place| place.text),
        in_full,
    }
}

/// Finds the function that `wanted` means among `names`, as [`Inspection::function`] does: for who has stored the names.
///
/// # Errors
/// [`LookupError`] when there is none, or more than one; it lists what there is.
pub fn find_function(wanted: &str, names: &[&FunctionName]) -> Result<usize, LookupError> {
    name::find(wanted, names)
}

impl Inspection {
    /// Finds a function by its full name or any shorter form that means one function only.
    ///
    /// `add`, `calc.add`, `calc#add`, `acme:jobs/calc#add` and `acme:jobs/calc@1.0.0#add` may all mean the same.
    ///
    /// # Errors
    /// [`LookupError`] when there is none, or more than one; it lists what there is.
    pub fn function(&self, name: &str) -> Result<&Function, LookupError> {
        name::find(name, &self.names()).map(|index| &self.functions[index])
    }

    /// The shortest form of a function's name that [`Inspection::function`] understands.
    pub fn short_name(&self, name: &FunctionName) -> String {
        name::short(name, &self.names())
    }

    /// The ways it can be run, the most specific first; never empty.
    pub fn shapes(&self) -> Vec<Shape> {
        let is_handler = |function: &Function| Some(&function.name) == self.handler.as_ref();
        let mut shapes = Vec::new();
        if self.handler.is_some() {
            shapes.push(Shape::Handler);
        }
        if self.functions.iter().any(|function| !is_handler(function)) {
            shapes.push(Shape::Functions);
        }
        if self.command.is_some() {
            shapes.push(Shape::Command);
        }
        shapes
    }

    /// The capabilities its imports need, each once, in the order of [`Capability`]; without [`Capability::None`].
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities: Vec<_> = self
            .imports
            .iter()
            .map(|import| import.capability)
            .filter(|capability| *capability != Capability::None)
            .collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        capabilities
    }

    fn names(&self) -> Vec<&FunctionName> {
        self.functions.iter().map(|function| &function.name).collect()
    }
}
