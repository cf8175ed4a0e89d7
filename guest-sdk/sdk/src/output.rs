//! A result that is too large, or too slow in the making, to be returned in one piece.

use std::io;

use crate::bindings::omniq::task::output as wit;
use crate::{Denial, native};

/// Appends bytes to the task's output, which can be read while the task runs.
///
/// What a function returns is its result all the same; the output stands beside it.
///
/// # Errors
/// The host refused, such as an output that has become too large.
pub fn write(bytes: &[u8]) -> Result<(), Denial> {
    native::or(|| Ok(()), || wit::write(bytes).map_err(Denial::from))
}

/// Says what the output is, as an internet media type; `application/octet-stream` when never called.
///
/// # Errors
/// The host refused, such as a text that is no media type.
pub fn set_media_type(media_type: &str) -> Result<(), Denial> {
    native::or(|| Ok(()), || wit::set_media_type(media_type).map_err(Denial::from))
}

/// The output as something that can be written to: `serde_json::to_writer(omniq::output::Writer, …)`.
///
/// Every write reaches the host at once; wrap it in a [`io::BufWriter`] where there are many small ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
