//! Requests to servers on this machine: what is sent, what is refused, and where answers end.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::lookup::Lookup;
use super::{Gate, HttpLimits, exchange, tls};
use crate::grant::Grants;
use crate::seam::Denials;

/// Long enough for this machine to answer itself, however busy it is.
const SOON: Duration = Duration::from_secs(20);
/// Short enough to wait for in vain.
const BRIEF: Duration = Duration::from_millis(50);

fn gate(grants: &[String], limits: HttpLimits) -> Gate {
    let http = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    let limits = HttpLimits { connect: SOON, ..limits };
    Gate::new(Arc::new(Grants { http, ..Grants::default() }), limits, Denials::default())
}

fn get(url: &str) -> Request<WasiBody> {
    request(url, "")
}

fn request(url: &str, body: &'static str) -> Request<WasiBody> {
    let body = Full::new(Bytes::from_static(body.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Request::builder().uri(url).body(body).expect("a request")
}

fn first_byte(timeout: Duration) -> Option<RequestOptions> {
    Some(RequestOptions { first_byte_timeout: Some(timeout), ..RequestOptions::default() })
}

async fn send(
    gate: &mut Gate,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<(Response<WasiBody>, exchange::Io), Error> {
    Pin::from(gate.send_request(request, options, Box::new(std::future::ready(Ok(()))))).await
}

/// Reads a body to its end while its connection is driven.
async fn read(answer: (Response<WasiBody>, exchange::Io)) -> Result<Bytes, Error> {
    let (response, io) = answer;
    let io = tokio::spawn(Pin::from(io));
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    io.abort();
    body
}

/// Serves the next connection with what `serve` does.
async fn server<F, S>(serve: S) -> (SocketAddr, JoinHandle<F::Output>)
where
    S: FnOnce(TcpStream) -> F + Send + 'static,
    F: Future<Output: Send + 'static> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        serve(stream).await
    });
    (address, serving)
}

/// The head of a request, up to its empty line.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the request goes on"));
    }
    String::from_utf8(head).expect("text")
}

