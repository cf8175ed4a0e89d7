//! The guard in front of a store of events.

use async_trait::async_trait;
use omniq_model::{TaskEvent, TaskId, Timestamp};

use super::{Guarded, eager, long};
use crate::{EventFilter, EventStore, Result};

#[async_trait]
impl EventStore for Guarded<dyn EventStore> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn append(&self, events: Vec<TaskEvent>) -> Result<()> {
        self.guard.call(eager("keep events"), self.inner.append(events)).await
    }

    async fn query(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, TaskEvent)>> {
        self.guard.call(long("read events"), self.inner.query(filter, after, max)).await
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<usize> {
        self.guard.call(long("forget old events"), self.inner.purge(before, max)).await
    }

    async fn watermark(&self) -> Result<(Timestamp, TaskId)> {
        self.guard.call(eager("read the watermark"), self.inner.watermark()).await
    }

    async fn set_watermark(&self, mark: (Timestamp, TaskId)) -> Result<()> {
        self.guard.call(eager("move the watermark"), self.inner.set_watermark(mark)).await
    }

    async fn close(&self) -> Result<()> {
        self.guard.close(self.inner.close()).await
    }
}
