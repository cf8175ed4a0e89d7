//! A bucket in the memory of this process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmtime_wasi::async_trait;

use super::{Bucket, BucketError};

/// How much a bucket in memory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketLimits {
    /// Bytes of a key. Default 512.
    pub key: usize,
    /// Bytes of a value. Default 1 MiB.
    pub value: usize,
    /// Keys. Default 10 000.
    pub keys: usize,
    /// Bytes of all keys and values together. Default 64 MiB.
    pub total: usize,
}

impl Default for BucketLimits {
    fn default() -> Self {
        Self { key: 512, value: 1 << 20, keys: 10_000, total: 64 << 20 }
    }
}

/// Keeps values until it is dropped.
#[derive(Debug, Default)]
pub struct MemoryBucket {
    limits: BucketLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    values: BTreeMap<String, Vec<u8>>,
    /// Bytes of all keys and values together.
    total: usize,
}

impl MemoryBucket {
    /// An empty bucket that holds no more than `limits`.
    pub fn new(limits: BucketLimits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    /// No holder of the lock leaves a change half done, so a panic of one does no harm.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, held: &mut Held, key: &str, value: Vec<u8>) -> Result<(), BucketError> {
        let Self { limits, .. } = self;
        if key.len() > limits.key {
            return Err(too_much("the key has", key.len(), limits.key, "bytes"));
        }
        if value.len() > limits.value {
            return Err(too_much("the value has", value.len(), limits.value, "bytes"));
        }
        let old = held.values.get(key);
        let total = match old {
            Some(old) => held.total - old.len() + value.len(),
            None if held.values.len() >= limits.keys => {
                return Err(too_much("the bucket holds", held.values.len(), limits.keys, "keys"));
            }
            None => held.total + key.len() + value.len(),
        };
        if total > limits.total {
            return Err(too_much("the bucket would hold", total, limits.total, "bytes"));
        }
        held.total = total;
        held.values.insert(key.to_owned(), value);
        Ok(())
    }
}

fn too_much(what: &str, amount: usize, limit: usize, unit: &str) -> BucketError {
    BucketError(format!("{what} {amount} {unit}; the limit is {limit}"))
}

#[async_trait]
impl Bucket for MemoryBucket {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        Ok(self.held().values.get(key).cloned())
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), BucketError> {
        self.put(&mut self.held(), key, value)
    }

    async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let mut held = self.held();
        if let Some(value) = held.values.remove(key) {
            held.total -= key.len() + value.len();
        }
        Ok(())
    }

    async fn exists(&self, key: &str) -> Result<bool, BucketError> {
        Ok(self.held().values.contains_key(key))
    }

    async fn keys(&self, after: Option<&str>, most: usize) -> Result<Vec<String>, BucketError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let held = self.held();
        Ok(held
            .values
            .range::<str, _>((start, Bound::Unbounded))
            .take(most)
            .map(|(key, _)| key.clone())
            .collect())
    }

    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError> {
        let mut held = self.held();
        let number = match held.values.get(key) {
            None => 0,
            Some(value) => str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| BucketError("the value is no whole number of 64 bits".to_owned()))?,
        };
        let sum = number
            .checked_add(by)
            .ok_or_else(|| BucketError("the sum does not fit in 64 bits".to_owned()))?;
        self.put(&mut held, key, sum.to_string().into_bytes())?;
        Ok(sum)
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<bool, BucketError> {
        let mut held = self.held();
        if held.values.get(key).map(Vec::as_slice) != expected {
            return Ok(false);
        }
        self.put(&mut held, key, value)?;
        Ok(true)
    }
}
