//! The result store: one object for each value, and lists of what is to be forgotten when.
//!
//! `results/value/XX/TASK/FENCE-NONCE` is a value, created once; XX are the last two digits of the task's id, which
//! spread values over folders and over the parts of a bucket. `results/until/HOUR/MILLIS-RANDOM` lists the values of
//! one call that may go at MILLIS. The list is written first, so that no value is ever forgotten to be forgotten; what
//! is on a list and was never written costs a look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use omniq_model::{Format, Payload, TaskId, Timestamp, Token};

use super::Root;
use super::objects::{NAME, Objects, WIDTH, corrupt, random};
use crate::{Clock, Result, ResultKey, ResultStore, StagedResult, failpoint};

/// Results as objects. Clones share what they know of the lists.
#[derive(Debug, Clone)]
pub struct ObjectResults {
    objects: Objects,
    clock: Arc<dyn Clock>,
    sweep: Arc<Mutex<Sweep>>,
}

/// What this process knows of the lists, so that nobody is asked each time there is nothing to forget.
#[derive(Debug, Default)]
struct Sweep {
    /// The list being worked off, and what is left of it.
    list: Option<(String, Vec<ResultKey>)>,
    /// Before this instant nothing is due; `None`: not known.
    next: Option<Timestamp>,
}

/// After this long the lists are looked at again, for those of other processes.
const LOOK: Duration = Duration::from_secs(60);
/// Lists are kept by the hour in which they are due.
const HOUR: i64 = 3_600_000;

impl ObjectResults {
    /// The results under a root; `clock` decides when their time is over.
    pub fn new(root: Root, clock: Arc<dyn Clock>) -> Self {
        Self { objects: Objects::new(root), clock, sweep: Arc::default() }
    }

