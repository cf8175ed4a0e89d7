//! A schedule: when tasks are to be made, and which. The next instant is worked out by whoever fires it.

use serde::{Deserialize, Serialize};

use crate::id::{Name, TaskId};
use crate::record::{numbered, record};
use crate::task::Task;
use crate::time::{Span, Timestamp};

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timing {
    /// Every so often.
    #[serde(rename = "e")]
    Every(Span),
    /// By a cron expression of 5 or 6 fields, or a name such as `@daily`, in the schedule's time zone.
    #[serde(rename = "c")]
    Cron(String),
    /// Once.
    #[serde(rename = "a")]
    At(Timestamp),
}

numbered! {
    /// What becomes of instants that were missed, since nothing ran or the schedule was paused.
    #[derive(Default)]
    pub enum Missed {
        /// They are skipped.
        Skip = 0 "skip",
        /// The last one fires.
        #[default]
        Last = 1 "last",
        /// All fire, up to a cap.
        All = 2 "all",
    }
}

record! {
    /// When tasks are to be made, and which.
    pub struct Schedule {
        /// Whose.
        1 => tenant: Name = default,
        /// Its name, unique within the tenant.
        2 => name: Name,
        /// When it fires.
        3 => timing: Timing,
        /// The IANA name of its time zone; empty: UTC.
        4 => zone: String = default,
        /// What becomes of missed instants.
        5 => missed: Missed = default,
        /// The task it makes; its id is replaced by one that follows from the schedule and the instant.
        6 => task: Task,
        /// Since when it is paused.
        7 => paused: Option<Timestamp> = default,
        /// When it fires next; `None`: never again.
        8 => next: Option<Timestamp> = default,
        /// Goes up with every change; a change that saw an older one is refused.
        9 => version: u64 = default,
    }
}

impl Schedule {
    /// The id of the task that the firing of a schedule at `nominal` makes: always the same, so that it is made once.
    pub fn task_id(tenant: &Name, name: &Name, nominal: Timestamp) -> TaskId {
        TaskId::derived(&[
            b"schedule",
            tenant.as_str().as_bytes(),
            name.as_str().as_bytes(),
            &nominal.as_millis().to_be_bytes(),
        ])
    }
}
