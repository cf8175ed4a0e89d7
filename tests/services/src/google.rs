//! A bucket as Google has them: an endpoint in this process that speaks the XML API by its documentation, as far as stores
//! use it. What stands for Google elsewhere knows no conditions there, so no server that could be started would do.
//!
//! It has one bucket, `omniq`, in memory, and lets in who has a token of the service account whose key is in its URL. What is
//! written is there at once, for lists too; a name may be written once a second where [`Google::pace`] says so.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::io::{self, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::quota::head;

const BUCKET: &str = "omniq";
const ACCOUNT: &str = "omniq@test.iam.gserviceaccount.com";
/// How often a name may be written.
const PACE: Duration = Duration::from_secs(1);
/// Names in one page of a list.
const PAGE: usize = 1000;
/// When everything was written last, in the forms of a header and of a list: nobody here asks for it.
const MODIFIED: [&str; 2] = ["Thu, 01 Jan 2026 00:00:00 GMT", "2026-01-01T00:00:00.000Z"];

/// The endpoint, until this process ends.
pub struct Google {
    addr: SocketAddr,
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Object>>,
    /// Of the object that was written last.
    generation: AtomicU64,
    is_paced: AtomicBool,
    too_fast: AtomicU64,
}

#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    generation: u64,
    written: Instant,
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Google").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Google {
    /// Starts one, with a service account of its own.
    ///
    /// # Panics
    /// No port is free, or there is no `openssl` that makes a key.
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let serves = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&serves);
                // Whoever went away in the midst of a request has nothing to be told.
                thread::spawn(move || drop(shared.serve(client)));
            }
        });
        let account = escaped(&service_account(ACCOUNT));
        let url = format!("gs://{BUCKET}?base_url=http://{addr}&service_account_key={account}");
        Self { addr, url, shared }
    }

    /// Where clients find the bucket: `gs://omniq?base_url=http://127.0.0.1:PORT&service_account_key=…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address in its URL.
    pub fn address(&self) -> SocketAddr {
        self.addr
    }

    /// From now on a name may be written once a second, as Google has it.
    pub fn pace(&self) {
        self.shared.is_paced.store(true, Ordering::Relaxed);
    }

    /// How many writes came too soon after another one of the same name.
    pub fn too_fast(&self) -> u64 {
        self.shared.too_fast.load(Ordering::Relaxed)
    }

    /// The settings of a URL for somebody whom the endpoint does not know.
    ///
    /// # Panics
    /// There is no `openssl` that makes a key.
    #[track_caller]
    pub fn stranger(&self) -> String {
        let account = escaped(&service_account("stranger@test.iam.gserviceaccount.com"));
        format!("base_url=http://{}&service_account_key={account}", self.addr)
    }
}

/// The key of a service account, in the form that Google gives it out.
#[track_caller]
fn service_account(email: &str) -> String {
    let arguments = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let made = Command::new("openssl").args(arguments).output();
    let made = made.unwrap_or_else(|error| panic!("openssl: {error}; scripts/setup has it"));
    let key = String::from_utf8(made.stdout).expect("PEM is text").replace('\n', "\\n");
    assert!(key.contains("PRIVATE KEY"), "{}", String::from_utf8_lossy(&made.stderr));
    format!(
        r#"{{"type":"service_account","client_email":"{email}","private_key_id":"1","private_key":"{key}"}}"#
    )
}

/// A text as a value in a URL.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}"); // a string takes everything
        }
        escaped
    })
}

/// The reverse of it, also of `+` for a space.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let both = digit().zip(digit());
                bytes.extend(both.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()));
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request without its body.
struct Request {
    method: String,
    /// The name in the bucket; empty for the bucket itself.
    name: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
}

