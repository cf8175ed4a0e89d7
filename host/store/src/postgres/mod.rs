//! PostgreSQL: tasks, results, events and modules in a schema of a database, for many workers on many machines.
//!
//! **Good at:** sharing. Any number of processes work on one queue at the same time, without waiting for each other; an
//! application enqueues inside its own transactions ([`PostgresTasks::enqueue_in`]), from any language
//! (`select omniq.enqueue(…)`); backups, replication and monitoring are those that are there anyway. Tens of thousands of tasks
//! a second, whatever is waiting and whatever the planner believes.
//!
//! **Bad at:** being looked after by nobody: a transaction that is left open for minutes keeps the server from cleaning up,
//! and everything gets slower until it ends. It is told of then.
//!
//! **Limits:** one task or result up to about 500 MB; servers from version 13 on. Filters by labels read the tasks they look
//! at. Within a lane tasks are claimed in the order of arrival; those that several claim at the same time may overtake each
//! other by a batch.
//!
//! How it works is in `docs/postgres.md`. Calls that come in crowds go together (`batch`) and take one round trip
//! (`schema/0002_functions.sql`); everything else locks what it looks at, decides in memory (`plan`) and writes with a few
//! statements, however many tasks there are.

mod admin;
mod batch;
mod claim;
mod command;
mod config;
mod control;
mod copy;
mod database;
mod enqueue;
mod events;
mod fault;
mod filter;
mod finish;
mod floor;
mod health;
mod listen;
mod live;
mod migrate;
mod modules;
mod names;
mod plan;
mod pool;
mod read;
mod results;
mod schedule;
mod session;
mod sql;
mod start;
mod tasks;
mod time;
mod tx;
mod watch;

pub use config::Config;
pub use events::PostgresEvents;
pub use floor::Floor;
pub use health::HeldSnapshot;
pub use modules::PostgresModules;
pub use results::PostgresResults;
pub use tasks::PostgresTasks;
