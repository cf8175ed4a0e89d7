//! A TCP proxy on loopback that fails on demand: it delays, cuts, stalls and refuses real connections to a real server.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the proxy does with connections, those that are open included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Passes each piece on after so long, in either direction.
    Delay(Duration),
    /// Cuts a connection once so many bytes passed it in a direction, counted from when this was set: `up` is towards the
    /// server. `None` is without end.
    CutAfter {
        /// Bytes from the client to the server.
        up: Option<u64>,
        /// Bytes from the server to the client.
        down: Option<u64>,
    },
    /// Accepts connections and answers nothing. Open ones stand still, and go on when another mode is set; those that were
    /// accepted meanwhile never reach the server.
    HalfOpen,
    /// Refuses new connections, as a port does on which nobody listens. Open ones are passed on.
    Refuse,
}

/// Stands before a server until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    listener: TcpListener,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// How often the mode was set: who counts bytes begins anew with each.
    epoch: u64,
    closed: bool,
    links: HashMap<u64, Link>,
    accepted: u64,
    passed: [u64; 2],
}

/// An open connection.
#[derive(Debug)]
struct Link {
    ends: Vec<TcpStream>,
    /// One direction has ended.
    half_closed: bool,
}

/// Which way bytes go; the index of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Proxy {
    /// A proxy before that address, which passes everything on.
    ///
    /// # Panics
    /// No port is free.
    pub fn to(server: SocketAddr) -> Self {
        let listener = bind();
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = State {
            mode: Mode::Pass,
            epoch: 0,
            closed: false,
            links: HashMap::new(),
            accepted: 0,
            passed: [0; 2],
        };
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { server, listener, state, changed: Condvar::new() });
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || shared.accept()
        });
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets what happens from now on.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        let before = state.mode;
        state.mode = mode;
        state.epoch += 1;
        state.passed = [0; 2];
        // A listening socket that is shut down refuses, yet keeps its port; who listens again has it back.
        if mode == Mode::Refuse && before != Mode::Refuse {
            self.shared.deafen();
        } else if mode != Mode::Refuse && before == Mode::Refuse {
            rustix::net::listen(&self.shared.listener, 128).expect("the port is still ours");
        }
        self.shared.changed.notify_all();
    }

    /// Cuts every open connection now; new ones are as the mode says.
    pub fn cut_all(&self) {
        self.shared.cut(|_| true);
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// Bytes passed on since the mode was last set: to the server, and from it.
    pub fn passed(&self) -> (u64, u64) {
        let [up, down] = self.shared.lock().passed;
        (up, down)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.shared.deafen();
        self.cut_all();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses connections, and wakes who waits for one.
    fn deafen(&self) {
        // It fails where it is deaf already.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }

    fn cut(&self, which: impl Fn(u64) -> bool) {
        let mut state = self.lock();
        for (_, link) in state.links.extract_if(|link, _| which(*link)) {
            for end in link.ends {
                // The other side may have closed it.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>) {
        loop {
            match self.listener.accept() {
                Ok((client, _)) => self.welcome(client),
                Err(_) => {
                    let state = self.lock();
                    let refuses = |state: &mut State| !state.closed && state.mode == Mode::Refuse;
                    let state = self.changed.wait_while(state, refuses);
                    if state.unwrap_or_else(PoisonError::into_inner).closed {
                        return;
                    }
                }
            }
        }
    }

    /// Takes a connection in; what cannot be passed on is closed.
    fn welcome(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.lock();
        state.accepted += 1;
        let link = state.accepted;
        let dead = state.mode == Mode::HalfOpen;
        if dead {
            state.links.insert(link, Link { ends: vec![client], half_closed: false });
            return;
        }
        drop(state);
        let _ = self.connect(link, client);
    }

    fn connect(self: &Arc<Self>, link: u64, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = vec![client.try_clone()?, server.try_clone()?];
        self.lock().links.insert(link, Link { ends, half_closed: false });
        let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
        let (up, down) = (self.clone(), self.clone());
        thread::spawn(move || up.pump(link, Way::Up, client, server));
        thread::spawn(move || down.pump(link, Way::Down, server_too, client_too));
        Ok(())
    }

    /// Passes bytes on in one direction until it ends, fails or is cut.
    fn pump(&self, link: u64, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        let mut counted = Counted::default();
        loop {
            match from.read(&mut buffer) {
                Ok(0) => {
                    // The other direction may go on.
                    let _ = to.shutdown(Shutdown::Write);
                    return self.half_closed(link);
                }
                Ok(read) => {
                    let (pass, cut) = self.admit(way, &mut counted, read);
                    if to.write_all(&buffer[..pass]).is_err() || cut {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.cut(|other| other == link);
    }

    /// How much of a piece may pass now, and whether the connection is cut after it. Waits as the mode says.
    fn admit(&self, way: Way, counted: &mut Counted, read: usize) -> (usize, bool) {
        let stalls = |state: &mut State| state.mode == Mode::HalfOpen && !state.closed;
        let state = self.changed.wait_while(self.lock(), stalls);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if counted.epoch != state.epoch {
            *counted = Counted { epoch: state.epoch, bytes: 0 };
        }
        let limit = match (state.mode, way) {
            (Mode::CutAfter { up, .. }, Way::Up) => up,
            (Mode::CutAfter { down, .. }, Way::Down) => down,
            _ => None,
        };
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(counted.bytes));
        let pass = read.min(usize::try_from(room).unwrap_or(usize::MAX));
        counted.bytes += pass as u64;
        state.passed[way as usize] += pass as u64;
        if let Mode::Delay(delay) = state.mode {
            drop(state);
            thread::sleep(delay);
        }
        (pass, pass as u64 == room)
    }

    /// One direction has ended; when both have, the connection is no longer open.
    fn half_closed(&self, link: u64) {
        let mut state = self.lock();
        if state.links.get(&link).is_some_and(|open| open.half_closed) {
            state.links.remove(&link);
        } else if let Some(open) = state.links.get_mut(&link) {
            open.half_closed = true;
        }
    }
}

/// A socket on a free port. The kernel takes back a port that it chose itself when the socket is deafened, but never one that
/// was asked for by its number: so the number is found first.
fn bind() -> TcpListener {
    for _ in 0..100 {
        let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let asked = TcpListener::bind(found.expect("loopback has a free port"));
        // Somebody else may have been quicker.
        if let Ok(listener) = asked {
            return listener;
        }
    }
    panic!("every port was taken by somebody else");
}

/// Bytes that passed in one direction of one connection since the mode was set.
#[derive(Debug, Default)]
struct Counted {
    epoch: u64,
    bytes: u64,
}
