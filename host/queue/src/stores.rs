//! The stores a queue works on: four independent choices.

use std::sync::Arc;

use omniq_store::{EventStore, ModuleStore, ResultStore, TaskStore};

/// Open stores, shared by everything in a process that works on them.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Where tasks live.
    pub tasks: Arc<dyn TaskStore>,
    /// Where results live that are not kept with their task; `None`: all are.
    pub results: Option<Arc<dyn ResultStore>>,
    /// Where events live; `None`: none are kept.
    pub events: Option<Arc<dyn EventStore>>,
    /// Where modules live.
    pub modules: Arc<dyn ModuleStore>,
    /// Results of at most so many bytes are kept in their task's record, whatever the result store.
    pub inline_max: usize,
}
