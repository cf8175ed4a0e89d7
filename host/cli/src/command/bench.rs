//! `omniq bench`: what this machine does with OmniQ, beside what its bare parts do, and whether that is enough.

mod floors;
mod idle;
mod measure;
mod rig;
mod row;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use omniq_model::Kind;

use crate::output::console;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use measure::Bench;
use row::Row;
use target::Target;

/// Measure how fast tasks are accepted, run and answered here
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub struct BenchArgs {
    /// What to measure; without any, all of it
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Only see that everything runs, with sizes too small for the figures to mean much
    #[arg(long)]
    quick: bool,
    /// The backend that is measured, by its URL, each time in a place of its own beside what is there [default: SQLite]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Tasks of each measurement
    #[arg(long, value_name = "TASKS", default_value_t = 400_000)]
    tasks: usize,
    /// How many tasks wait for the part `backlog`
    #[arg(long, value_name = "TASKS", default_value_t = 1_000_000)]
    waiting: usize,
    /// How many tasks have ended for the part `history`
    #[arg(long, value_name = "TASKS", default_value_t = 5_000_000)]
    history: usize,
    /// Where the files are made that are measured; they are removed afterwards. Default: the current folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How the figures are written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    format: Format,
}

const NOTES: &str = "Every figure stands beside a floor that was measured in the same run: a bare loop over the same
sandbox, or over the backend's client with batches of many and the same durability. A ratio of 1 is as fast as the floor. A
loop of tasks keeps what no queue can do without there, a loop of rows moves one small row between three states.
With --url only what that backend does is measured, without `memory` and `history` unless they are named; what was put on a
server stays there, under names that begin with omniq_bench. The whole takes some minutes and some gigabytes, most of it for `history`. Leave the machine alone meanwhile.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Enqueue, run and result in memory
    Memory,
    /// Many tasks enqueued at once
    Bulk,
    /// 64 callers that enqueue one task at a time
    Single,
    /// Waiting tasks run
    Drain,
    /// The same with very many waiting
    Backlog,
    /// The same with very many that have ended
    History,
    /// From enqueue to result, and the processor, while the queue is idle
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One array of objects
    Json,
}

/// How much of each is measured.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Tasks of each measurement.
    tasks: usize,
    /// How many wait where few are to.
    few: usize,
    /// How many wait where many are to.
    waiting: usize,
    /// How many have ended where many are to.
    history: usize,
    /// Latencies that are measured.
    latencies: usize,
    /// How long the idle worker is watched.
    idle: Duration,
}

impl BenchArgs {
    fn sizes(&self) -> Sizes {
        if self.quick {
            let idle = Duration::from_secs(1);
            return Sizes {
                tasks: 2_000,
                few: 500,
                waiting: 5_000,
                history: 5_000,
                latencies: 10,
                idle,
            };
        }
        let tasks = self.tasks.max(1);
        Sizes {
            tasks,
            few: tasks.min(10_000),
            waiting: self.waiting.max(1),
            history: self.history,
            latencies: 300,
            idle: Duration::from_secs(20),
        }
    }

    /// How a failure is written.
    pub fn error_format(&self) -> ErrorFormat {
        match self.format {
            Format::Table => ErrorFormat::Wave,
            Format::Json => ErrorFormat::Json,
        }
    }

    fn wants(&self, part: Part) -> bool {
        let is_default = self.url.is_none() || !matches!(part, Part::Memory | Part::History);
        if self.parts.is_empty() { is_default } else { self.parts.contains(&part) }
    }

    fn target(&self) -> Result<Target> {
        self.url.as_deref().map_or_else(|| Ok(Target::sqlite()), Target::of_url)
    }
}

/// Measures and prints.
pub fn run(args: &BenchArgs) -> super::Result {
    if cfg!(debug_assertions) {
        console::warning("this is a debug build; its figures say nothing about a release");
    }
    let target = args.target().map_err(|error| Problem::new(Kind::Usage, error.to_string()))?;
    let rows =
        measured(args, &target).map_err(|error| Problem::new(Kind::Host, format!("{error:#}")))?;
    let text = match args.format {
        Format::Table => row::table(&rows),
        Format::Json => serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n",
    };
    if let Some(what) = target.leftovers() {
        console::note(&format!(
            "what was measured is still there: {what} whose names begin with `omniq_bench_{}_`\n",
            std::process::id()
        ));
    }
    write_stdout(text.as_bytes())
}

fn measured(args: &BenchArgs, target: &Target) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("no runtime could be started")?;
    let root = args.folder.clone().unwrap_or_else(|| PathBuf::from("."));
    let folder = tempfile::Builder::new().prefix("omniq-bench-").tempdir_in(&root);
    let folder = folder.with_context(|| {
        format!("no folder can be made in `{}`; name another with `--folder`", root.display())
    })?;
    runtime.block_on(async {
        let mut bench = Bench::new(args.sizes(), folder.path(), target.clone());
        for part in Part::value_variants().iter().filter(|part| args.wants(**part)) {
            bench.measure(*part).await?;
        }
        Ok(bench.finish())
    })
}
