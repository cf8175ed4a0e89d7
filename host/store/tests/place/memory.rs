//! A place in this process's memory: opening it again gives the same stores.

use std::sync::Arc;

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_store::ManualClock;
use omniq_store::memory::{MemoryEvents, MemoryModules, MemoryResults, MemoryTasks};

/// Makes places in memory.
#[derive(Debug)]
pub struct Memory;

#[async_trait]
impl Factory for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        Arc::new(MemoryPlace(Stores {
            tasks: Arc::new(MemoryTasks::new(Arc::new(clock.clone()))),
            results: Some(Arc::new(MemoryResults::new(Arc::new(clock)))),
            events: Some(Arc::new(MemoryEvents::new())),
            modules: Some(Arc::new(MemoryModules::new())),
        }))
    }
}

#[derive(Debug)]
struct MemoryPlace(Stores);

#[async_trait]
impl Place for MemoryPlace {
    async fn open(&self) -> Stores {
        self.0.clone()
    }
}
