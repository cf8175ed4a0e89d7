//! Workers on a store in memory, with real components.

mod bounds;
mod crash;
mod ends;
pub(super) mod flaky;
pub(super) mod kit;
mod lanes;
mod life;
mod module;
mod outage;
mod time;
