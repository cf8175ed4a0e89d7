//! Structured log lines that are kept with the attempt.
//!
//! ```
//! # use omniq_guest as omniq;
//! omniq::log::info("resized", &[("width", &640), ("name", &"cat.png")]);
//! ```
//!
//! Lines and bytes have limits; a line beyond 16 KiB is cut.

use std::fmt::Display;

use crate::native;

/// The fields of a line: names, and anything that can be shown as text.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happened.
    Info,
    /// What may need somebody's attention.
    Warn,
    /// What went wrong.
    Error,
}

/// Writes one line at [`Level::Trace`].
pub fn trace(message: &str, fields: Fields<'_>) {
    emit(Level::Trace, message, fields);
}

/// Writes one line at [`Level::Debug`].
pub fn debug(message: &str, fields: Fields<'_>) {
    emit(Level::Debug, message, fields);
}

/// Writes one line at [`Level::Info`].
pub fn info(message: &str, fields: Fields<'_>) {
    emit(Level::Info, message, fields);
}

/// Writes one line at [`Level::Warn`].
pub fn warn(message: &str, fields: Fields<'_>) {
    emit(Level::Warn, message, fields);
}

/// Writes one line at [`Level::Error`].
pub fn error(message: &str, fields: Fields<'_>) {
    emit(Level::Error, message, fields);
}

/// Writes one line.
pub fn emit(level: Level, message: &str, fields: Fields<'_>) {
    use crate::bindings::omniq::task::log as wit;
    let level_in_wit = match level {
        Level::Trace => wit::Level::Trace,
        Level::Debug => wit::Level::Debug,
        Level::Info => wit::Level::Info,
        Level::Warn => wit::Level::Warn,
        Level::Error => wit::Level::Error,
    };
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    native::or(
        || native::log(level, message, &fields),
        || wit::emit(level_in_wit, message, &fields),
    );
}