impl Request {
    /// `None` for one that is not about the bucket.
    fn read(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix('/')?.strip_prefix(BUCKET)?;
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((unescaped(key), unescaped(value)))
        };
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            method,
            name: unescaped(path.strip_prefix('/').unwrap_or(path)),
            query: query.split('&').filter_map(pair).collect(),
            headers: lines.filter_map(header).collect(),
        })
    }

    /// Whether it has a token of the service account: what that claims is the second of its three parts, in Base64.
    fn is_known(&self) -> bool {
        let token = self.headers.get("authorization").and_then(|all| all.strip_prefix("Bearer "));
        let claims =
            token.and_then(|token| token.split('.').nth(1)).map(base64).unwrap_or_default();
        String::from_utf8_lossy(&claims).contains(&format!(r#""iss":"{ACCOUNT}""#))
    }

    fn queried(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_usize, 0);
    for sextet in text.bytes().map_while(|byte| ALPHABET.iter().position(|each| *each == byte)) {
        (bits, held) = (bits << 6 | sextet, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}

/// An answer: its status, headers beside the length, and the body.
struct Answer(&'static str, Vec<(&'static str, String)>, Vec<u8>);

impl Answer {
    fn error(status: &'static str, code: &str) -> Self {
        let body =
            format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
        Self(status, Vec::new(), body.into_bytes())
    }

    fn about(status: &'static str, object: &Object, body: Vec<u8>) -> Self {
        let generation = object.generation.to_string();
        let headers = vec![
            ("ETag", format!("\"{generation}\"")),
            ("x-goog-generation", generation),
            ("Last-Modified", MODIFIED[0].to_owned()),
        ];
        Self(status, headers, body)
    }

    fn write(self, to: &mut impl io::Write, without_body: bool) -> io::Result<()> {
        let Self(status, headers, body) = self;
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in headers.into_iter().chain([("Content-Length", body.len().to_string())])
        {
            let _ = write!(head, "{name}: {value}\r\n"); // a string takes everything
        }
        let mut bytes = (head + "\r\n").into_bytes();
        if !without_body {
            bytes.extend(body);
        }
        to.write_all(&bytes)
    }
}

impl Shared {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection until the client closes it.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client.try_clone()?);
        loop {
            let (head, length) = head(&mut requests)?;
            if head.is_empty() {
                return Ok(());
            }
            let mut body = Vec::new();
            (&mut requests).take(length).read_to_end(&mut body)?;
            let answer = match Request::read(&head) {
                None => Answer::error("404 Not Found", "NoSuchBucket"),
                Some(request) if !request.is_known() => {
                    Answer::error("401 Unauthorized", "AuthenticationRequired")
                }
                Some(request) => self.answer(&request, body),
            };
            answer.write(&mut client, head.starts_with(b"HEAD "))?;
        }
    }

    fn answer(&self, request: &Request, body: Vec<u8>) -> Answer {
        let missing = || Answer::error("404 Not Found", "NoSuchKey");
        match (request.method.as_str(), request.name.as_str()) {
            ("GET", "") => self.list(request),
            ("PUT", name) if !name.is_empty() => self.put(name, request, body),
            ("GET" | "HEAD", name) => {
                let object = self.objects().get(name).cloned();
                object.map_or_else(missing, |object| get(&object, request.headers.get("range")))
            }
            ("DELETE", name) => match self.objects().remove(name) {
                Some(_) => Answer("204 No Content", Vec::new(), Vec::new()),
                None => missing(),
            },
            _ => Answer::error("501 Not Implemented", "NotImplemented"),
        }
    }

    /// Of several who create a name at the same time, one does: whoever comes first to the lock.
    fn put(&self, name: &str, request: &Request, body: Vec<u8>) -> Answer {
        let mut objects = self.objects();
        let there = objects.get(name);
        let generation = there.map_or(0, |object| object.generation);
        if let Some(wanted) = request.headers.get("x-goog-if-generation-match")
            && *wanted != generation.to_string()
        {
            return Answer::error("412 Precondition Failed", "PreconditionFailed");
        }
        if self.is_paced.load(Ordering::Relaxed)
            && there.is_some_and(|object| object.written.elapsed() < PACE)
        {
            self.too_fast.fetch_add(1, Ordering::Relaxed);
            return Answer::error("429 Too Many Requests", "SlowDown");
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let object = Object { bytes: body.into(), generation, written: Instant::now() };
        let answer = Answer::about("200 OK", &object, Vec::new());
        objects.insert(name.to_owned(), object);
        answer
    }

    /// A page of names, and of what names have before the delimiter.
    fn list(&self, request: &Request) -> Answer {
        let (prefix, delimiter) = (request.queried("prefix"), request.queried("delimiter"));
        let after = request.queried("continuation-token").max(request.queried("start-after"));
        let (mut entries, mut last, mut count) = (String::new(), String::new(), 0);
        let mut is_truncated = false;
        for (name, object) in self.objects().range(prefix.to_owned()..) {
            let Some(rest) = name.strip_prefix(prefix) else { break };
            let folder = rest.find(delimiter).filter(|_| !delimiter.is_empty());
            let shown =
                folder.map_or(name.as_str(), |at| &name[..prefix.len() + at + delimiter.len()]);
            if shown <= after || shown == last {
                continue;
            }
            is_truncated = count == PAGE;
            if is_truncated {
                break;
            }
            (last, count) = (shown.to_owned(), count + 1);
            let shown = shown.replace('&', "&amp;").replace('<', "&lt;");
            let Object { bytes, generation, .. } = object;
            let _ = match folder {
                Some(_) => {
                    write!(entries, "<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>")
                }
                None => write!(
                    entries,
                    "<Contents><Key>{shown}</Key><Generation>{generation}</Generation>\
                     <LastModified>{}</LastModified><ETag>\"{generation}\"</ETag><Size>{}</Size></Contents>",
                    MODIFIED[1],
                    bytes.len()
                ),
            };
        }
        if is_truncated {
            let _ = write!(entries, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        let body = format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>{BUCKET}</Name>\
             <IsTruncated>{is_truncated}</IsTruncated>{entries}</ListBucketResult>"
        );
        Answer("200 OK", vec![("Content-Type", "application/xml".to_owned())], body.into_bytes())
    }
}

/// An object, or the part of it that `range` says, as in `bytes=0-99`.
fn get(object: &Object, range: Option<&String>) -> Answer {
    let size = object.bytes.len();
    let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else {
        return Answer::about("200 OK", object, object.bytes.to_vec());
    };
    let (from, to) = range.split_once('-').unwrap_or((range, ""));
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), to) => (from, to.map_or(size, |to| size.min(to + 1))),
        (Err(_), Ok(last)) => (size.saturating_sub(last), size),
        (Err(_), Err(_)) => (size, size),
    };
    if from >= to {
        return Answer::error("416 Range Not Satisfiable", "InvalidRange");
    }
    let mut answer = Answer::about("206 Partial Content", object, object.bytes[from..to].to_vec());
    answer.1.push(("Content-Range", format!("bytes {from}-{}/{size}", to - 1)));
    answer
}
