//! NATS JetStream: tasks, results and modules on a server, or a cluster of them, that many processes share.
//!
//! A stream holds every command, and every process applies them all to a state machine of its own: the log is the store,
//! and what is in memory can be had from it again. Small values are in a key-value bucket, large ones in an object store.
//!
//! Good at: speed over the network, since a message carries a whole batch; wake-ups, which the server pushes; a cluster
//! that survives the loss of servers. Bad at: memory, as each process holds a record of every task, about one kilobyte
//! each; start-up, which reads an image of them all. Limits: memory; one stream, so one server leads. Servers from 2.10 on.
//! `docs/nats.md` says what is where and how durable it is, decision 7 why it is so.

mod admin;
mod config;
mod connect;
mod engine;
mod entry;
mod fault;
mod floor;
mod follow;
mod image;
mod modules;
mod results;
mod send;
mod state;
mod tasks;
mod values;

pub use config::{Config, Login};
pub use floor::Floor;
pub use modules::NatsModules;
pub use results::NatsResults;
pub use tasks::NatsTasks;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A number that no other process gives: the standard library seeds its hash maps from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number from 0 to 1, to spread attempts in time.
fn roll() -> f64 {
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}
