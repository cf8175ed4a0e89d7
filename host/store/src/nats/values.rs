//! Bytes that are kept beside the log: in the key-value bucket up to 256 KiB each, in the object store above.
//!
//! A name says what the bytes are (it ends in their digest), so that to put a value again is to put the same one. Nothing
//! that may just have been put, by a call whose command is still on its way, is removed: only what was older than the
//! grace by the server's clock when the log was looked at, and only the very message that was looked at. So a command must
//! not come to stand in the log later than the grace after what it names.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{Context, kv, object_store, stream};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream as streams};
use omniq_model::{DecodeError, Payload, TaskId, Timestamp};
use sha2::{Digest as _, Sha256};

use super::fault::{self, Fault, Result};
use crate::log::outside::{OUTSIDE, Outside};

/// Bytes above which a value is an object.
const LARGE: usize = 256 << 10;
/// The entry that lists the images.
const IMAGES: &str = "images";
/// The entry that changes when the store was restored. Versions that do not know it leave it alone.
const INCARNATION: &str = "incarnation";
/// Values that are read or written at the same time.
const AT_ONCE: usize = 64;
/// How old a value must be before it may be taken for left over: until then a command that names it may come to stand in the
/// log.
pub(super) const GRACE: Duration = Duration::from_secs(300);
/// How long the next bytes of an object are waited for. Whoever removes an object meanwhile tells nobody.
const STALL: Duration = Duration::from_secs(3);

/// What a value belongs to: part of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A task's arguments.
    Arguments(TaskId),
    /// The value in a task's record.
    Outcome(TaskId),
    /// A staged result.
    Staged(TaskId),
}

impl Of {
    /// The name of its value with that digest.
    pub(super) fn name(self, digest: &[u8; 32]) -> String {
        let (kind, id) = match self {
            Self::Arguments(id) => ('a', id),
            Self::Outcome(id) => ('r', id),
            Self::Staged(id) => ('s', id),
        };
        let mut name = format!("{kind}.{id}.");
        for byte in digest {
            name.push(char::from_digit((byte >> 4).into(), 16).unwrap_or('0'));
            name.push(char::from_digit((byte & 15).into(), 16).unwrap_or('0'));
        }
        name
    }

    /// What the value of that name belongs to, and its digest.
    pub(super) fn parse(name: &str) -> Option<(Self, [u8; 32])> {
        let (kind, rest) = name.split_once('.')?;
        let (id, hex) = rest.split_once('.')?;
        let id: TaskId = id.parse().ok()?;
        let mut digest = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
        }
        let of = match kind {
            "a" => Self::Arguments(id),
            "r" => Self::Outcome(id),
            "s" => Self::Staged(id),
            _ => return None,
        };
        Some((of, digest))
    }
}

/// A value to be kept, and what stands for it.
#[derive(Debug)]
pub(super) struct Put {
    name: String,
    bytes: Bytes,
}

/// Where bytes are kept.
#[derive(Clone)]
pub(super) struct Values {
    context: Context,
    bucket: String,
    values: kv::Store,
    objects: object_store::ObjectStore,
    grace: Duration,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Values").field(&self.bucket).finish()
    }
}

impl Values {
    pub(super) fn new(
        context: Context,
        bucket: String,
        values: kv::Store,
        objects: object_store::ObjectStore,
        grace: Duration,
    ) -> Self {
        Self { context, bucket, values, objects, grace }
    }

    /// Takes a value out if it is too large to stay, and puts a stand-in in its place.
    pub(super) fn take_out(
        of: Of,
        payload: &mut Payload,
        inline: usize,
        whole: usize,
    ) -> Option<Put> {
        Self::is_outside(payload, inline).then(|| Self::take_out_always(of, payload, whole))
    }

    /// Whether a value is kept outside where `inline` bytes are the most in a command.
    pub(super) fn is_outside(payload: &Payload, inline: usize) -> bool {
        payload.bytes.len() > inline || payload.format == OUTSIDE
    }

