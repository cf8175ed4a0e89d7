//! The commands, one file each.

mod config;
mod help;
mod inspect;
mod run;

use std::env;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::Parser;
use omniq_sandbox::ENGINE_VERSION;

use crate::output::problem::Problem;
use crate::output::value::Format;
use crate::settings::SettingArgs;

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (wasmtime {ENGINE_VERSION})", env!("CARGO_PKG_VERSION")));

/// Runs WebAssembly components as tasks: typed arguments in, typed results out, inside hard limits
#[derive(Debug, Parser)]
#[command(name = "omniq", version = VERSION.as_str(), disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Inspect(inspect::InspectArgs),
    Config(config::ConfigArgs),
    Help(help::HelpArgs),
}

/// Does what the command line says.
///
/// Ends the process with exit code 2 when it is not understood.
pub fn run() -> ExitCode {
    // What clap parses does not tell `omniq run FILE --` from `omniq run FILE`.
    let has_separator = env::args_os().any(|word| word == "--");
    let Cli { command, settings } = Cli::parse();
    // What needs no queue needs no setting but those of the log.
    let log = || settings.log_only();
    let (result, format) = match command {
        Command::Run(args) => (log().and_then(|()| run::run(&args, has_separator)), args.format()),
        Command::Inspect(args) => (log().and_then(|()| inspect::run(&args)), args.format()),
        Command::Config(args) => (config::run(&args, &settings), args.format()),
        Command::Help(args) => (help::run(&args), Format::Wave),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            problem.show(format);
            problem.exit_code()
        }
    }
}

type Result = std::result::Result<(), Problem>;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
