//! A bucket without room: an HTTP proxy on loopback before a real S3 server. It answers writes as servers do that are full, and
//! passes everything else on.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Enough: everything is passed on.
    Plenty,
    /// None on the disks: status 507 and the code of MinIO.
    None,
    /// None that a quota allows: status 403 and the code of Ceph.
    NoneAllowed,
}

impl Room {
    /// What is answered to a write; `None`: it is passed on.
    fn answer(self) -> Option<String> {
        let (status, code, message) = match self {
            Self::Plenty => return None,
            Self::None => ("507 Insufficient Storage", "XMinioStorageFull", "No space is left."),
            Self::NoneAllowed => ("403 Forbidden", "QuotaExceeded", "The quota is used up."),
        };
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let length = body.len();
        Some(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }
}

/// Stands before an S3 server until it is dropped.
pub struct Quota {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
}

struct State {
    room: Room,
    refused: u64,
    closed: bool,
    ends: Vec<TcpStream>,
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Quota {
    /// A proxy before that address, with plenty of room.
    ///
    /// # Panics
    /// No port is free.
    pub fn before(server: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = State { room: Room::Plenty, refused: 0, closed: false, ends: Vec::new() };
        let shared = Arc::new(Shared { server, state: Mutex::new(state) });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for client in listener.incoming().flatten() {
                    if shared.lock().closed {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // Whoever went away in the midst of a request has nothing to be told.
                    thread::spawn(move || drop(shared.serve(client)));
                }
            }
        });
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets how much room there is from now on.
    pub fn set(&self, room: Room) {
        self.shared.lock().room = room;
    }

    /// How many writes had no room so far.
    pub fn refused(&self) -> u64 {
        self.shared.lock().refused
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for end in state.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both); // it may be closed already
        }
        drop(state);
        let _ = TcpStream::connect(self.addr); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection until one side closes it. A client asks for the next thing only when it has the answer to the last.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.lock().ends.extend([client.try_clone()?, server.try_clone()?]);
        let (mut answers, mut to) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut answers, &mut to); // either end may go first
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut requests = BufReader::new(client.try_clone()?);
        let passed = loop {
            match self.pass(&mut requests, &mut client, &mut server) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let _ = server.shutdown(Shutdown::Both);
        passed
    }

    /// Passes one request on, or answers it; `false` when there is none any more.
    fn pass(
        &self,
        requests: &mut impl BufRead,
        client: &mut impl Write,
        server: &mut impl Write,
    ) -> io::Result<bool> {
        let (head, length) = head(requests)?;
        if head.is_empty() {
            return Ok(false);
        }
        let mut body = requests.take(length);
        let answer = if head.starts_with(b"PUT ") { self.refuse() } else { None };
        if let Some(answer) = answer {
            io::copy(&mut body, &mut io::sink())?;
            client.write_all(answer.as_bytes())?;
        } else {
            server.write_all(&head)?;
            io::copy(&mut body, server)?;
        }
        Ok(true)
    }

    fn refuse(&self) -> Option<String> {
        let mut state = self.lock();
        let answer = state.room.answer()?;
        state.refused += 1;
        Some(answer)
    }
}

/// The head of the next request, and how long its body is; empty at the end.
pub(crate) fn head(requests: &mut impl BufRead) -> io::Result<(Vec<u8>, u64)> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let begin = head.len();
        if requests.read_until(b'\n', &mut head)? == 0 || head[begin..] == *b"\r\n" {
            return Ok((head, length));
        }
        let line = String::from_utf8_lossy(&head[begin..]).to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().map_err(io::Error::other)?;
        } else if line.starts_with("transfer-encoding:") {
            return Err(io::Error::other("a body of unknown length cannot be passed on"));
        }
    }
}
