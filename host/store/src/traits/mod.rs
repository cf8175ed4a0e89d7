//! The promises: what a store of tasks, results, events or modules must do. [`Core`](crate::core::Core) defines them,
//! the conformance suite tests them.
//!
//! Calls take a batch and answer item by item, in order. Each may be repeated after an unknown outcome: what makes it
//! unique is in its arguments. Dropping a call's future leaves its outcome unknown, never half done.

mod admin;
mod events;
mod modules;
mod results;
mod tasks;

pub(crate) use admin::raised;
pub use admin::{
    Admin, CopyPage, FENCE_STEP, Imported, Layout, Report, Restored, Stats, TaskCopy, Weakness,
    WorkerSeen,
};
pub use events::{EventFilter, EventStore};
pub use modules::{ModuleStore, Pushed};
pub use results::{ResultKey, ResultStore, StagedResult};
pub use tasks::{
    Beat, Caps, Changes, Counts, Due, End, Enqueued, Filter, Finished, Fire, Fired, Held, How,
    Info, Interest, Lease, Moved, Outcome, Page, Refusal, Select, Session, TaskStore, Want,
    WorkerInfo, backend,
};
