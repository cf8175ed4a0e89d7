//! The result store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use omniq_model::{Payload, TaskId, Timestamp, Token};

use super::lock;
use crate::{Clock, Result, ResultKey, ResultStore, StagedResult};

/// Results in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryResults {
    kept: Arc<Mutex<Kept>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Kept {
    results: BTreeMap<ResultKey, (Payload, Timestamp)>,
    /// By when they are forgotten.
    until: BTreeSet<(Timestamp, ResultKey)>,
}

impl Kept {
    fn forget(&mut self, key: &ResultKey) {
        if let Some((_, until)) = self.results.remove(key) {
            self.until.remove(&(until, *key));
        }
    }

    fn of_task(&self, task: TaskId) -> Vec<ResultKey> {
        let key = |bound| ResultKey { task, token: Token { fence: bound, nonce: bound } };
        self.results.range(key(0)..=key(u64::MAX)).map(|(key, _)| *key).collect()
    }
}

impl MemoryResults {
    /// An empty store whose time is that of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { kept: Arc::default(), clock }
    }
}

#[async_trait]
impl ResultStore for MemoryResults {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        let mut kept = lock(&self.kept)?;
        let now = self.clock.now();
        for StagedResult { key, value, ttl } in results {
            if !kept.results.contains_key(&key) {
                let until = now + ttl.get();
                kept.until.insert((until, key));
                kept.results.insert(key, (value, until));
            }
        }
        Ok(())
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        let kept = lock(&self.kept)?;
        let value = |key| kept.results.get(key).map(|(value, _)| value.clone());
        Ok(keys.iter().map(value).collect())
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        let mut kept = lock(&self.kept)?;
        for key in tasks.iter().flat_map(|task| kept.of_task(*task)).collect::<Vec<_>>() {
            kept.forget(&key);
        }
        Ok(())
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        let mut kept = lock(&self.kept)?;
        let now = self.clock.now();
        let over = kept.until.iter().take_while(|(until, _)| *until <= now);
        let over: Vec<ResultKey> = over.take(max).map(|(_, key)| *key).collect();
        over.iter().for_each(|key| kept.forget(key));
        Ok(over.len())
    }

    /// Does nothing: the results live as long as somebody holds the store.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
