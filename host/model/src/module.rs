//! A module: a named, versioned component, and what is known about it without loading it.

use crate::digest::Digest;
use crate::id::Name;
use crate::record::record;
use crate::task::ModuleRef;
use crate::time::Timestamp;
use crate::wit::Signature;

record! {
    /// One function of a module that a task can call.
    pub struct ModuleFunction {
        /// Its full name, such as `acme:jobs/calc@1.0.0#add`.
        1 => name: String,
        /// The shortest name that means it and nothing else in the module.
        2 => short: String,
        /// What it takes and gives back.
        3 => signature: Signature,
        /// What its author says about it.
        4 => docs: String = default,
    }
}

record! {
    /// A pushed module.
    pub struct Module {
        /// Its name.
        1 => name: Name,
        /// Its version.
        2 => version: Name,
        /// The SHA-256 of its bytes: its identity.
        3 => digest: Digest,
        /// Its size in bytes.
        4 => size: u64,
        /// What a task can call.
        5 => functions: Vec<ModuleFunction> = default,
        /// It is a program: it exports `wasi:cli/run`.
        6 => command: bool = default,
        /// The capabilities its imports ask for.
        7 => capabilities: Vec<String> = default,
        /// When it was pushed.
        8 => pushed: Timestamp = default,
    }
}

impl Module {
    /// What a task keeps of it.
    pub fn reference(&self) -> ModuleRef {
        ModuleRef {
            digest: self.digest,
            name: self.name.clone(),
            version: self.version.clone(),
            unknown: Default::default(),
        }
    }
}
