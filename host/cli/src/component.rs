//! A component from a file, read no further than it may be large.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use omniq_model::Kind;
use omniq_sandbox::inspect::{self, Inspected, Inspection, Rules, text};

use crate::option::quantity::Span;
use crate::output::problem::Problem;

/// A component and what it says about itself.
#[derive(Debug)]
pub struct Component {
    /// The name of its file, without the folder.
    pub name: String,
    inspected: Inspected,
}

impl Component {
    /// What it says about itself.
    pub fn inspection(&self) -> &Inspection {
        self.inspected.inspection()
    }

    /// What the sandbox loads.
    pub fn inspected(&self) -> &Inspected {
        &self.inspected
    }
}

/// Reads a component, binary or text, from a file or, named `-`, from stdin.
///
/// # Errors
/// The file cannot be read, or is no component that is run here.
pub fn read(path: &Path, rules: &Rules) -> Result<Component, Problem> {
    let is_stdin = is_stdin(path);
    let content = if is_stdin { read_stdin(rules.max_bytes) } else { read_file(path, rules) }?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let file_name = (!is_stdin).then_some(&*name);
    let bytes = match text::to_binary(&content, file_name)? {
        std::borrow::Cow::Owned(binary) => binary,
        std::borrow::Cow::Borrowed(_) => content,
    };
    Ok(Component { name, inspected: Inspected::new(bytes, rules.clone())? })
}

/// Whether a path stands for stdin.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

fn read_file(path: &Path, rules: &Rules) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: io::Error| {
        let shown = path.display();
        match error.kind() {
            ErrorKind::NotFound => {
                Problem::new(Kind::NotFound, format!("the file `{shown}` does not exist"))
                    .hint("give the path of a component, a `.wasm` or `.wat` file")
            }
            ErrorKind::IsADirectory => {
                Problem::new(Kind::InvalidComponent, format!("`{shown}` is a directory"))
                    .hint("give the path of a component, a `.wasm` or `.wat` file")
            }
            _ => anyhow::Error::from(error)
                .context(format!("the file `{shown}` cannot be read"))
                .into(),
        }
    };
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    // A text may be larger than its component; the reader of texts has a bound of its own.
    let max = rules.max_bytes.max(text::MAX_TEXT_BYTES) as u64;
    if size > max {
        return Err(inspect::Error::TooLarge { size, max: rules.max_bytes as u64 }.into());
    }
    read_bounded(
        file,
        usize::try_from(max).unwrap_or(usize::MAX),
        usize::try_from(size).unwrap_or(0),
    )
    .map_err(unreadable)
}

fn read_stdin(max: usize) -> Result<Vec<u8>, Problem> {
    let bytes = read_bounded(io::stdin().lock(), max.max(text::MAX_TEXT_BYTES), 0);
    Ok(bytes.context("stdin cannot be read")?)
}

/// Reads stdin as [`read_bounded`] does, and gives it up when it has not ended after `patience`.
///
/// # Errors
/// As stdin's; [`ErrorKind::TimedOut`] if it does not end.
pub fn read_stdin_within(max: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let (read, ended) = mpsc::sync_channel(1);
    let reader = move || {
        // Nobody listens any more if it took too long.
        let _ = read.send(read_bounded(io::stdin().lock(), max, 0));
    };
    // Nothing can end a read that waits but the end of the process, which is near when it is given up.
    thread::Builder::new().name(String::from("omniq-stdin")).spawn(reader)?;
    ended.recv_timeout(patience).unwrap_or_else(|_| {
        let shown = Span(patience);
        Err(io::Error::new(ErrorKind::TimedOut, format!("stdin did not end within {shown}")))
    })
}

/// Reads to the end, or one byte further than `max`, which is enough to see that it is too much.
///
/// # Errors
/// As the reader's.
pub fn read_bounded(reader: impl Read, max: usize, expected: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(expected.min(max) + 1);
    reader.take((max as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_endless_is_read_to_its_end() {
        assert_eq!(read_bounded(io::repeat(0), 10, 0).unwrap().len(), 11);
        assert_eq!(read_bounded(&b"abc"[..], 10, 100).unwrap(), b"abc");
    }
}
