//! Files and object stores: everything in a folder, or under a prefix of a bucket, without any server but the bucket's.
//!
//! What is kept where under the root: `tasks/` is the log of commands and the images of the state machine, `results/`,
//! `modules/` and `events/` are objects of their own. `docs/files.md` says how it works.

mod admin;
mod bucket;
#[cfg(feature = "cloud")]
mod cloud;
mod config;
pub mod events;
#[cfg(test)]
mod failing;
mod floor;
mod folder;
mod frame;
mod guest;
mod hub;
mod image_file;
mod inbox;
mod log_file;
mod meta;
mod modules;
mod objects;
mod results;
mod seat;
mod segment;
mod serve;
mod socket;
mod tasks;

pub use config::{Root, open};
pub use events::ObjectEvents;
pub use floor::{Floor, TaskFloor};
pub use modules::ObjectModules;
pub(crate) use objects::open as reach;
pub use results::ObjectResults;
pub use tasks::{Config, ObjectTasks};
