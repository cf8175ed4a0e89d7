//! The commands, one file each.

mod bench;
mod config;
mod dev;
mod dlq;
mod doctor;
mod enqueue;
mod help;
mod inspect;
mod module;
mod push;
mod result;
mod run;
mod storage;
mod task;
mod worker;

use std::env;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::Parser;
use omniq_sandbox::ENGINE_VERSION;

use crate::logging;
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
    Dev(dev::DevArgs),
    Push(push::PushArgs),
    Module(module::ModuleArgs),
    Enqueue(Box<enqueue::EnqueueArgs>),
    Result(result::ResultArgs),
    Task(task::TaskArgs),
    Dlq(dlq::DlqArgs),
    Worker(worker::WorkerArgs),
    Storage(storage::StorageArgs),
    Doctor(doctor::DoctorArgs),
    Config(config::ConfigArgs),
    Bench(bench::BenchArgs),
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
        Command::Dev(args) => (dev::run(&args, &settings), Format::Wave),
        Command::Push(args) => (push::run(&args, &settings), args.format()),
        Command::Module(args) => (module::run(&args, &settings), args.format()),
        Command::Enqueue(args) => (enqueue::run(&args, &settings), args.format()),
        Command::Result(args) => (result::run(&args, &settings), args.format()),
        Command::Task(args) => (task::run(&args, &settings), args.format()),
        Command::Dlq(args) => (dlq::run(&args, &settings), args.format()),
        Command::Worker(args) => (worker::run(&args, &settings), Format::Wave),
        Command::Storage(args) => (storage::run(&args, &settings), args.format()),
        Command::Doctor(args) => (doctor::run(&args, &settings), args.format()),
        Command::Config(args) => (config::run(&args, &settings), args.format()),
        Command::Bench(args) => (log().and_then(|()| bench::run(&args)), args.error_format()),
        Command::Help(args) => (help::run(&args), Format::Wave),
    };
    logging::end();
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
