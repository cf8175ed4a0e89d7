//! What stands in the log: commands about tasks, results and modules, in messages of many.

use std::time::Duration;

use omniq_model::record::{decode, encode};
use omniq_model::{Module, Name, TaskId, Timestamp};

use crate::log::Command;
use crate::log::outside::Outside;
use crate::log::wire::{In, Out, Read, bad};
use crate::{Pushed, ResultKey, log};

/// How messages are written. A message of a higher number stops who reads it: to pass over a command would be to have
/// another store from then on. The first format had no end of a message's time.
const FORMAT: u8 = 2;
/// The most bytes of a message, whatever the server allows: a larger one is put into an object and named in the log.
pub(super) const MOST: usize = 1 << 20;

/// A result that is kept beside the log.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub key: ResultKey,
    pub value: Outside,
    pub ttl: Duration,
}

/// Where an image of everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The last message it has.
    pub seq: u64,
    /// The bytes of log up to there.
    pub weight: u64,
    /// Its own size.
    pub size: u64,
}

impl Image {
    /// The object it is in.
    pub(super) fn name(&self) -> String {
        format!("image.{:020}", self.seq)
    }

    pub(super) fn write(&self, out: &mut Out) {
        out.number(self.seq);
        out.number(self.weight);
        out.number(self.size);
    }

    pub(super) fn read(input: &mut In<'_>) -> Read<Self> {
        Ok(Self { seq: input.number()?, weight: input.number()?, size: input.number()? })
    }
}

/// One command.
#[derive(Debug)]
pub(super) enum Entry {
    Tasks(Command),
    PutResults(Vec<Staged>),
    RemoveResults(Vec<TaskId>),
    PurgeResults(usize),
    /// A module, and the object its bytes are in.
    PushModule(Box<Module>, String),
    RemoveModule(Name, Name),
    /// An image was taken.
    Took(Image),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    Tasks(log::Answer),
    Done,
    Count(usize),
    /// And whether the object that came with it is the one that is kept.
    Pushed(Pushed, bool),
    /// The object whose module was the last of its bytes.
    Removed(bool, Option<String>),
}

impl Entry {
    /// What kind it is, as failpoints name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Tasks(command) => command.kind(),
            Self::PutResults(_) => "put_results",
            Self::RemoveResults(_) => "remove_results",
            Self::PurgeResults(_) => "purge_results",
            Self::PushModule(..) => "push_module",
            Self::RemoveModule(..) => "remove_module",
            Self::Took(_) => "image",
        }
    }

    /// Whether it makes the store larger.
    pub(super) fn grows(&self) -> bool {
        match self {
            Self::Tasks(command) => command.grows(),
            Self::PushModule(..) => true,
            _ => false,
        }
    }

    /// As it stands in a message.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::with_capacity(256);
        self.write(&mut out);
        out.into_bytes()
    }

    fn write(&self, out: &mut Out) {
        match self {
            Self::Tasks(command) => {
                out.byte(0);
                command.write(out);
            }
            Self::PutResults(results) => {
                out.byte(1);
                out.count(results.len());
                for Staged { key, value, ttl } in results {
                    out.id(key.task);
                    out.token(key.token);
                    value.write(out);
                    out.span(*ttl);
                }
            }
            Self::RemoveResults(tasks) => {
                out.byte(2);
                out.count(tasks.len());
                tasks.iter().for_each(|task| out.id(*task));
            }
            Self::PurgeResults(max) => {
                out.byte(3);
                out.count(*max);
            }
            Self::PushModule(module, object) => {
                out.byte(4);
                out.bytes(&encode(&**module));
                out.text(object);
            }
            Self::RemoveModule(name, version) => {
                out.byte(5);
                out.text(name.as_str());
                out.text(version.as_str());
            }
            Self::Took(image) => {
                out.byte(6);
                image.write(out);
            }
        }
    }

    fn read(input: &mut In<'_>) -> Read<Self> {
        Ok(match input.byte()? {
            0 => Self::Tasks(Command::read(input)?),
            1 => Self::PutResults(input.list(|input| {
                let key = ResultKey { task: input.id()?, token: input.token()? };
                Ok(Staged { key, value: Outside::read(input)?, ttl: input.span()? })
            })?),
            2 => Self::RemoveResults(input.list(In::id)?),
            3 => Self::PurgeResults(input.count()?),
            4 => {
                let module = decode("module", input.bytes()?)?;
                Self::PushModule(Box::new(module), input.text()?.to_owned())
            }
            5 => Self::RemoveModule(input.name()?, input.name()?),
            6 => Self::Took(Image::read(input)?),
            other => return Err(bad(format!("this version knows no entry {other}"))),
        })
    }
}

/// Who sent a message, and which of theirs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    pub process: u64,
    pub number: u64,
}

impl Sender {
    /// As the server tells repeated messages by.
    pub(super) fn id(self) -> String {
        format!("{:016x}-{}", self.process, self.number)
    }
}

