//! The binary `omniq`: start-up only. What it can do is in [`command`], what it shows in [`output`].

mod command;
mod component;
mod engine;
mod interrupt;
mod job;
mod logging;
mod option;
mod output;
mod queue;
mod settings;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A task is made by one thread, run by another and ended by a third: freeing what another thread allocated is what this
/// allocator is quick at.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    command::run()
}
