//! Commands that are in the log of a NATS store twice, as when a message is sent again after the server has forgotten its id:
//! what is in the stream is published once more, in the server's own protocol, since every client takes care that this does
//! not happen.

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
    // A server that has just come back may not have opened its streams yet.
    let Some(info) = line.ask(&format!("$JS.API.STREAM.INFO.OMNIQ_{store}"), "") else { return 0 };
    let info: Value = serde_json::from_slice(&info).expect("the server tells of its streams");
    let number = |name: &str| info["state"][name].as_u64();
    let (Some(first), Some(last)) = (number("first_seq"), number("last_seq")) else { return 0 };
    let from = first.max((last + 1).saturating_sub(count));
    let mut again = 0;
    for sequence in from..=last {
        let get = format!("{{\"seq\":{sequence}}}");
        let Some(message) = line.ask(&format!("$JS.API.DIRECT.GET.OMNIQ_{store}"), &get) else {
            continue;
        };
        again += 1;
        line.send(&format!("PUB omniq.{store}.log {}\r\n", message.len()));
        line.reader.get_mut().write_all(&message).expect("the server listens");
        line.send("\r\n");
    }
    // Its answer says that it has read all that came before.
    line.send("PING\r\n");
    line.until("PONG");
    again
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

    /// What is answered to a request, without its headers; `None` if nobody is there to answer, or has nothing.
    fn ask(&mut self, subject: &str, body: &str) -> Option<Vec<u8>> {
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
            // A message from a stream begins so without a number; with one, it is none.
            let is_status = message[..headers].starts_with(b"NATS/1.0 ");
            return (!is_status).then(|| message[headers..total].to_vec());
        }
    }
}
