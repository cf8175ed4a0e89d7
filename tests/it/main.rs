//! What a user does, done to the real binary. One file per thing a user does; [`support`] runs the binary.

mod cli_config;
mod cli_inspect;
mod cli_mixed;
mod cli_queue;
mod cli_restored;
mod cli_run;
mod cli_storage;
mod cli_worker;
mod guests;
mod polyglot;
mod support;