    /// Takes a value out, and puts a stand-in in its place.
    pub(super) fn take_out_always(of: Of, payload: &mut Payload, whole: usize) -> Put {
        let digest: [u8; 32] = Sha256::digest(&payload.bytes).into();
        let size = payload.bytes.len() as u64;
        let outside = Outside { digest, format: payload.format, size, whole: whole as u64 };
        let taken = std::mem::replace(payload, outside.payload());
        Put { name: of.name(&digest), bytes: taken.bytes.into() }
    }

    /// Keeps values; returns once all are kept, and until when a command may name them.
    pub(super) async fn put(
        &self,
        puts: Vec<Put>,
        heard: impl Fn() -> Option<Timestamp>,
    ) -> Result<Option<Timestamp>> {
        let mut putting = streams::iter(puts.into_iter().map(|put| self.put_one(put, heard())))
            .buffer_unordered(AT_ONCE);
        let mut first = None;
        while let Some(done) = putting.next().await {
            let put = done?;
            first = Some(first.map_or(put, |first: Timestamp| first.min(put)));
        }
        Ok(first.map(|first| first + GRACE))
    }

    /// Keeps one; returns the instant at which, or just before which, it was.
    async fn put_one(&self, put: Put, heard: Option<Timestamp>) -> Result<Timestamp> {
        if put.bytes.len() > LARGE {
            return self.put_object_now(&put.name, &put.bytes).await;
        }
        self.values.put(&put.name, put.bytes).await.map_err(|error| fault::of(&error))?;
        heard.ok_or_else(|| Fault::unknown("the server has not told its time yet"))
    }

    /// Keeps an object, which may take long; returns when that was done.
    async fn put_object_now(&self, name: &str, bytes: &[u8]) -> Result<Timestamp> {
        self.put_object(name, bytes).await?;
        let last = self.last(name, true).await?;
        let last = last.ok_or_else(|| Fault::Unknown(format!("the object `{name}` is gone")))?;
        Ok(instant(last.time))
    }

    /// Keeps an object; returns until when a command may name it.
    pub(super) async fn put_large(&self, name: &str, bytes: &[u8]) -> Result<Timestamp> {
        Ok(self.put_object_now(name, bytes).await? + GRACE)
    }

    /// The list of images, and its revision.
    pub(super) async fn images(&self) -> Result<Option<(Bytes, u64)>> {
        let entry = self.last(IMAGES, false).await?;
        Ok(entry.map(|entry| (entry.payload, entry.sequence)))
    }

