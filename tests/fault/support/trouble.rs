//! What befalls a server and the connections to it: killed, stopped, cut off, slow, forgetful.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use omniq_conformance::Rolls;
use omniq_services::{Kind, Mode, Proxy, Server};

use super::again::deliver_again;
use super::place::Place;

/// From the end of one trouble to the next.
const RHYTHM: Duration = Duration::from_millis(700);
/// The longest that a server is away or stands still: longer than leases are.
const LONGEST: usize = 2500;

/// Troubles for one server, and for the proxy that clients reach it through.
#[derive(Debug)]
pub struct Trouble<'a> {
    server: &'a Server,
    proxy: &'a Proxy,
    /// The store's name on the server.
    store: String,
    next: Instant,
    counts: BTreeMap<&'static str, usize>,
}

impl<'a> Trouble<'a> {
    /// None yet, for that place's store.
    pub fn new(server: &'a Server, proxy: &'a Proxy, place: &Place) -> Self {
        let store = place.name().to_owned();
        Self { server, proxy, store, next: Instant::now() + RHYTHM, counts: BTreeMap::new() }
    }

    /// One of the troubles, if it is time for one; returns when the worst of it is over.
    pub fn strike(&mut self, rolls: &mut Rolls) {
        if Instant::now() < self.next {
            return;
        }
        let lasting = Duration::from_millis(rolls.below(LONGEST) as u64);
        let what = match rolls.below(9) {
            0 | 1 => {
                self.server.kill();
                sleep(lasting / 2);
                self.server.restart();
                "server killed"
            }
            2 => {
                self.server.pause();
                sleep(lasting);
                self.server.resume();
                "server stopped"
            }
            3 => {
                self.proxy.cut_all();
                "connections cut"
            }
            4 | 5 => {
                // In the midst of a request or of an answer, wherever that is then.
                let bytes = Some(rolls.below(20_000) as u64);
                let up = rolls.happens(500);
                let (up, down) = if up { (bytes, None) } else { (None, bytes) };
                self.proxy.set(Mode::CutAfter { up, down });
                if self.server.kind() == Kind::S3 {
                    // It ends, as the others do: what is larger than that would never get through.
                    sleep(lasting / 2);
                    self.proxy.set(Mode::Pass);
                }
                "connections cut in the midst"
            }
            6 => {
                self.proxy.set(Mode::HalfOpen);
                sleep(lasting);
                self.proxy.set(Mode::Pass);
                self.proxy.cut_all();
                "connections dead"
            }
            7 => {
                self.proxy.set(Mode::Refuse);
                self.proxy.cut_all();
                sleep(lasting / 2);
                self.proxy.set(Mode::Pass);
                "connections refused"
            }
            _ if matches!(self.server.kind(), Kind::Redis | Kind::Valkey) => {
                forget_scripts(self.server);
                "scripts forgotten"
            }
            _ if self.server.kind() == Kind::Nats => {
                deliver_again(self.server, &self.store, 5);
                "messages delivered twice"
            }
            _ => {
                self.proxy.set(Mode::Delay(Duration::from_millis(30)));
                "connections slow"
            }
        };
        *self.counts.entry(what).or_default() += 1;
        self.next = Instant::now() + RHYTHM;
    }

    /// Ends all of it, and prints what it was.
    pub fn over(self) {
        self.proxy.set(Mode::Pass);
        println!("troubles: {:?}; {} connections", self.counts, self.proxy.accepted());
    }
}

/// Has a Redis server forget the scripts that it was given.
pub fn forget_scripts(server: &Server) {
    let mut stream = TcpStream::connect(server.address()).expect("the server runs");
    stream.write_all(b"SCRIPT FLUSH SYNC\r\nQUIT\r\n").expect("the server listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    assert_eq!(answer, "+OK\r\n+OK\r\n");
}
