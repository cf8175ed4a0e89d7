//! SQLite: tasks, results, events and modules in files, without a server. The default.
//!
//! **Good at:** one machine. Nothing to set up, a commit on the disk in a fraction of a millisecond, tens of thousands of
//! tasks a second, a history of millions that costs claims nothing. Several processes may use a file at the same time, and
//! an application may enqueue inside its own transactions on it ([`SqliteTasks::enqueue_in`]).
//!
//! **Bad at:** several machines: the file must be on a local disk, never on a network file system. One writer at a time:
//! processes that write to one file take turns.
//!
//! **Limits:** one task or result up to 1 GB by SQLite's own limit, and several of 16 MiB in one call are fine. Filters by
//! labels read the tasks they look at. A transaction that an application leaves open stops every writer of the file.
//!
//! How it works is in `docs/sqlite.md`. One thread writes (`writer`); it takes what was asked for while the last commit
//! ran, decides in memory (`plan`) and writes with a few statements, however many tasks there are.

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
mod leased;
mod live;
mod migrate;
mod modules;
mod names;
mod pack;
mod plan;
mod read;
mod results;
mod schedule;
mod session;
mod space;
mod stir;
mod tasks;
mod time;
mod tx;
mod writer;

pub use config::Config;
pub use events::SqliteEvents;
pub use floor::Floor;
pub use modules::SqliteModules;
pub use results::SqliteResults;
pub use tasks::SqliteTasks;
