//! What a guest has open: descriptors, and the streams over them, which keep their files open by themselves.
//!
//! Each is one of the process's file descriptors, or the names of a whole directory in memory, so that they are counted
//! together. The engine's streams are wrapped, since they are dropped where nobody could count them.

use std::sync::Arc;

use bytes::Bytes;
use omniq_model::Kind;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamResult,
};

use crate::limit::Stop;

/// Files, directories and streams a guest may have open at once.
const MOST: usize = 256;

/// Counts what is open.
#[derive(Debug, Default)]
pub(super) struct Count(Arc<()>);

/// One open thing; it is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _count: Arc<()>,
}

impl Count {
    /// Counts one more.
    pub fn one_more(&self) -> Result<Held, Stop> {
        // The count itself holds one.
        if Arc::strong_count(&self.0) > MOST {
            let message = format!("the guest has more than {MOST} files and directories open");
            return Err(Stop::new(Kind::Handles, message));
        }
        Ok(Held { _count: Arc::clone(&self.0) })
    }
}

/// A stream that is counted.
pub(super) struct Counted<S> {
    stream: S,
    _held: Held,
}

impl Counted<DynInputStream> {
    pub fn input(stream: DynInputStream, held: Held) -> DynInputStream {
        Box::new(Self { stream, _held: held })
    }
}

impl Counted<DynOutputStream> {
    pub fn output(stream: DynOutputStream, held: Held) -> DynOutputStream {
        Box::new(Self { stream, _held: held })
    }
}

#[async_trait]
impl<S: Pollable> Pollable for Counted<S> {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl InputStream for Counted<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.blocking_read(size).await
    }

    fn skip(&mut self, bytes: usize) -> StreamResult<usize> {
        self.stream.skip(bytes)
    }

    async fn blocking_skip(&mut self, bytes: usize) -> StreamResult<usize> {
        self.stream.blocking_skip(bytes).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[async_trait]
impl OutputStream for Counted<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stream.blocking_write_and_flush(bytes).await
    }

    fn write_zeroes(&mut self, bytes: usize) -> StreamResult<()> {
        self.stream.write_zeroes(bytes)
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        self.stream.write_ready().await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}
