//! `wasi:http`: requests to the hosts that were granted, and to no others.
//!
//! The engine keeps requests, responses and their bodies; this decides what is sent, and sends it. What is checked is
//! the URL the request would go to, then each address its name resolves to, and the connection goes to a checked
//! address without asking again. Redirects are left to the guest, so that each of them is checked as well. There is no
//! proxy, no cookie jar and no decompression: the guest sees the server's bytes.

mod address;
mod body;
mod exchange;
mod guard;
mod lookup;
mod pattern;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

use self::exchange::{Exchange, Io, Timeouts};
use self::lookup::Lookup;
use self::pattern::Target;
use super::State;
use crate::grant::Grants;
use crate::seam::Denials;

pub use self::pattern::{HostPattern, HostPatternError};

const TYPES: &str = "wasi:http/types";
const HANDLER: &str = "wasi:http/outgoing-handler";

/// What the requests of one call may use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// Requests in flight at once, their responses' bodies included; a further one waits for a place. Default 8.
    pub concurrent: u32,
    /// Requests in all. Default 100.
    pub requests: u32,
    /// Time to resolve a name, connect and agree on encryption. The guest may ask for less. Default 5 seconds.
    pub connect: Duration,
    /// Time from sending a request to the head of its response. The guest may ask for less. Default 30 seconds.
    pub first_byte: Duration,
    /// Time without a byte of a response's body. The guest may ask for less. Default 30 seconds.
    pub between_bytes: Duration,
    /// Bytes of a request's body. Default 8 MiB.
    pub request_body: u64,
    /// Bytes of a response's body. Default 32 MiB.
    pub response_body: u64,
    /// Bytes of a request's headers, and of a response's. Default 64 KiB.
    pub headers: usize,
    /// Bytes of a URL. Default 8 KiB.
    pub url: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            concurrent: 8,
            requests: 100,
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
            request_body: 8 << 20,
            response_body: 32 << 20,
            headers: 64 << 10,
            url: 8 << 10,
        }
    }
}

/// The HTTP of one attempt. All its connections end when it is dropped with the store.
pub(crate) struct Http {
    context: WasiHttpCtx,
    gate: Gate,
    header_maps: u32,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("sent", &self.gate.sent).finish_non_exhaustive()
    }
}

/// Decides what is sent.
struct Gate {
    grants: Arc<Grants>,
    limits: HttpLimits,
    denials: Denials,
    slots: Arc<Semaphore>,
    lookup: Arc<Lookup>,
    sent: u32,
    /// Settings of a test; `None` for those that all share.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Http {
    pub fn new(grants: Arc<Grants>, limits: HttpLimits, denials: Denials) -> Self {
        let mut context = WasiHttpCtx::new();
        // The engine also counts what a map costs beside its text.
        context.set_field_size_limit(limits.headers.saturating_mul(2));
        Self { context, gate: Gate::new(grants, limits, denials), header_maps: 0 }
    }
}

impl Gate {
    fn new(grants: Arc<Grants>, limits: HttpLimits, denials: Denials) -> Self {
        let slots = Arc::new(Semaphore::new(limits.concurrent as usize));
        Self { grants, limits, denials, slots, lookup: Lookup::shared(), sent: 0, tls: None }
    }

    /// Whether the request may be sent, as far as it can say itself.
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<Target, Error> {
        let target = Target::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let method = request.method();
        if !self.grants.http.iter().any(|grant| grant.allows(&target)) {
            self.denials.note("http", format!("{method} {target}"));
            return Err(Error::HttpRequestDenied);
        }
        // It asks for a tunnel to yet another host, which nobody would check.
        if *method == http::Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        if request.uri().to_string().len() > self.limits.url {
            return Err(Error::HttpRequestUriTooLong);
        }
        let headers = length(request.headers());
        if headers > self.limits.headers {
            return Err(Error::HttpRequestHeaderSectionSize(u32::try_from(headers).ok()));
        }
        self.sent = self.sent.saturating_add(1);
        if self.sent > self.limits.requests {
            let most = self.limits.requests;
            self.denials.note("http-requests", format!("{method} {target} after {most} requests"));
            return Err(Error::HttpRequestDenied);
        }
        Ok(target)
    }
}

/// Bytes of headers as they stand on the wire: `name: value` and a line end each.
fn length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

type Sent = Result<(http::Response<WasiBody>, Io), Error>;

impl WasiHttpHooks for Gate {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        match self.admit(&request) {
            Err(error) => Box::new(ready(Err(error))),
            Ok(target) => {
                let exchange = Exchange {
                    target,
                    timeouts: Timeouts::new(&self.limits, options),
                    limits: self.limits.clone(),
                    grants: Arc::clone(&self.grants),
                    denials: self.denials.clone(),
                    slots: Arc::clone(&self.slots),
                    lookup: Arc::clone(&self.lookup),
                    tls: self.tls.clone(),
                };
                Box::new(exchange.run(request))
            }
        }
    }

    /// Bounds what a guest can park in bodies that it never sends.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        16 << 10
    }
}

impl State {
    fn http(&mut self, interface: &'static str) -> WasiHttpCtxView<'_> {
        self.seam.enter(interface);
        WasiHttpCtxView {
            hooks: &mut self.http.gate,
            table: &mut self.table,
            ctx: &mut self.http.context,
        }
    }
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = types::LinkOptions::default();
    types::add_to_linker::<State, WasiHttp>(linker, &options, |state| state.http(TYPES))?;
    outgoing_handler::add_to_linker::<State, WasiHttp>(linker, |state| state.http(HANDLER))?;
    guard::link(linker)
}
