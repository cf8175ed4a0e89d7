//! `wasi:keyvalue`: values by key, in buckets that are granted by name.
//!
//! The proposal has no release; both drafts in use are served, from the same buckets: `0.2.0-draft` and `0.2.0-draft2`,
//! which added compare-and-swap. Where a bucket keeps its values is up to whoever grants it.

mod memory;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use wasmtime_wasi::async_trait;

pub use self::memory::{BucketLimits, MemoryBucket};
pub(crate) use self::serve::{Kept, link};

/// The buckets a guest may open, by name. Cheap to clone; clones give access to the same values.
#[derive(Debug, Clone, Default)]
pub struct Buckets(BTreeMap<String, Arc<dyn Bucket>>);

impl Buckets {
    /// No buckets at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants one bucket more, in place of one that had the same name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, bucket: impl Bucket) -> Self {
        self.0.insert(name.into(), Arc::new(bucket));
        self
    }

    /// The bucket of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Bucket>> {
        self.0.get(name)
    }
}

/// Keeps values by key. Calls come from any number of guests at once.
///
/// Whoever implements it bounds how long keys and values may be and how many there are. A guest may be stopped while it
/// waits, which drops the future: either the whole change is made or none of it.
#[async_trait]
pub trait Bucket: fmt::Debug + Send + Sync + 'static {
    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// The storage failed; so for every function here.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BucketError>;

    /// Sets the value of a key, whether or not it had one.
    ///
    /// # Errors
    /// The key or the value is too long, or there is no room.
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), BucketError>;

    /// Takes the value of a key away, if it had one.
    ///
    /// # Errors
    /// The storage failed.
    async fn delete(&self, key: &str) -> Result<(), BucketError>;

    /// Whether a key has a value.
    ///
    /// # Errors
    /// The storage failed.
    async fn exists(&self, key: &str) -> Result<bool, BucketError>;

    /// The first keys behind `after`, at most `most` of them, in the order of their bytes.
    ///
    /// # Errors
    /// The storage failed.
    async fn keys(&self, after: Option<&str>, most: usize) -> Result<Vec<String>, BucketError>;

    /// Adds to a value that is a number in decimal, and gives back the sum. A key without a value counts as zero.
    ///
    /// # Errors
    /// The value is no number, or the sum does not fit.
    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError>;

    /// Sets the value of a key if it is `expected` now, and says whether it was.
    ///
    /// # Errors
    /// As [`Self::set`].
    async fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<bool, BucketError>;
}

/// Why a bucket did not do what it was asked to, in words that the guest may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BucketError(pub String);