    fn sweep(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down which of these values may go when. Values that may go in the same minute share a list.
    async fn list(&self, results: &[(StagedResult, Timestamp)]) -> Result<()> {
        let mut lists: BTreeMap<i64, (Timestamp, Vec<u8>)> = BTreeMap::new();
        for (staged, until) in results {
            let (last, keys) = lists.entry(until.as_millis() / 60_000).or_default();
            *last = (*last).max(*until);
            keys.extend_from_slice(&key_bytes(&staged.key));
        }
        for (until, keys) in lists.into_values() {
            self.objects.create(&list_name(until)?, keys.into(), "keep results").await?;
            let mut sweep = self.sweep();
            sweep.next = sweep.next.map(|next| next.min(until));
        }
        Ok(())
    }

    async fn put_one(&self, staged: StagedResult, until: Timestamp) -> Result<()> {
        let value = encode(&staged.value, until);
        self.objects.create(&value_name(&staged.key), value, "keep results").await.map(drop)
    }

    async fn get_one(&self, key: &ResultKey) -> Result<Option<Payload>> {
        let name = value_name(key);
        let Some(bytes) = self.objects.get(&name, "read results").await? else { return Ok(None) };
        decode(&bytes).map(Some).map_err(|reason| corrupt(&self.objects.root, &name, reason))
    }

    /// Forgets a value if its time is over; tells whether it did. Another list may hold the same value for longer.
    async fn forget(&self, key: &ResultKey, now: Timestamp) -> Result<bool> {
        let name = value_name(key);
        let head = self.objects.head(&name, HEAD as u64, "forget results").await?;
        let over = head.is_some_and(|head| until_of(&head).is_none_or(|until| until <= now));
        if over {
            self.objects.delete(&name, "forget results").await?;
        }
        Ok(over)
    }

    /// The next list that is due, and what is on it.
    async fn due(&self, now: Timestamp) -> Result<Option<(String, Vec<ResultKey>)>> {
        if self.sweep().next.is_some_and(|next| now < next) {
            return Ok(None);
        }
        let mut next = now + LOOK;
        for hour in self.objects.folders("results/until", "forget results").await? {
            let begin = hour.parse::<i64>().unwrap_or(0).saturating_mul(HOUR);
            if begin > now.as_millis() {
                next = next.min(Timestamp::from_millis(begin));
                break;
            }
            let folder = format!("results/until/{hour}");
            for name in self.objects.list(&folder, "forget results").await? {
                let until = until_of_list(&name);
                if until > now {
                    next = next.min(until);
                    break;
                }
                match self.objects.get(&name, "forget results").await? {
                    Some(keys) => return Ok(Some((name, keys_of(&keys)))),
                    None => continue, // another process was faster
                }
            }
        }
        self.sweep().next = Some(next);
        Ok(None)
    }
}

#[async_trait]
impl ResultStore for ObjectResults {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        if results.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let until = |staged: StagedResult| (now + staged.ttl.get(), staged);
        let results: Vec<_> =
            results.into_iter().map(until).map(|(until, staged)| (staged, until)).collect();
        self.list(&results).await?;
        failpoint::hit("object.results.listed");
        let puts = results.into_iter().map(|(staged, until)| self.put_one(staged, until));
        stream::iter(puts).buffer_unordered(WIDTH).try_collect::<()>().await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        let gets = keys.iter().map(|key| self.get_one(key)).collect::<Vec<_>>();
        stream::iter(gets).buffered(WIDTH).try_collect().await
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        for task in tasks {
            let values = self.objects.list(&folder(*task), "remove results").await?;
            self.objects.delete_all(values, "remove results").await?;
        }
        Ok(())
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        let now = self.clock.now();
        let mut forgotten = 0;
        while forgotten < max {
            let begun = self.sweep().list.take();
            let (list, mut keys) = match begun {
                Some(begun) => begun,
                None => match self.due(now).await? {
                    Some(due) => due,
                    None => break,
                },
            };
            let some = keys.split_off(keys.len().saturating_sub(max - forgotten));
            let forgets = some.iter().map(|key| self.forget(key, now)).collect::<Vec<_>>();
            let forgets = stream::iter(forgets).buffer_unordered(WIDTH);
            // After an error the list is read anew: it stays until all that is on it has been looked at.
            let over: Vec<bool> = forgets.try_collect().await?;
            forgotten += over.into_iter().filter(|over| *over).count();
            if keys.is_empty() {
                failpoint::hit("object.results.forgotten");
                self.objects.delete(&list, "forget results").await?;
            } else {
                self.sweep().list = Some((list, keys));
            }
        }
        Ok(forgotten)
    }

    /// Does nothing: no call leaves anything behind.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn folder(task: TaskId) -> String {
    format!("results/value/{:02x}/{task}", task.as_bytes()[15])
}

fn value_name(key: &ResultKey) -> String {
    format!("{}/{:016x}-{:016x}", folder(key.task), key.token.fence, key.token.nonce)
}

/// The name of a new list. Instants before 1970 are as good as 1970: both are over.
fn list_name(until: Timestamp) -> Result<String> {
    let millis = until.as_millis().max(0);
    let random: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("results/until/{:013}/{millis:019}-{random}", millis / HOUR))
}

fn until_of_list(name: &str) -> Timestamp {
    let millis = name.rsplit('/').next().and_then(|last| last.split('-').next());
    Timestamp::from_millis(millis.and_then(|millis| millis.parse().ok()).unwrap_or(0))
}

const KEY: usize = 32;

fn key_bytes(key: &ResultKey) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes[..16].copy_from_slice(key.task.as_bytes());
    bytes[16..24].copy_from_slice(&key.token.fence.to_be_bytes());
    bytes[24..].copy_from_slice(&key.token.nonce.to_be_bytes());
    bytes
}

fn keys_of(bytes: &[u8]) -> Vec<ResultKey> {
    let (keys, _) = bytes.as_chunks::<KEY>();
    let key = |key: &[u8; KEY]| {
        let number = |at: usize| {
            key[at..at + 8].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
        };
        let mut task = [0; 16];
        task.copy_from_slice(&key[..16]);
        let token = Token { fence: number(16), nonce: number(24) };
        ResultKey { task: TaskId::from_bytes(task), token }
    };
    keys.iter().map(key).collect()
}

