//! Standard output and error, kept in memory up to a limit.
//!
//! The engine's own pipe reports a full stream as closed, and a program that prints then fails for a reason that is not
//! its own. This one ends the call and names the limit.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::limit::Stop;

/// Bytes a guest may hand over at once; it may ask again at once. The host copies no more than this in one call.
const CHUNK: usize = 1 << 20;

/// Collects what a guest writes. Clones write to the same place.
#[derive(Debug, Clone)]
pub(crate) struct Capture {
    name: &'static str,
    limit: u64,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Capture {
    pub fn new(name: &'static str, limit: u64) -> Self {
        Self { name, limit, written: Arc::default() }
    }

    /// Everything written so far; what is written later starts anew.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends what fits. The bytes before the limit are kept, so that the reader sees how far the guest came.
    fn append(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let room = usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_sub(written.len());
        written.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(Stop::too_large(self.name, self.limit)) } else { Ok(()) }
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes).map_err(|stop| StreamError::Trap(stop.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

impl AsyncWrite for Capture {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.append(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_names_the_limit() {
        let capture = Capture::new("stdout", 5);
        capture.append(b"abc").expect("fits");
        let stop = capture.append(b"defg").expect_err("is too much");
        assert_eq!(stop.message, "stdout is larger than its limit of 5 bytes");
        assert_eq!(capture.take(), b"abcde");
    }
}
