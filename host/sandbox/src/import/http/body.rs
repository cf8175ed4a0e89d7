//! The body of a response on its way to the guest, within its limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use wasmtime_wasi_http::Error;

use super::exchange;

/// A response's body. It ends with an error where it passes its limit, or when its sender falls silent.
pub(super) struct ResponseBody {
    incoming: Incoming,
    limit: u64,
    received: u64,
    silence: Duration,
    /// Runs while the guest waits for bytes, not while it has some to work on.
    waiting: Option<Pin<Box<Sleep>>>,
    /// The request's slot among those that may run at once; given back when nothing more can come.
    slot: Option<OwnedSemaphorePermit>,
}

impl ResponseBody {
    pub fn new(
        incoming: Incoming,
        limit: u64,
        silence: Duration,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self { incoming, limit, received: 0, silence, waiting: None, slot: Some(slot) }
    }

    fn frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| exchange::failed(&error))));
        }
        let silence = self.silence;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        waiting.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.slot.is_none() {
            return Poll::Ready(None);
        }
        let Poll::Ready(mut frame) = self.frame(context) else { return Poll::Pending };
        if let Some(Ok(bytes)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            self.received += bytes.map_or(0, |bytes| bytes.len() as u64);
            if self.received > self.limit {
                frame = Some(Err(Error::HttpResponseBodySize(Some(self.limit))));
            }
        }
        if !matches!(frame, Some(Ok(_))) {
            self.slot = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.slot.is_none() || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
