//! `omniq dlq`: tasks that have failed for good, which are kept until somebody retries or forgets them.

use omniq_model::State;

use super::task::{self, Act, BulkArgs, ListArgs};
use crate::output::value::Format as ErrorFormat;
use crate::settings::SettingArgs;

/// Look at tasks that have failed for good (the dead letter queue), and retry them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Tasks of other states are left alone here, even by their ids: `omniq task` is for those."
)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them, the newest first
    List(ListArgs),
    /// Make them ready again, with fresh budgets
    Retry(BulkArgs),
    /// Forget them
    Rm(BulkArgs),
}

impl DlqArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        match &self.command {
            Command::List(args) => args.error_format(),
            Command::Retry(args) | Command::Rm(args) => args.error_format(),
        }
    }
}

pub fn run(args: &DlqArgs, settings: &SettingArgs) -> super::Result {
    let failed = &[State::Failed];
    match &args.command {
        Command::List(args) => task::list(args, failed, settings),
        Command::Retry(args) => task::run_bulk(Act::Retry, args, failed, settings),
        Command::Rm(args) => task::run_bulk(Act::Remove, args, failed, settings),
    }
}
