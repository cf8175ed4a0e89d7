//! Stderr: messages of ours, and what a guest says while it runs.
//!
//! Nothing here fails: when stderr is gone, there is nobody left to tell.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use omniq_model::Kind;

use super::problem::Problem;

/// Writes a whole message that begins with `error:`.
pub fn error(text: &str) {
    note(text);
}

/// Writes one line that begins with `warning:`.
pub fn warning(text: &str) {
    note(&format!("warning: {text}\n"));
}

/// Writes text that ends its own last line.
pub fn note(text: &str) {
    raw(text.as_bytes());
}

/// As [`note`], for the last words of a service: whoever reads stderr and stands still keeps it from its end for a second only.
pub fn last_words(text: String) {
    let (written, is_written) = mpsc::channel();
    let write = move || {
        note(&text);
        let _ = written.send(()); // or nobody waits any more
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = is_written.recv_timeout(Duration::from_secs(1));
    }
}

/// Writes what a guest wrote, byte for byte.
pub fn raw(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Whether somebody watches.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Asks whether to do what is named.
///
/// # Errors
/// The answer is no; or `otherwise`, where nobody is here to ask.
pub fn confirm(what: &str, otherwise: Problem) -> Result<(), Problem> {
    if !(io::stdin().is_terminal() && is_watched()) {
        return Err(otherwise);
    }
    // A question that cannot be written is answered by nobody, which means no.
    note(&format!("{what}? [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Problem::new(Kind::Cancelled, "nothing was done"))
}

/// Text of a guest on one line, without what a terminal would obey.
pub fn tame(text: &str) -> String {
    let visible = |character: char| match character {
        '\n' | '\r' | '\t' => ' ',
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        assert_eq!(tame("a\u{1b}[31mb\nc\u{7f}"), "a\u{fffd}[31mb c\u{fffd}");
    }
}
