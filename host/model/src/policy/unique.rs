//! Keys that at most one task may have at a time.

use crate::record::{numbered, record};
use crate::time::Span;

numbered! {
    /// How long a key is taken.
    pub enum Scope {
        /// Until the task is claimed first.
        UntilStarted = 0 "until-started",
        /// Until the task has ended.
        UntilFinished = 1 "until-finished",
        /// For a time, however the task fares.
        Window = 2 "window",
    }
}

record! {
    /// At most one task of a tenant holds `key`; a second one is answered with the first one's id.
    pub struct Unique {
        /// The key; any text up to 512 bytes.
        1 => key: String,
        /// How long it is taken.
        2 => scope: Scope,
        /// For [`Scope::Window`]: how long, from the enqueue on.
        3 => window: Span = default,
    }
}

impl Unique {
    /// The most bytes of a key.
    pub const MAX_KEY: usize = 512;
}
