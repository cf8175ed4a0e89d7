//! The kinds of failure a program can tell apart, and the exit code each one gives.
//!
//! One table for the library, the command line and the docs: a kind's name and exit code are promises.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, exit $exit:literal;)+) => {
        /// What went wrong, as a program sees it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Kind { $($(#[doc = $doc])+ $variant,)+ }

        impl Kind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];

            /// The name programs match on; it never changes.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)+ }
            }

            /// The exit code of the command line for this kind.
            pub const fn exit_code(self) -> u8 {
                match self { $(Kind::$variant => $exit,)+ }
            }

            /// What the kind means, one or more full sentences.
            pub const fn meaning(self) -> &'static str {
                match self { $(Kind::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

kinds! {
    /// The command line or a setting was not understood.
    Usage = "usage", exit 2;
    /// The file, the module or the function does not exist.
    NotFound = "not-found", exit 3;
    /// The guest used a capability that it was not granted, and failed.
    Denied = "denied", exit 4;
    /// The arguments do not fit the types the function declares.
    ArgsMismatch = "args-mismatch", exit 7;
    /// The function returned the error case of its `result`.
    ErrResult = "err-result", exit 9;
    /// The command exited with a failure, or a typed call ended in an exit and so has no result.
    Exit = "exit", exit 9;
    /// The guest executed more than its fuel allows.
    Fuel = "fuel", exit 10;
    /// The guest was still running, or asleep in the host, at its deadline.
    Timeout = "timeout", exit 10;
    /// The guest used more processor time than it may.
    Cpu = "cpu", exit 10;
    /// The guest asked for more memory than it may hold.
    Memory = "memory", exit 10;
    /// The guest asked for more or larger tables than it may hold.
    Tables = "tables", exit 10;
    /// The component makes more instances or memories than it may.
    Instances = "instances", exit 10;
    /// The guest's calls nest deeper than its stack.
    Stack = "stack", exit 10;
    /// The arguments are larger than the limit.
    ArgsTooLarge = "args-too-large", exit 10;
    /// The result, stdout or stderr is larger than its limit.
    OutputTooLarge = "output-too-large", exit 10;
    /// The guest wrote more log lines than it may.
    LogLines = "log-lines", exit 10;
    /// The guest called the host more often than it may.
    HostCalls = "host-calls", exit 10;
    /// The guest holds more handles to host resources than it may.
    Handles = "handles", exit 10;
    /// The guest broke a rule of WebAssembly: it hit `unreachable`, an access out of bounds, or handed over a value that is not one.
    Trap = "trap", exit 12;
    /// The bytes are not a component that can be run here.
    InvalidComponent = "invalid-component", exit 13;
    /// No slot for another instance was free; nothing ran, and the same call may be repeated.
    NoCapacity = "no-capacity", exit 1;
    /// The caller stopped the call.
    Cancelled = "cancelled", exit 11;
    /// The task's worker died under it more often than it may.
    Crashed = "crashed", exit 12;
    /// The stored task cannot be read.
    Undecodable = "undecodable", exit 1;
    /// A task it waits for did not succeed.
    ParentFailed = "parent-failed", exit 9;
    /// It did not start, or its result was not fetched, within its time to live.
    Expired = "expired", exit 11;
    /// It stands against what is there already: another body under the same version, another task under the same id.
    Conflict = "conflict", exit 6;
    /// The caller waited as long as it wanted to; the task goes on.
    WaitTimeout = "wait-timeout", exit 8;
    /// A store did not answer, or is not what is needed.
    Unavailable = "unavailable", exit 5;
    /// The task succeeded, and its result is not where it was put.
    Lost = "lost", exit 1;
    /// The host itself failed; the guest is not to blame.
    Host = "host", exit 1;
}

impl Kind {
    /// Whether the guest ran into one of its limits.
    pub const fn is_limit(self) -> bool {
        self.exit_code() == 10
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_same_in_serde() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn no_failure_exits_with_success() {
        assert!(Kind::ALL.iter().all(|kind| kind.exit_code() != 0 && !kind.meaning().is_empty()));
    }
}
