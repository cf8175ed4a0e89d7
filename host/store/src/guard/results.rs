//! The guard in front of a store of results.

use async_trait::async_trait;
use omniq_model::{Payload, TaskId};

use super::{Guarded, eager, long, patient};
use crate::{Result, ResultKey, ResultStore, StagedResult};

#[async_trait]
impl ResultStore for Guarded<dyn ResultStore> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        self.guard.call(patient("keep results"), self.inner.put(results)).await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        self.guard.call(eager("read results"), self.inner.get(keys)).await
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        self.guard.call(long("forget results"), self.inner.remove(tasks)).await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.guard.call(long("forget old results"), self.inner.purge(max)).await
    }

    async fn close(&self) -> Result<()> {
        self.guard.close(self.inner.close()).await
    }
}