    /// Replaces the list of images of that revision, 0 for none; `false`: somebody else was faster.
    pub(super) async fn set_images(&self, list: Vec<u8>, revision: u64) -> Result<bool> {
        if revision == 0 {
            return match self.values.create(IMAGES, list.into()).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(fault::of(&error)),
            };
        }
        match self.values.update(IMAGES, list.into(), revision).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(fault::of(&error)),
        }
    }

    /// What tells the store from what it was before it was last said to be restored; `None`: it never was.
    pub(super) async fn incarnation(&self) -> Result<Option<String>> {
        let entry = self.last(INCARNATION, false).await?;
        Ok(entry.map(|entry| String::from_utf8_lossy(&entry.payload).into_owned()))
    }

    /// Replaces that by something new.
    pub(super) async fn renew_incarnation(&self) -> Result<()> {
        let new = format!("{:016x}", super::random());
        self.values.put(INCARNATION, new.into()).await.map_err(|error| fault::of(&error))?;
        Ok(())
    }

    /// Keeps an object.
    pub(super) async fn put_object(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut bytes = bytes;
        self.objects.put(name, &mut bytes).await.map_err(|error| fault::of(&error))?;
        Ok(())
    }

    /// An object, if it is there.
    pub(super) async fn object(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut read = self.read_object(name).await;
        // A server of a cluster that is behind has none of it yet, or a part.
        for pause in [50, 200, 800] {
            match read {
                Ok(None) if self.is_object(name).await? => {}
                Err(Fault::Corrupt(_)) => {}
                read => return read,
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            read = self.read_object(name).await;
        }
        read
    }

    /// Whether the leader has an object of that name.
    async fn is_object(&self, name: &str) -> Result<bool> {
        let Some(message) = self.last(name, true).await? else { return Ok(false) };
        let info: object_store::ObjectInfo =
            serde_json::from_slice(&message.payload).map_err(Fault::unknown)?;
        Ok(!info.deleted)
    }

    async fn read_object(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut object = match self.objects.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == object_store::GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault::of(&error)),
        };
        let mut bytes = Vec::with_capacity(object.info().size);
        loop {
            let read = tokio::io::AsyncReadExt::read_buf(&mut object, &mut bytes);
            match tokio::time::timeout(STALL, read).await {
                Ok(Ok(0)) => return Ok(Some(bytes)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(Fault::Corrupt(format!("the object `{name}` is damaged")));
                }
                Ok(Err(error)) => {
                    return Err(Fault::Unknown(format!(
                        "the object `{name}` was not read: {error}"
                    )));
                }
                Err(_) => {
                    return Err(Fault::Unknown(format!(
                        "the object `{name}` was not read to its end"
                    )));
                }
            }
        }
    }

    /// Removes an object, whatever its age.
    pub(super) async fn remove_object(&self, name: &str) -> Result<()> {
        match self.objects.delete(name).await {
            Ok(()) => {}
            Err(error) if error.kind() == object_store::DeleteErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fault::of(&error)),
        }
        // What is left of it is a note that it was deleted, one for each name for ever.
        let subject = self.subject(name, true);
        let stream = self.stream(&format!("OBJ_{}", self.bucket)).await?;
        stream.purge().filter(subject).await.map_err(|error| fault::of(&error))?;
        Ok(())
    }

    /// The subject of the value of that name.
    fn subject(&self, name: &str, large: bool) -> String {
        if large {
            format!("$O.{}.M.{}", self.bucket, base64url(name))
        } else {
            format!("$KV.{}.{name}", self.bucket)
        }
    }

    async fn stream(&self, name: &str) -> Result<stream::Stream<()>> {
        self.context.get_stream_no_info(name).await.map_err(|error| fault::of(&error))
    }

    /// The values that these payloads stand for; an error for one that is gone. Payloads that stand for nothing are given
    /// back as they are.
    pub(super) async fn fetch(
        &self,
        wanted: Vec<(Of, Payload)>,
    ) -> Result<Vec<std::result::Result<Payload, DecodeError>>> {
        let fetch = |(of, payload)| self.fetch_one(of, payload);
        let mut fetching = streams::iter(wanted.into_iter().map(fetch)).buffered(AT_ONCE);
        let mut found = Vec::new();
        while let Some(one) = fetching.next().await {
            found.push(one?);
        }
        Ok(found)
    }

    async fn fetch_one(
        &self,
        of: Of,
        payload: Payload,
    ) -> Result<std::result::Result<Payload, DecodeError>> {
        let outside = match Outside::of(&payload) {
            Ok(None) => return Ok(Ok(payload)),
            Ok(Some(outside)) => outside,
            Err(error) => return Ok(Err(error)),
        };
        let name = of.name(&outside.digest);
        let large = outside.size > LARGE as u64;
        let bytes = match large {
            true => self.object(&name).await,
            false => self.value(&name).await,
        };
        let bytes = match bytes {
            Err(Fault::Corrupt(_)) => None,
            bytes => bytes?,
        };
        let right = bytes.filter(|bytes| Sha256::digest(bytes).as_slice() == outside.digest);
        Ok(match right {
            Some(bytes) => Ok(Payload { format: outside.format, bytes }),
            None => Err(DecodeError {
                what: "value",
                reason: format!("`{name}` is missing or damaged in the bucket `{}`", self.bucket),
            }),
        })
    }

    async fn value(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let value = self.values.get(name).await.map_err(|error| fault::of(&error))?;
        if let Some(value) = value {
            return Ok(Some(value.into()));
        }
        Ok(self.last(name, false).await?.map(|message| message.payload.into()))
    }

    /// The last message of that name as the stream's leader has it: any other server of a cluster may be behind.
    async fn last(&self, name: &str, large: bool) -> Result<Option<StreamMessage>> {
        let stream = self.stream_of(large).await?;
        match stream.get_last_raw_message_by_subject(&self.subject(name, large)).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => {
                Ok(None)
            }
            Err(error) => Err(fault::of(&error)),
        }
    }

    /// Removes values that belonged to nothing any more `at` that instant of the server's, except those younger than the
    /// grace: they may belong to something again already.
    pub(super) async fn drop_values(&self, names: Vec<(String, u64)>, at: Timestamp) {
        let drops = names.into_iter().map(|(name, size)| self.drop_one(name, size, at));
        // What fails is left over, and found by the sweep.
        streams::iter(drops).buffer_unordered(8).map(|_: Result<()>| ()).collect::<()>().await;
    }

    async fn drop_one(&self, name: String, size: u64, at: Timestamp) -> Result<()> {
        let large = size > LARGE as u64;
        let stream = self.stream_of(large).await?;
        let last = stream.direct_get_last_for_subject(self.subject(&name, large)).await;
        let message = last.map_err(|error| fault::of(&error))?;
        let last = Message { sequence: message.sequence, at: instant(message.time) };
        if self.is_old(last, at) {
            self.drop_message(&stream, &name, last, large).await
        } else {
            Ok(())
        }
    }

    /// Removes the very message that was looked at, and the chunks of its object.
    async fn drop_message(
        &self,
        stream: &stream::Stream<()>,
        name: &str,
        message: Message,
        large: bool,
    ) -> Result<()> {
        let nuid = if large {
            // Not those of an object of that name that was put in the meantime.
            let message = stream.get_raw_message(message.sequence).await;
            let message = message.map_err(|error| fault::of(&error))?;
            let info: object_store::ObjectInfo =
                serde_json::from_slice(&message.payload).map_err(Fault::unknown)?;
            Some(info.nuid)
        } else {
            None
        };
        // Up to that message: one that was put in the meantime stays.
        let purge = stream.purge().sequence(message.sequence + 1).filter(self.subject(name, large));
        purge.await.map_err(|error| fault::of(&error))?;
        if let Some(nuid) = nuid {
            let chunks = format!("$O.{}.C.{nuid}", self.bucket);
            stream.purge().filter(chunks).await.map_err(|error| fault::of(&error))?;
        }
        Ok(())
    }

    /// Whether all commands that may name it were in the log at `now`. Both instants are the server's.
    fn is_old(&self, message: Message, now: Timestamp) -> bool {
        message.at + self.grace <= now
    }

    /// Looks at up to `max` values from `cursor` on for ones that may go if they belong to nothing.
    pub(super) async fn list(&self, large: bool, cursor: u64, max: usize) -> Result<Listed> {
        let filter = if large {
            format!("$O.{}.M.>", self.bucket)
        } else {
            format!("$KV.{}.>", self.bucket)
        };
        let stream = self.stream_of(large).await?;
        let (mut found, now) = self.look(&stream, &filter, cursor, max).await?;
        let next = found.last().filter(|found| !found.last);
        let next = next.map_or(0, |found| found.message.sequence + 1);
        found.retain(|found| self.is_old(found.message, now));
        Ok(Listed { large, found, next })
    }

    /// Removes what was listed and belongs to nothing; returns where to go on, 0 after the last one. `keeps` says whether
    /// something of that name is still known, by a log that was looked at after the list.
    pub(super) async fn sweep(&self, listed: Listed, keeps: impl Fn(&str) -> bool) -> Result<u64> {
        let stream = self.stream_of(listed.large).await?;
        for found in listed.found {
            if !keeps(&found.name) {
                self.drop_message(&stream, &found.name, found.message, listed.large).await?;
            }
        }
        Ok(listed.next)
    }

    /// The stream in which values of that size are.
    pub(super) async fn stream_of(&self, large: bool) -> Result<stream::Stream<()>> {
        self.stream(&format!("{}_{}", if large { "OBJ" } else { "KV" }, self.bucket)).await
    }

    /// The names of up to `max` messages from `from` on, without their bytes, and the instant at which that was asked for.
    async fn look(
        &self,
        stream: &stream::Stream<()>,
        filter: &str,
        from: u64,
        max: usize,
    ) -> Result<(Vec<Found>, Timestamp)> {
        use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            filter_subject: filter.to_owned(),
            headers_only: true,
            inactive_threshold: Duration::from_secs(10),
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| fault::of(&error))?;
        let now = instant(consumer.cached_info().created);
        let batch = consumer.fetch().max_messages(max).messages().await;
        let mut batch = batch.map_err(|error| fault::of(&error))?;
        let mut found = Vec::new();
        while let Some(message) = batch.next().await {
            let message = message.map_err(Fault::unknown)?;
            let info = message.info().map_err(Fault::unknown)?;
            let name = match message.subject.as_str().split_once(".M.") {
                Some((_, encoded)) if filter.starts_with("$O") => unbase64url(encoded),
                _ => message.subject.splitn(3, '.').nth(2).unwrap_or_default().to_owned(),
            };
            let at = Message { sequence: info.stream_sequence, at: instant(info.published) };
            found.push(Found { name, message: at, last: info.pending == 0 });
        }
        Ok((found, now))
    }
}

