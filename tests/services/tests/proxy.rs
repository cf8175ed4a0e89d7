//! What the proxy does to real connections, against a server that answers each byte with the same.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use omniq_services::{Mode, Proxy};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to be sure that nothing comes.
const SILENCE: Duration = Duration::from_millis(200);

/// Answers every connection with what it says, until the test process ends.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut from = client.try_clone().expect("a socket can be cloned");
                let mut to = client;
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    addr
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.addr()).expect("the proxy listens");
    client.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    client
}

#[track_caller]
fn echoes(client: &mut TcpStream, text: &[u8]) {
    client.write_all(text).expect("it is passed on");
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).expect("it is answered");
    assert_eq!(answer, text);
}

/// What still comes until the connection is closed.
fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match client.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    all
}

#[test]
fn all_bytes_pass_in_both_directions_and_an_end_is_passed_on() {
    let proxy = Proxy::to(echo());
    let mut client = connect(&proxy);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let writer = thread::spawn({
        let (mut client, sent) = (client.try_clone().expect("it can be cloned"), sent.clone());
        move || {
            client.write_all(&sent).expect("it is passed on");
            client.shutdown(Shutdown::Write).expect("it is open");
        }
    });
    assert_eq!(rest(&mut client), sent);
    writer.join().expect("the writer ends");
    assert_eq!(proxy.passed(), (1_000_000, 1_000_000));
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn a_delay_holds_each_direction() {
    let proxy = Proxy::to(echo());
    let mut client = connect(&proxy);
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    let asked = Instant::now();
    echoes(&mut client, b"slow");
    assert!(asked.elapsed() >= Duration::from_millis(200), "{:?}", asked.elapsed());
    proxy.set(Mode::Pass);
    echoes(&mut client, b"fast");
}

#[test]
fn a_connection_is_cut_after_exactly_so_many_bytes() {
    for (up, down, expected) in [
        (Some(0), None, 0),
        (Some(5), None, 5),
        (None, Some(0), 0),
        (None, Some(3), 3),
        (Some(7), Some(4), 4),
    ] {
        let proxy = Proxy::to(echo());
        let mut client = connect(&proxy);
        echoes(&mut client, b"not counted");
        proxy.set(Mode::CutAfter { up, down });
        client.write_all(b"0123456789").expect("it goes as far as the proxy");
        let got = rest(&mut client);
        // What a server answers to its last bytes may be cut off with them.
        assert!(got.len() <= expected, "{up:?} {down:?}: {got:?}");
        let (passed_up, passed_down) = proxy.passed();
        assert!(passed_up <= up.unwrap_or(10), "{up:?} {down:?}: {passed_up}");
        if let (Some(up), None) = (up, down) {
            assert_eq!(passed_up, up);
        }
        if let (None, Some(down)) = (up, down) {
            assert_eq!((passed_down, got.len() as u64), (down, down));
        }
        assert_eq!(proxy.open(), 0);
        // A new connection begins at zero.
        if up.unwrap_or(9) > 2 && down.unwrap_or(9) > 2 {
            echoes(&mut connect(&proxy), b"ab");
        }
    }
}

#[test]
fn a_half_open_proxy_accepts_and_says_nothing_until_it_passes_again() {
    let proxy = Proxy::to(echo());
    let mut before = connect(&proxy);
    echoes(&mut before, b"one");
    proxy.set(Mode::HalfOpen);
    let mut meanwhile = connect(&proxy);
    for client in [&mut before, &mut meanwhile] {
        client.write_all(b"two").expect("the kernel takes it");
        client.set_read_timeout(Some(SILENCE)).expect("it is no zero");
        let error = client.read(&mut [0]).expect_err("nobody answers");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
    proxy.set(Mode::Pass);
    before.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    let mut answer = [0; 3];
    before.read_exact(&mut answer).expect("what stood still goes on");
    assert_eq!(&answer, b"two");
    let error = meanwhile.read(&mut [0]).expect_err("this one never reaches the server");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    proxy.cut_all();
    meanwhile.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    assert_eq!(rest(&mut meanwhile), b"");
}

#[test]
fn a_refusing_proxy_refuses_again_and_again_and_keeps_its_port() {
    let proxy = Proxy::to(echo());
    let mut before = connect(&proxy);
    echoes(&mut before, b"one");
    for _ in 0..20 {
        proxy.set(Mode::Refuse);
        let error = TcpStream::connect(proxy.addr()).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        echoes(&mut before, b"still there");
        proxy.set(Mode::Pass);
        echoes(&mut connect(&proxy), b"welcome");
    }
}

#[test]
fn cutting_all_ends_what_is_open_and_nothing_else() {
    let proxy = Proxy::to(echo());
    let mut clients = [connect(&proxy), connect(&proxy), connect(&proxy)];
    for client in &mut clients {
        echoes(client, b"one");
    }
    assert_eq!(proxy.open(), 3);
    proxy.cut_all();
    for client in &mut clients {
        assert_eq!(rest(client), b"");
    }
    assert_eq!(proxy.open(), 0);
    echoes(&mut connect(&proxy), b"two");
}

#[test]
fn a_proxy_before_nobody_closes_what_it_accepts() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound")
    };
    let proxy = Proxy::to(nobody);
    assert_eq!(rest(&mut connect(&proxy)), b"");
}

#[test]
fn a_dropped_proxy_is_gone() {
    let proxy = Proxy::to(echo());
    let addr = proxy.addr();
    let mut client = connect(&proxy);
    echoes(&mut client, b"one");
    drop(proxy);
    assert_eq!(rest(&mut client), b"");
    let error = TcpStream::connect(addr).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
