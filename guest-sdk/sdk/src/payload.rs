//! Bytes that say what they are.

use crate::bindings::omniq::task::types as wit;
use crate::contract::Contract;

/// Bytes that say what they are: the arguments and results of a [`Handler`](crate::Handler), the cursor of a task,
/// the details of a [`Failure`](crate::Failure).
///
/// In the functions of a [`tasks`](macro@crate::tasks) module it is the record `payload` of `omniq:task/types`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// An internet media type, such as `application/json` or `image/png`.
    pub media_type: String,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Payload {
    /// Bytes of the given media type.
    pub fn new(media_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Payload { media_type: media_type.into(), body: body.into() }
    }

    /// Text: `text/plain; charset=utf-8`.
    pub fn text(text: impl Into<String>) -> Self {
        Payload::new("text/plain; charset=utf-8", text.into())
    }

    /// Bytes of which nothing more is known: `application/octet-stream`.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Payload::new("application/octet-stream", body)
    }
}

impl Contract for Payload {
    type Wit = wit::Payload;

    fn from_wit(payload: wit::Payload) -> Self {
        Payload { media_type: payload.media_type, body: payload.body }
    }

    fn into_wit(self) -> wit::Payload {
        wit::Payload { media_type: self.media_type, body: self.body }
    }
}
