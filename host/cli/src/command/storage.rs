//! `omniq storage`: the stores themselves: what they are and promise, how full they are, their layout, and how a queue goes
//! from one to another.

mod check;
mod copy;
pub mod look;
mod migrate;
mod restored;
mod stats;

use super::push::AnswerArgs;
use crate::output::value::Format as ErrorFormat;
use crate::settings::SettingArgs;

/// Look after the stores: what they promise, how full they are, and how a queue moves to others
#[derive(Debug, clap::Args)]
pub struct StorageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Open every store, and say what it is, what it promises, and what of that is weaker than asked for
    Check(AnswerArgs),
    /// Say how many tasks stand where, who works on them, how far back the history goes and how large it is
    Stats(AnswerArgs),
    /// Bring the stores to this version's layout
    Migrate(migrate::MigrateArgs),
    /// Say that the tasks were put back from a backup: no lease of before counts any more
    Restored(restored::RestoredArgs),
    /// Copy a whole queue to other stores: modules, schedules, tasks of every state, results and events
    Copy(Box<copy::CopyArgs>),
}

impl StorageArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        match &self.command {
            Command::Check(args) | Command::Stats(args) => args.format.of_errors(),
            Command::Migrate(args) => args.format(),
            Command::Restored(args) => args.format(),
            Command::Copy(args) => args.format(),
        }
    }
}

pub fn run(args: &StorageArgs, settings: &SettingArgs) -> super::Result {
    match &args.command {
        Command::Check(args) => check::run(args, settings),
        Command::Stats(args) => stats::run(args, settings),
        Command::Migrate(args) => migrate::run(args, settings),
        Command::Restored(args) => restored::run(args, settings),
        Command::Copy(args) => copy::run(args, settings),
    }
}
