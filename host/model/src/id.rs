//! What things are called: ids of tasks, sessions and leases, and names people give.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// A task's id: a UUID made by whoever enqueues it, so that an enqueue may be repeated.
///
/// Fresh ids are version 7 (RFC 9562 §5.7) and sort by the time they were made; ids that follow from something else,
/// such as a schedule's firing, are version 5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// An id of version 7 from the maker's clock and ten random bytes.
    pub const fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = now.as_millis().cast_unsigned().to_be_bytes();
        let mut bytes = [0; 16];
        let mut index = 0;
        while index < 6 {
            bytes[index] = millis[index + 2];
            index += 1;
        }
        while index < 16 {
            bytes[index] = random[index - 6];
            index += 1;
        }
        bytes[6] = bytes[6] & 0x0f | 0x70;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(Uuid::from_bytes(bytes))
    }

    /// The id that follows from `parts`: the same parts always give the same id (version 5).
    pub fn derived(parts: &[&[u8]]) -> Self {
        // A namespace of our own, so that no other use of version 5 can give the same id.
        const NAMESPACE: Uuid = Uuid::from_u128(0x6f6d_6e69_712d_4d61_a573_2d69_6473_2031);
        let mut name = Vec::new();
        for part in parts {
            name.extend_from_slice(&(part.len() as u64).to_be_bytes()); // ("ab", "c") is not ("a", "bc")
            name.extend_from_slice(part);
        }
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a task id; it is a UUID, such as `0198c6a2-7c1e-7d3a-9b1f-5d2f6c3e8a10`")]
pub struct ParseTaskIdError(pub String);

impl FromStr for TaskId {
    type Err = ParseTaskIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the usual form: `{…}` and `urn:uuid:…` would compare unequal to what was printed.
        if text.len() != 36 {
            return Err(ParseTaskIdError(text.to_owned()));
        }
        Uuid::try_parse(text).map(Self).map_err(|_| ParseTaskIdError(text.to_owned()))
    }
}

/// One running worker process. A fresh random number at every start, so a dead session never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(u64);

impl SessionId {
    /// The session of that random number; its top bit is dropped, for databases without unsigned numbers.
    pub const fn new(random: u64) -> Self {
        Self(random & (u64::MAX >> 1))
    }

    /// The number, below 2^63.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What proves that an attempt is the current one; it comes with a lease and is asked for at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// Goes up by one at every claim of the task and is never reset. Not the number of the attempt.
    pub fence: u64,
    /// Random per claim call, below 2^63: tells two claims apart even where a store lost its last writes and gives
    /// the same fence again.
    pub nonce: u64,
}

/// The text of [`Name::default_name`].
const DEFAULT: &str = "default";

/// A name that people give: of a tenant, a queue, a module, a version, a worker.
///
/// 1 to 128 characters: letters, digits, `.`, `_`, `-`, and inside of it also `/`, `+`, `@` and `:`.
#[derive(Clone, Default)]
pub struct Name(Text);

/// The name that nearly every task has twice is nowhere in memory: threads that count its holders would wait for one another.
#[derive(Clone, Default)]
enum Text {
    #[default]
    Default,
    Other(Arc<str>),
}

impl Name {
    /// The most characters a name has.
    pub const MAX: usize = 128;

    /// The name of the tenant and of the queue that are meant when none is said.
    pub fn default_name() -> Self {
        Self::default()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Default => DEFAULT,
            Text::Other(name) => name,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Text::Other(this), Text::Other(other)) => this == other,
            (Text::Default, Text::Default) => true,
            _ => false,
        }
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name; a name has 1 to 128 letters, digits, `.`, `_` or `-`, and between them also `/`, `+`, `@` and `:`"
)]
pub struct ParseNameError(pub String);

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let bytes = text.as_bytes();
        let fits = (1..=Self::MAX).contains(&bytes.len())
            && bytes.iter().all(|byte| plain(*byte) || b"/+@:".contains(byte))
            && plain(bytes[0])
            && plain(bytes[bytes.len() - 1]);
        if text == DEFAULT {
            Ok(Self::default())
        } else if fits {
            Ok(Self(Text::Other(text.into())))
        } else {
            Err(ParseNameError(text.chars().take(200).collect()))
        }
    }
}

impl TryFrom<&str> for Name {
    type Error = ParseNameError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_sort_by_time_and_say_their_version() {
        let early = TaskId::new(Timestamp::from_millis(1_700_000_000_000), [0xff; 10]);
        let late = TaskId::new(Timestamp::from_millis(1_700_000_000_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string(), "018bcfe5-6800-7fff-bfff-ffffffffffff");
        assert_eq!(early.to_string().parse(), Ok(early));
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_its_end() {
        let id = TaskId::derived(&[b"nightly", b"1"]);
        assert_eq!(id, TaskId::derived(&[b"nightly", b"1"]));
        assert_ne!(id, TaskId::derived(&[b"nightly1", b""]));
        assert_eq!(id.as_bytes()[6] >> 4, 5);
    }

    #[test]
    fn what_is_no_id_or_name_is_named() {
        for text in
            ["", "x", "{018bcfe5-6800-7fff-bfff-ffffffffffff}", "018bcfe568007fffbfffffffffffffff"]
        {
            assert_eq!(text.parse::<TaskId>(), Err(ParseTaskIdError(text.to_owned())));
        }
        for text in ["", "a b", "/a", "a/", "ü", &"n".repeat(129)] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        for text in ["a", "media", "acme/img@1.2.0", &"n".repeat(128), "default"] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        assert_eq!("default".parse(), Ok(Name::default()));
        assert_ne!("defaults".parse(), Ok(Name::default()));
    }
}