// A value: the version of this form, until when it is kept, its format, a hash of all that, then the bytes.
const VERSION: u8 = 1;
const HEAD: usize = 10;
const HASH: usize = 16;

fn encode(value: &Payload, until: Timestamp) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD + HASH + value.bytes.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&until.as_millis().to_be_bytes());
    bytes.push(value.format.number());
    bytes.extend_from_slice(&hash(&bytes, &value.bytes));
    bytes.extend_from_slice(&value.bytes);
    bytes.into()
}

fn decode(bytes: &[u8]) -> Result<Payload, &'static str> {
    let (head, rest) = bytes.split_at_checked(HEAD).ok_or("it is too short")?;
    let (hashed, value) = rest.split_at_checked(HASH).ok_or("it is too short")?;
    if head[0] != VERSION {
        return Err("it was written by a newer version of OmniQ");
    }
    if hash(head, value) != hashed {
        return Err("its bytes are not those that were written");
    }
    Ok(Payload { format: Format::from_number(head[HEAD - 1]), bytes: value.to_vec() })
}

fn hash(head: &[u8], value: &[u8]) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(value);
    let mut hash = [0; HASH];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..HASH]);
    hash
}

/// Until when a value is kept; `None` for one that is damaged.
fn until_of(head: &[u8]) -> Option<Timestamp> {
    let millis = head.get(1..9)?.try_into().ok()?;
    Some(Timestamp::from_millis(i64::from_be_bytes(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_changed_is_not_given_out() {
        let value = Payload::cbor([1, 2, 3]);
        let bytes = encode(&value, Timestamp::from_millis(i64::MAX));
        assert_eq!(decode(&bytes), Ok(value));
        for index in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[index] ^= 1;
            assert!(decode(&changed).is_err(), "byte {index}");
            assert!(decode(&bytes[..index]).is_err(), "only {index} bytes");
        }
    }

    #[tokio::test]
    async fn a_value_without_any_bytes_is_forgotten_and_stops_nothing() {
        let clock = crate::ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        let memory = Arc::new(object_store::memory::InMemory::new());
        let root = Root::of(memory, object_store::path::Path::default(), "memory");
        let results = ObjectResults::new(root, Arc::new(clock.clone()));
        let key = |name: &[u8]| {
            let token = Token { fence: 1, nonce: 1 };
            ResultKey { task: TaskId::derived(&[name]), token }
        };
        let keys = [key(b"whole"), key(b"empty")];
        let ttl = Duration::from_secs(1);
        let staged =
            keys.map(|key| StagedResult { key, value: Payload::raw(*b"v"), ttl: ttl.into() });
        results.put(staged.to_vec()).await.unwrap();
        results.objects.replace(&value_name(&keys[1]), Bytes::new(), "test").await.unwrap();
        clock.advance(ttl);
        assert_eq!(results.purge(10).await.unwrap(), 2);
        assert_eq!(results.get(&keys).await.unwrap(), [None, None]);
        assert_eq!(results.purge(10).await.unwrap(), 0, "its list is gone, too");
    }

    #[test]
    fn lists_sort_by_their_time_and_give_back_their_keys() {
        let names = [0, 1, HOUR - 1, HOUR, i64::MAX].map(Timestamp::from_millis);
        let names = names.map(|until| (list_name(until).unwrap(), until));
        assert!(names.is_sorted());
        for (name, until) in names {
            assert_eq!(until_of_list(&name), until);
        }
        let token = Token { fence: u64::MAX, nonce: 1 << 63 };
        let key = ResultKey { task: TaskId::derived(&[b"t"]), token };
        assert_eq!(keys_of(&key_bytes(&key)), [key]);
        assert_eq!(keys_of(&[0; KEY + 1]).len(), 1, "what is torn off is left out");
    }
}