/// What stands at the head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub sender: Sender,
    /// The instant where a test's clock decides.
    pub now: Option<Timestamp>,
    /// A message that the server stamps later than that is void: it came too late, and everybody passes over it. What was
    /// given up is over then, and what it names may be gone.
    pub until: Option<Timestamp>,
}

impl Head {
    fn write(&self, more: usize) -> Out {
        let mut out = Out::with_capacity(more + 48);
        out.byte(FORMAT);
        out.fixed(self.sender.process);
        out.number(self.sender.number);
        out.option(self.now, Out::instant);
        out.option(self.until, Out::instant);
        out
    }
}

/// What is sent: entries as [`Entry::to_bytes`] gives them.
pub(super) fn message<'a>(
    head: Head,
    bodies: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
) -> Vec<u8> {
    let mut out = head.write(bodies.clone().map(<[u8]>::len).sum());
    out.byte(0);
    out.count(bodies.len());
    let mut bytes = out.into_bytes();
    bodies.for_each(|body| bytes.extend_from_slice(body));
    bytes
}

/// What is sent in place of a message that is too large for one: where it is.
pub(super) fn elsewhere(head: Head, object: &str) -> Vec<u8> {
    let mut out = head.write(object.len());
    out.byte(1);
    out.text(object);
    out.into_bytes()
}

/// The object of a message that is too large for the log. Its name says how many bytes are in it: everybody counts them, and
/// who sent them need not read them.
pub(super) fn object_of(sender: Sender, bytes: usize) -> String {
    format!("message.{}.{bytes}", sender.id())
}

/// How many bytes are in the object of that name. Older versions did not say: most servers allow that many in a message.
pub(super) fn size_of(object: &str) -> u64 {
    let size = object.rsplit_once('.').and_then(|(_, size)| size.parse().ok());
    size.unwrap_or(MOST as u64)
}

/// A message as it was read.
pub(super) struct Message<'a> {
    pub head: Head,
    pub body: Body<'a>,
}

pub(super) enum Body<'a> {
    /// Its entries, still to be read.
    Here(In<'a>),
    /// The object in which the whole message is.
    Elsewhere(&'a str),
}

impl<'a> Message<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Read<Self> {
        let mut input = In::new(bytes);
        let format = input.byte()?;
        if !(1..=FORMAT).contains(&format) {
            return Err(bad(format!("this version knows no message {format}")));
        }
        let sender = Sender { process: input.fixed()?, number: input.number()? };
        let now = input.option(In::instant)?;
        let until = if format == 1 { None } else { input.option(In::instant)? };
        let head = Head { sender, now, until };
        let body = match input.byte()? {
            0 => Body::Here(input),
            1 => Body::Elsewhere(input.text()?),
            other => return Err(bad(format!("this version knows no body {other}"))),
        };
        Ok(Self { head, body })
    }
}

/// The entries of a message.
pub(super) fn entries(mut body: In<'_>) -> Read<Vec<Entry>> {
    let entries = body.list(Entry::read)?;
    body.end()?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let [now, until] = [-5, 7].map(|at| Some(Timestamp::from_millis(at)));
        Head { sender: Sender { process: u64::MAX, number: 300 }, now, until }
    }

    #[test]
    fn a_message_goes_there_and_back() {
        let bodies =
            [Entry::Tasks(Command::Promote(7)), Entry::Took(Image { seq: 1, weight: 2, size: 3 })];
        let bodies = bodies.map(|entry| entry.to_bytes());
        let bytes = message(head(), bodies.iter().map(Vec::as_slice));
        let read = Message::read(&bytes).unwrap();
        assert_eq!(read.head, head());
        let Body::Here(body) = read.body else { panic!("it is in the message") };
        let kinds: Vec<_> = entries(body).unwrap().iter().map(Entry::kind).collect();
        assert_eq!(kinds, ["promote", "image"]);
        let bytes = elsewhere(Head { now: None, until: None, ..head() }, "large");
        let read = Message::read(&bytes).unwrap();
        assert!(matches!(read.body, Body::Elsewhere("large")));
    }

    #[test]
    fn a_message_of_the_first_format_is_read() {
        let mut out = Out::default();
        out.byte(1);
        out.fixed(u64::MAX);
        out.number(300);
        out.option(head().now, Out::instant);
        out.byte(1);
        out.text("large");
        let bytes = out.into_bytes();
        let read = Message::read(&bytes).unwrap();
        assert_eq!(read.head, Head { until: None, ..head() });
        assert!(matches!(read.body, Body::Elsewhere("large")));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let whole = elsewhere(head(), "large");
        for length in 0..whole.len() {
            assert!(Message::read(&whole[..length]).is_err(), "{length}");
        }
        assert!(Message::read(&[FORMAT + 1; 40]).is_err(), "another version");
    }
}