/// Serves one connection with a fixed answer and gives back the head of the request.
async fn answering(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    server(move |mut stream| async move {
        let head = head(&mut stream).await;
        // The client may have had enough before it has all.
        let _ = stream.write_all(answer).await;
        head
    })
    .await
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_granted_request_arrives_as_the_guest_wrote_it() {
    let (address, server) = answering(OK).await;
    let mut gate = gate(&[format!("http://{address}")], HttpLimits::default());
    let mut request = request(&format!("http://{address}/path?query=1"), "body");
    *request.method_mut() = http::Method::POST;
    request.headers_mut().insert(header::USER_AGENT, "guest/1".parse().expect("a value"));
    request.headers_mut().insert(header::HOST, "elsewhere.example".parse().expect("a value"));

    let answer = send(&mut gate, request, None).await.expect("an answer");
    assert_eq!(answer.0.status(), 200);
    assert_eq!(read(answer).await.expect("a body"), "hello");
    let head = server.await.expect("served");
    assert!(head.starts_with("POST /path?query=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
    assert!(!head.contains("elsewhere"), "{head}");
    assert!(head.contains("\r\nuser-agent: guest/1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-length: 4\r\n"), "{head}");
    assert!(gate.denials.all().is_empty());
}

#[tokio::test]
async fn a_host_that_is_not_granted_is_refused_by_name() {
    let mut gate = gate(&["example.org".to_owned()], HttpLimits::default());
    let refused = send(&mut gate, get("https://example.com/secret/path?token=1"), None).await;
    assert!(matches!(refused, Err(Error::HttpRequestDenied)));
    assert_eq!(gate.denials.all()[0].to_string(), "http: GET https://example.com/");
}

#[tokio::test]
async fn a_name_does_not_lead_to_a_private_address() {
    let (address, _server) = answering(OK).await;
    let port = address.port();
    let mut gate = gate(&[format!("*:{port}")], HttpLimits::default());
    for url in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.1:{port}/"),
    ] {
        let refused = send(&mut gate, get(&url), None).await;
        assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{url}");
    }
    let denials: Vec<_> = gate.denials.all().iter().map(ToString::to_string).collect();
    let direct = format!("http: GET http://127.0.0.1:{port}/");
    assert!(denials.contains(&direct), "{denials:?}");
    let by_name = denials.iter().find(|denial| denial.contains("localhost")).expect("noted");
    assert!(
        by_name.starts_with(&format!("http: GET http://localhost:{port}/ at http://")),
        "{by_name}"
    );
}

#[tokio::test]
async fn this_machine_is_reached_by_name_where_that_is_granted() {
    let (address, _server) = answering(OK).await;
    let grant = format!("localhost:{}", address.port());
    let mut gate = gate(std::slice::from_ref(&grant), HttpLimits::default());
    let answer = send(&mut gate, get(&format!("http://{grant}/")), None).await.expect("an answer");
    assert_eq!(read(answer).await.expect("a body"), "hello");
}

#[tokio::test]
async fn a_redirect_is_the_guest_s_to_follow() {
    let (address, _server) = answering(
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    let (response, _io) =
        send(&mut gate, get(&format!("http://{address}/")), None).await.expect("an answer");
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()[header::LOCATION], "http://169.254.169.254/");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let (address, _server) =
        server(|mut stream| async move { stream.read_to_end(&mut Vec::new()).await }).await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    let answer = send(&mut gate, get(&format!("http://{address}/")), first_byte(BRIEF)).await;
    assert!(matches!(answer, Err(Error::ConnectionReadTimeout)));
}

#[test]
fn a_guest_may_only_ask_for_less_patience() {
    let limits = HttpLimits::default();
    let all = |timeout| RequestOptions {
        connect_timeout: timeout,
        first_byte_timeout: timeout,
        between_bytes_timeout: timeout,
    };
    let least = exchange::Timeouts::new(&limits, Some(all(Some(Duration::ZERO))));
    assert_eq!(format!("{least:?}").matches("1ms").count(), 3);
    let most = exchange::Timeouts::new(&limits, Some(all(Some(Duration::MAX))));
    assert_eq!(most, exchange::Timeouts::new(&limits, None));
}

#[tokio::test]
async fn a_server_that_falls_silent_in_its_answer_is_given_up() {
    let (address, _server) = server(|mut stream| async move {
        head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            .await
            .expect("written");
        stream.read_to_end(&mut Vec::new()).await
    })
    .await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    let options =
        RequestOptions { between_bytes_timeout: Some(BRIEF), ..RequestOptions::default() };
    let answer =
        send(&mut gate, get(&format!("http://{address}/")), Some(options)).await.expect("a head");
    assert!(matches!(read(answer).await, Err(Error::ConnectionReadTimeout)));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_says_so() {
    // Bound and closed again: nobody listens there.
    let address =
        TcpListener::bind("127.0.0.1:0").await.and_then(|free| free.local_addr()).expect("a port");
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    let answer = send(&mut gate, get(&format!("http://{address}/")), None).await;
    assert!(matches!(answer, Err(Error::ConnectionRefused)));
}

#[tokio::test]
async fn an_answer_cut_short_is_no_answer() {
    let (address, _server) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    let answer = send(&mut gate, get(&format!("http://{address}/")), None).await.expect("a head");
    assert!(read(answer).await.is_err());
}

#[tokio::test]
async fn a_response_body_ends_at_its_limit() {
    let limits = HttpLimits { response_body: 4, ..HttpLimits::default() };
    let (address, _server) = answering(OK).await;
    let mut announced = gate(&[address.to_string()], limits.clone());
    let answer = send(&mut announced, get(&format!("http://{address}/")), None).await;
    assert!(matches!(answer, Err(Error::HttpResponseBodySize(Some(4)))));

    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let (address, _server) = answering(chunked).await;
    let mut unannounced = gate(&[address.to_string()], limits);
    let answer =
        send(&mut unannounced, get(&format!("http://{address}/")), None).await.expect("a head");
    assert!(matches!(read(answer).await, Err(Error::HttpResponseBodySize(Some(4)))));
}

#[tokio::test]
async fn a_request_body_ends_at_its_limit() {
    let (address, _server) =
        server(|mut stream| async move { stream.read_to_end(&mut Vec::new()).await }).await;
    let mut gate =
        gate(&[address.to_string()], HttpLimits { request_body: 3, ..HttpLimits::default() });
    let answer = send(&mut gate, request(&format!("http://{address}/"), "four"), None).await;
    assert!(matches!(answer, Err(Error::HttpRequestBodySize(None))));
}

#[tokio::test]
async fn the_parts_of_a_request_have_limits() {
    let limits = HttpLimits { url: 40, headers: 100, ..HttpLimits::default() };
    let mut gate = gate(&["example.com".to_owned()], limits);
    let long = format!("https://example.com/{}", "x".repeat(40));
    assert!(matches!(send(&mut gate, get(&long), None).await, Err(Error::HttpRequestUriTooLong)));

    let mut heavy = get("https://example.com/");
    heavy.headers_mut().insert(header::COOKIE, "x".repeat(100).parse().expect("a value"));
    let refused = send(&mut gate, heavy, None).await;
    assert!(matches!(refused, Err(Error::HttpRequestHeaderSectionSize(Some(110)))));

    let mut tunnel = get("https://example.com/");
    *tunnel.method_mut() = http::Method::CONNECT;
    assert!(matches!(send(&mut gate, tunnel, None).await, Err(Error::HttpRequestMethodInvalid)));
    assert_eq!(gate.sent, 0);
}

#[tokio::test]
async fn the_head_of_an_answer_has_a_limit() {
    let (address, _server) = server(|mut stream| async move {
        head(&mut stream).await;
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(70_000)).as_bytes())
            .await;
    })
    .await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    let answer = send(&mut gate, get(&format!("http://{address}/")), None).await;
    assert!(matches!(answer, Err(Error::HttpResponseHeaderSectionSize(_))), "{:?}", answer.err());
}

#[tokio::test]
async fn a_call_sends_so_many_requests_and_no_more() {
    let mut gate =
        gate(&["127.0.0.1:9".to_owned()], HttpLimits { requests: 2, ..HttpLimits::default() });
    let url = "http://127.0.0.1:9/";
    for _ in 0..2 {
        let answer = send(&mut gate, get(url), None).await;
        assert!(!matches!(answer, Err(Error::HttpRequestDenied)));
    }
    assert!(matches!(send(&mut gate, get(url), None).await, Err(Error::HttpRequestDenied)));
    assert_eq!(
        gate.denials.all()[0].to_string(),
        "http-requests: GET http://127.0.0.1:9/ after 2 requests"
    );
}

#[tokio::test]
async fn so_many_requests_run_at_once_and_the_next_waits() {
    let (first, _server) = answering(OK).await;
    let (second, _server) = answering(OK).await;
    let grants = [first.to_string(), second.to_string()];
    let mut gate = gate(&grants, HttpLimits { concurrent: 1, ..HttpLimits::default() });
    let open = send(&mut gate, get(&format!("http://{first}/")), None).await.expect("an answer");

    let url = format!("http://{second}/");
    let refused = send(&mut gate, get(&url), first_byte(BRIEF)).await;
    assert!(matches!(refused, Err(Error::ConnectionLimitReached)));
    drop(open);
    let answer = send(&mut gate, get(&url), None).await.expect("an answer");
    assert_eq!(read(answer).await.expect("a body"), "hello");
    assert_eq!(gate.slots.available_permits(), 1, "a body that was read holds no place");
}

#[tokio::test]
async fn a_connection_ends_when_its_answer_is_dropped() {
    let (address, server) = server(|mut stream| async move {
        head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            .await
            .expect("written");
        stream.read_to_end(&mut Vec::new()).await.unwrap_or_default()
    })
    .await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    drop(send(&mut gate, get(&format!("http://{address}/")), None).await.expect("a head"));
    assert_eq!(server.await.expect("the server saw the end"), 0);
}

/// A server with a certificate for `name`, signed by itself, and a file with that certificate.
async fn secure_server(name: &str) -> (SocketAddr, tempfile::NamedTempFile) {
    let issued = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(issued.cert.pem().as_bytes()).expect("written");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a usable certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (address, _) = server(|stream| async move {
        if let Ok(mut stream) = acceptor.accept(stream).await {
            head(&mut stream).await;
            stream.write_all(OK).await.expect("written");
            stream.shutdown().await.expect("closed");
        }
    })
    .await;
    (address, file)
}

#[tokio::test]
async fn https_trusts_the_certificates_it_is_told_to() {
    let (address, file) = secure_server("localhost").await;
    let grant = format!("https://localhost:{}", address.port());
    let mut gate = gate(std::slice::from_ref(&grant), HttpLimits::default());
    gate.tls = Some(tls::trusting(Some(file.path())).expect("a configuration"));
    let answer = send(&mut gate, get(&grant), None).await.expect("an answer");
    assert_eq!(read(answer).await.expect("a body"), "hello");
}

#[tokio::test]
async fn https_refuses_everyone_else() {
    // Nobody vouches for the first; the second is vouched for, but is not who was asked for.
    for (name, trusted) in [("localhost", false), ("example.com", true)] {
        let (address, file) = secure_server(name).await;
        let grant = format!("https://localhost:{}", address.port());
        let mut gate = gate(std::slice::from_ref(&grant), HttpLimits::default());
        let extra = trusted.then_some(file.path());
        gate.tls = Some(tls::trusting(extra).expect("a configuration"));
        let answer = send(&mut gate, get(&grant), None).await;
        assert!(matches!(answer, Err(Error::TlsCertificateError)), "{name}: {:?}", answer.err());
    }
}

#[tokio::test]
async fn https_to_a_server_without_it_is_an_error() {
    let (address, _server) = server(|mut stream| async move {
        stream.write_all(b"220 not the protocol you think it is\r\n").await.expect("written");
        stream.read_to_end(&mut Vec::new()).await
    })
    .await;
    let mut gate = gate(&[address.to_string()], HttpLimits::default());
    gate.tls = Some(tls::trusting(None).expect("a configuration"));
    let answer = send(&mut gate, get(&format!("https://{address}/")), None).await;
    assert!(matches!(answer, Err(Error::TlsProtocolError)), "{:?}", answer.err());
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let error = tls::trusting(Some("/nonexistent/roots.pem".as_ref())).expect_err("no such file");
    assert!(error.contains("/nonexistent/roots.pem"), "{error}");
}

/// A resolver that answers nobody until it is told to.
#[derive(Default)]
struct Stuck {
    asked: AtomicUsize,
    done: Mutex<bool>,
    told: Condvar,
}

impl Stuck {
    fn lookup(self: &Arc<Self>, most: usize) -> Arc<Lookup> {
        let stuck = Arc::clone(self);
        Lookup::new(most, move |_, _| {
            stuck.asked.fetch_add(1, Ordering::SeqCst);
            let done = stuck.done.lock().expect("no panic");
            drop(stuck.told.wait_while(done, |done| !*done).expect("no panic"));
            Err(std::io::Error::other("no such name"))
        })
    }

    fn answer(&self) {
        *self.done.lock().expect("no panic") = true;
        self.told.notify_all();
    }
}

/// Nobody can stop the system's resolver: a request that is given up leaves its thread behind, and keeps its slot.
#[tokio::test]
async fn a_look_up_that_was_given_up_keeps_its_slot_until_its_thread_is_done() {
    let stuck = Arc::new(Stuck::default());
    let mut gate =
        gate(&["*.example".to_owned()], HttpLimits { concurrent: 2, ..HttpLimits::default() });
    gate.lookup = stuck.lookup(100);
    let impatient = Some(RequestOptions {
        connect_timeout: Some(BRIEF),
        first_byte_timeout: Some(BRIEF),
        ..RequestOptions::default()
    });
    let mut errors = Vec::new();
    for _ in 0..5 {
        errors.push(send(&mut gate, get("http://a.example/"), impatient).await.err());
    }
    let asked = stuck.asked.load(Ordering::SeqCst);
    stuck.answer();
    assert!(asked <= 2, "{asked} threads are busy");
    assert!(errors[..2].iter().all(|error| matches!(error, Some(Error::DnsTimeout))), "{errors:?}");
    let full = |error| matches!(error, &Some(Error::ConnectionLimitReached));
    assert!(errors[2..].iter().all(full), "{errors:?}");
    let answer = send(&mut gate, get("http://a.example/"), first_byte(SOON)).await;
    assert!(matches!(answer, Err(Error::DnsError { .. })));
}

/// However many guests there are, their look-ups leave threads for files.
#[tokio::test]
async fn look_ups_of_all_guests_are_bounded_together() {
    let stuck = Arc::new(Stuck::default());
    let lookup = stuck.lookup(3);
    for _ in 0..8 {
        let mut gate = gate(&["*.example".to_owned()], HttpLimits::default());
        gate.lookup = Arc::clone(&lookup);
        let impatient =
            Some(RequestOptions { connect_timeout: Some(BRIEF), ..RequestOptions::default() });
        let answer = send(&mut gate, get("http://a.example/"), impatient).await;
        assert!(matches!(answer, Err(Error::DnsTimeout)));
    }
    let asked = stuck.asked.load(Ordering::SeqCst);
    stuck.answer();
    assert!(asked <= 3, "{asked} threads are busy");
}
