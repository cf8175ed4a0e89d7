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

fn main() -> ExitCode {
    command::run()
}
