//! Messages of a NATS stream that come twice: what the server has in it is published once more as it is, in the server's own
//! protocol, since every client takes care that this does not happen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use omniq_services::Server;
use serde_json::Value;

/// A connection that asks one thing at a time.
struct Line {
    reader: BufReader<TcpStream>,
}

/// Publishes the last `count` messages of a store's log once more; gives how many there were.
pub fn deliver_again(server: &Server, store: &str, count: u64) -> u64 {
    let stream = TcpStream::connect(server.address()).expect("the server runs");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is no zero");
    let mut line = Line { reader: BufReader::new(stream) };
    line.send(
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB back 1\r\n",
    );
    let info = line.ask(&format!("$JS.API.STREAM.INFO.OMNIQ_{store}"), "");
    let info: Value = serde_json::from_slice(&info).expect("the server tells of its streams");
    // A server that has just come back may not have opened its streams yet.
    let number = |name: &str| info["state"][name].as_u64();
    let (Some(first), Some(last)) = (number("first_seq"), number("last_seq")) else { return 0 };
    let from = first.max((last + 1).saturating_sub(count));
    for sequence in from..=last {
        let get = format!("{{\"seq\":{sequence}}}");
        let message = line.ask(&format!("$JS.API.DIRECT.GET.OMNIQ_{store}"), &get);
        line.send(&format!("PUB omniq.{store}.log {}\r\n", message.len()));
        line.reader.get_mut().write_all(&message).expect("the server listens");
        line.send("\r\n");
    }
    // Its answer says that it has read all that came before.
    line.send("PING\r\n");
    line.until("PONG");
    (last + 1).saturating_sub(from)
}

impl Line {
    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).expect("the server listens");
    }

    /// The first line that begins so.
    fn until(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("the server answers");
            assert!(!line.is_empty() && !line.starts_with("-ERR"), "the server says `{line}`");
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// What is answered to a request, without its headers.
    fn ask(&mut self, subject: &str, body: &str) -> Vec<u8> {
        self.send(&format!("PUB {subject} back {}\r\n{body}\r\n", body.len()));
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("the server answers");
            let words: Vec<_> = line.split_whitespace().collect();
            let length = |word: usize| words[word].parse().expect("a length is a number");
            let (headers, total): (usize, usize) = match words.first() {
                Some(&"MSG") => (0, length(3)),
                Some(&"HMSG") => (length(3), length(4)),
                Some(&"-ERR") | None => panic!("the server says `{line}`"),
                Some(_) => continue,
            };
            let mut message = vec![0; total + 2];
            self.reader.read_exact(&mut message).expect("it is as long as the server said");
            return message[headers..total].to_vec();
        }
    }
}
