//! One request and its response: a slot, an address that was checked, a connection, HTTP/1.1.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::ResponseBody;
use super::lookup::Lookup;
use super::pattern::{Host, HostPattern, Scheme, Target};
use super::{HttpLimits, address, tls};
use crate::grant::Grants;
use crate::seam::Denials;

/// The least the HTTP library takes.
const LEAST_BUFFER: usize = 8 << 10;

/// What drives a connection while the body of its response is read.
pub(super) type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// A request that its grants allow, with all that is needed to send it.
pub(super) struct Exchange {
    pub target: Target,
    pub timeouts: Timeouts,
    pub limits: HttpLimits,
    pub grants: Arc<Grants>,
    pub denials: Denials,
    pub slots: Arc<Semaphore>,
    pub lookup: Arc<Lookup>,
    /// Settings of a test; `None` for those that all share.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Timeouts {
    /// A timer of nothing at all would go off before anything could happen.
    const LEAST: Duration = Duration::from_millis(1);

    /// What the guest asks for, where that is less than its limits.
    pub fn new(limits: &HttpLimits, options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let least = |limit: Duration, asked: Option<Duration>| {
            asked.unwrap_or(limit).min(limit).max(Self::LEAST)
        };
        Self {
            connect: least(limits.connect, options.connect_timeout),
            first_byte: least(limits.first_byte, options.first_byte_timeout),
            between_bytes: least(limits.between_bytes, options.between_bytes_timeout),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Exchange {
    /// Sends the request and waits for the head of its response. The second part must be polled for the body to come.
    pub async fn run(self, request: Request<WasiBody>) -> Result<(Response<WasiBody>, Io), Error> {
        let waited =
            timeout(self.timeouts.first_byte, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = waited
            .map_err(|_| Error::ConnectionLimitReached)?
            .map_err(|_| Error::ConnectionLimitReached)?;
        let request = self.prepare(request)?;
        let (stream, slot) = self.open(request.method(), slot).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(self.limits.headers.max(LEAST_BUFFER))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;

        let mut connection = Box::pin(connection);
        let mut ended = false;
        let first_byte = timeout(self.timeouts.first_byte, async {
            let mut response = pin!(sender.send_request(request));
            tokio::select! {
                biased;
                response = &mut response => response,
                // Where the connection ends with its response, the response is there all the same.
                _ = &mut connection => {
                    ended = true;
                    response.await
                }
            }
        });
        let response = first_byte
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?
            .map_err(|error| failed(&error))?;
        // The buffer bounds what is held while the head comes in, but not to the byte.
        let headers = super::length(response.headers());
        if headers > self.limits.headers {
            return Err(Error::HttpResponseHeaderSectionSize(u32::try_from(headers).ok()));
        }
        let limit = self.limits.response_body;
        if response.body().size_hint().lower() > limit {
            return Err(Error::HttpResponseBodySize(Some(limit)));
        }
        let silence = self.timeouts.between_bytes;
        let response =
            response.map(|body| ResponseBody::new(body, limit, silence, slot).boxed_unsync());
        let io = async move {
            if ended { Ok(()) } else { connection.await.map_err(|error| failed(&error)) }
        };
        Ok((response, Box::new(io)))
    }

    /// Gives the request the form it has on the wire: path and query only, and the host in its header.
    fn prepare(&self, request: Request<WasiBody>) -> Result<Request<Limited<WasiBody>>, Error> {
        let (mut parts, body) = request.into_parts();
        // The header names the very host that was checked, whatever the guest put there.
        let authority = parts.uri.authority().ok_or(Error::HttpRequestUriInvalid)?.as_str();
        let host = HeaderValue::from_str(authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        parts.headers.insert(HOST, host);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        parts.uri = Uri::try_from(path).map_err(|_| Error::HttpRequestUriInvalid)?;
        let limit = usize::try_from(self.limits.request_body).unwrap_or(usize::MAX);
        Ok(Request::from_parts(parts, Limited::new(body, limit)))
    }

    /// Connects to an address of the target that the guest may reach, and gives the slot back.
    async fn open(
        &self,
        method: &http::Method,
        slot: OwnedSemaphorePermit,
    ) -> Result<(Box<dyn Stream>, OwnedSemaphorePermit), Error> {
        let deadline = Instant::now() + self.timeouts.connect;
        let resolved = timeout_at(deadline, self.resolve(slot)).await;
        let (found, slot) = resolved.map_err(|_| Error::DnsTimeout)??;
        let allowed = self.filter(&found);
        if allowed.is_empty() {
            if let Some(address) = found.first() {
                let target = &self.target;
                // What would have to be granted stands last.
                let at = Target { host: Host::Address(*address), ..target.clone() };
                let what = match target.host {
                    Host::Address(_) => format!("{method} {target}"),
                    Host::Name(_) => format!("{method} {target} at {at}"),
                };
                self.denials.note("http", what);
                return Err(Error::DestinationIpProhibited);
            }
            return Err(Error::DnsError { rcode: Some("no address".to_owned()), info_code: None });
        }
        let stream = self.connect(&allowed, deadline).await?;
        // Requests are written in one go; waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = match self.target.scheme {
            Scheme::Http => Box::new(stream),
            Scheme::Https => {
                let secured = timeout_at(deadline, self.secure(stream)).await;
                secured.map_err(|_| Error::ConnectionTimeout)??
            }
        };
        Ok((stream, slot))
    }

    /// The addresses of the target. The slot goes along, since a look-up may outlive the request.
    async fn resolve(
        &self,
        slot: OwnedSemaphorePermit,
    ) -> Result<(Vec<IpAddr>, OwnedSemaphorePermit), Error> {
        match &self.target.host {
            Host::Address(address) => Ok((vec![*address], slot)),
            Host::Name(name) => {
                Arc::clone(&self.lookup).run(name.clone(), self.target.port, slot).await
            }
        }
    }

    fn filter(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let named = |address: IpAddr| {
            self.grants.http.iter().any(|grant: &HostPattern| grant.names(&self.target, address))
        };
        addresses
            .iter()
            .copied()
            .filter(|address| address::is_public(*address) || named(*address))
            .collect()
    }

    /// Connects to the first address that answers. Each gets its share of the time, so that one that drops packets does
    /// not take it all.
    async fn connect(&self, addresses: &[IpAddr], deadline: Instant) -> Result<TcpStream, Error> {
        let mut last = Error::ConnectionTimeout;
        for (index, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            match timeout(share, TcpStream::connect(SocketAddr::new(*address, self.target.port)))
                .await
            {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = unreachable(&error),
                Err(_) => last = Error::ConnectionTimeout,
            }
        }
        Err(last)
    }

    async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Error> {
        let config = match &self.tls {
            Some(config) => Arc::clone(config),
            None => tls::shared().map_err(|reason| Error::InternalError(Some(reason)))?,
        };
        let server = match &self.target.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone())?,
        };
        let secured = TlsConnector::from(config).connect(server, stream).await;
        Ok(Box::new(secured.map_err(|error| insecure(&error))?))
    }
}

fn unreachable(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Error::ConnectionTerminated
        }
        _ => Error::DestinationUnavailable,
    }
}

fn insecure(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => received(*alert),
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

fn received(alert: AlertDescription) -> Error {
    Error::TlsAlertReceived {
        alert_id: Some(u8::from(alert)),
        alert_message: Some(format!("{alert:?}")),
    }
}

/// What a failure of the connection means to the guest.
pub(super) fn failed(error: &hyper::Error) -> Error {
    if let Some(cause) = error.source() {
        if cause.is::<LengthLimitError>() {
            return Error::HttpRequestBodySize(None);
        }
        if cause.is::<io::Error>() {
            return Error::ConnectionTerminated;
        }
    }
    match error {
        error if error.is_timeout() => Error::HttpResponseTimeout,
        error if error.is_parse_too_large() => Error::HttpResponseHeaderSectionSize(None),
        error if error.is_incomplete_message() => Error::HttpResponseIncomplete,
        error if error.is_closed() || error.is_canceled() => Error::ConnectionTerminated,
        _ => Error::HttpProtocolError,
    }
}