/// A message that was looked at.
#[derive(Debug, Clone, Copy)]
struct Message {
    sequence: u64,
    at: Timestamp,
}

/// What was looked at, and where to go on.
pub(super) struct Listed {
    large: bool,
    found: Vec<Found>,
    next: u64,
}

struct Found {
    name: String,
    message: Message,
    /// Whether there is none after it.
    last: bool,
}

/// An instant of the server's.
pub(super) fn instant(at: async_nats::datetime::DateTime) -> Timestamp {
    Timestamp::from_millis(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// As the object store writes names into subjects (RFC 4648 §5, with padding).
fn base64url(text: &str) -> String {
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bytes =
            [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for index in 0..4 {
            let sextet = (bits >> (18 - 6 * index)) & 63;
            encoded.push(if index <= chunk.len() {
                ALPHABET[sextet as usize] as char
            } else {
                '='
            });
        }
    }
    encoded
}

fn unbase64url(encoded: &str) -> String {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in encoded.bytes() {
        let Some(sextet) = ALPHABET.iter().position(|letter| *letter == byte) else { break };
        bits = bits << 6 | sextet as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::connect::connect;
    use super::*;

    /// Between the look at an object and its removal it is put again.
    #[tokio::test]
    async fn an_object_that_is_put_again_while_it_is_removed_stays_whole() {
        let server = omniq_services::nats().address().to_string();
        let values = connect(&Config::new(vec![server], "again")).await.unwrap().values;
        let (name, bytes) = (Of::Arguments(TaskId::derived(&[b"t"])).name(&[1; 32]), [7; 300_000]);
        values.put_object(&name, &bytes).await.unwrap();
        let listed = Values { grace: Duration::ZERO, ..values.clone() };
        let listed = listed.list(true, 0, 9).await.unwrap();
        values.put_object(&name, &bytes).await.unwrap();
        let _ = values.sweep(listed, |_| false).await; // what it looked at may be gone
        let read = tokio::time::timeout(Duration::from_secs(60), values.object(&name)).await;
        assert!(read.unwrap().unwrap().is_some_and(|read| read == bytes));
    }

    #[tokio::test]
    async fn nothing_is_taken_for_left_over_before_the_grace_is_over_by_the_servers_clock() {
        let server = omniq_services::nats().address().to_string();
        let values = connect(&Config::new(vec![server], "old")).await.unwrap().values;
        let by = values.put_large("module.x.1", b"bytes").await.unwrap();
        let listed = values.list(true, 0, 9).await.unwrap();
        assert!(listed.found.is_empty(), "it was put just now");
        let listed = Values { grace: Duration::ZERO, ..values }.list(true, 0, 9).await.unwrap();
        let found: Vec<_> = listed.found.iter().map(|found| found.message.at + GRACE).collect();
        assert_eq!(found, [by]);
    }

    #[test]
    fn names_say_what_they_belong_to() {
        let id = TaskId::derived(&[b"t"]);
        let digest = [0xa5; 32];
        for of in [Of::Arguments(id), Of::Outcome(id), Of::Staged(id)] {
            assert_eq!(Of::parse(&of.name(&digest)), Some((of, digest)));
        }
        for name in ["", "a", "a.b.c", "x.018bcfe5-6800-7fff-bfff-ffffffffffff.00", "image"] {
            assert_eq!(Of::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_objects_are_written_as_the_object_store_does() {
        for (name, encoded) in [("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("?>~", "Pz5-")] {
            assert_eq!(base64url(name), encoded);
            assert_eq!(unbase64url(encoded), name);
        }
    }
}
