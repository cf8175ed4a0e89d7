//! Redis and Valkey: tasks, results and modules in the memory of a server that writes down what it does.
//!
//! **Good at:** many small tasks by many processes on many machines, with a server that is there already. A worker hears of
//! a task within a millisecond. Redis 6.2 and newer, every Valkey, alone or in a cluster.
//!
//! **Bad at:** backlogs larger than the server's memory: everything that waits is in it. Copies of a server follow it a
//! moment later: a failover may lose the latest calls, and what was lost of them runs again.
//!
//! **Limits:** one store is one hash slot, so that in a cluster it is on one node; several stores, each with a name of its
//! own, are spread over the nodes. One task or result up to 512 MiB by the server's own limit.
//!
//! How it works is in `docs/redis.md`. Whatever changes something is a script (`script`, `lua/`), which the server runs as
//! one; calls that queue while others are under way go together (`batch`), a bounded number of tasks in each script.

mod admin;
mod batch;
mod check;
mod claim;
mod config;
mod control;
mod fault;
mod filter;
mod floor;
mod link;
mod migrate;
mod modules;
mod probe;
mod read;
mod reply;
mod results;
mod schedule;
mod script;
mod server;
mod session;
mod tasks;
mod time;
mod watch;
mod wire;

pub use config::Config;
pub use floor::Floor;
pub use modules::RedisModules;
pub use results::RedisResults;
pub use tasks::RedisTasks;
