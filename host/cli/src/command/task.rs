//! `omniq task`: look at tasks, and act on one or on all that fit a filter.

mod bulk;

use omniq::{Filter, Queue, parse_filter};
use omniq_model::State;
use serde_json::{Map, Value, json};

use super::push::Format as TextOrJson;
use super::result::module_of;
use crate::output::problem::{Problem, write_stdout};
use crate::output::table::table;
use crate::output::tasks::{self, TaskBody};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence, TaskRef};
use crate::settings::{SettingArgs, StoreArgs};

pub use bulk::{Act, BulkArgs, run as run_bulk};

/// Look at tasks, and act on one or on many
#[derive(Debug, clap::Args)]
#[command(visible_alias = "tasks", after_help = FILTERS)]
pub struct TaskArgs {
    #[command(subcommand)]
    command: Command,
}

/// What a filter is.
pub const FILTERS: &str = "Filters:
  state:failed,expired   also `pending`, `running`, `success`, `error`; `-state:…` means any other
  queue:NAME  module:NAME  function:FULL-NAME  tenant:NAME  label.KEY:VALUE
  age:<1h  age:>2d       arrived in the last hour; more than two days ago
All parts must fit. A filter that begins with `-` goes after `--`: `omniq task list -- -state:succeeded`.
Ids are written whole or by their last eight digits.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List tasks, the newest first
    List(ListArgs),
    /// Show one task in full
    Show(ShowArgs),
    /// Call tasks off: those that wait at once, those that run are stopped
    Cancel(BulkArgs),
    /// Make tasks ready again that have failed, were cancelled or expired
    Retry(BulkArgs),
    /// Forget tasks that have ended, with their results
    Rm(BulkArgs),
    /// Count tasks by their state
    Count(CountArgs),
}

/// How tasks are listed.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Which tasks, such as `state:failed queue:media`; without any, all
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// How they are written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One array of objects; failures are written to stdout as well
    Json,
    /// One object on each line
    Jsonl,
    /// The ids alone, one on each line
    Id,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The task's id, or the last eight digits of it
    task: TaskRef,
    /// How it is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: TextOrJson,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, clap::Args)]
struct CountArgs {
    /// Which tasks; without any, all
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// How the numbers are written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: TextOrJson,
    #[command(flatten)]
    store: StoreArgs,
}

impl ListArgs {
    /// How failures are written.
    pub fn error_format(&self) -> ErrorFormat {
        match self.format {
            Format::Json | Format::Jsonl => ErrorFormat::Json,
            Format::Table | Format::Id => ErrorFormat::Wave,
        }
    }
}

impl TaskArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        match &self.command {
            Command::List(args) => args.error_format(),
            Command::Show(args) => args.format.of_errors(),
            Command::Count(args) => args.format.of_errors(),
            Command::Cancel(args) | Command::Retry(args) | Command::Rm(args) => args.error_format(),
        }
    }
}

pub fn run(args: &TaskArgs, settings: &SettingArgs) -> super::Result {
    match &args.command {
        Command::List(args) => list(args, &[], settings),
        Command::Show(args) => show(args, settings),
        Command::Count(args) => count(args, settings),
        Command::Cancel(args) => bulk::run(Act::Cancel, args, &[], settings),
        Command::Retry(args) => bulk::run(Act::Retry, args, &[], settings),
        Command::Rm(args) => bulk::run(Act::Remove, args, &[], settings),
    }
}

/// Lists tasks; `states` narrows the filter down.
pub fn list(args: &ListArgs, states: &[State], settings: &SettingArgs) -> super::Result {
    queue::with(settings, &args.store, Presence::Required, async |queue| {
        let filter = filter_of(&queue, &args.filter, states).await?;
        write_list(&queue, &filter, args).await
    })
}

/// The tasks that words mean, narrowed down to `states` unless there are none of them.
pub async fn filter_of(
    queue: &Queue,
    words: &[String],
    states: &[State],
) -> Result<Filter, Problem> {
    let now = queue.stores().tasks.now().await.map_err(omniq::Error::from)?;
    let mut filter = parse_filter(&words.join(" "), now).map_err(omniq::Error::from)?;
    if filter.states.is_empty() {
        filter.states = states.to_vec();
    } else if !states.is_empty() {
        filter.states.retain(|state| states.contains(state));
        if filter.states.is_empty() {
            let text = format!(
                "no task fits `{}`: this command is about {}",
                words.join(" "),
                named(states)
            );
            let problem = Problem::new(omniq_model::Kind::Usage, text);
            return Err(problem.hint("`omniq task` has the same for tasks of every state"));
        }
    }
    Ok(filter)
}

/// Tasks of these states, in words.
fn named(states: &[State]) -> String {
    let names: Vec<_> = states.iter().map(|state| state.name()).collect();
    format!("tasks whose state is {}", names.join(" or "))
}

async fn write_list(queue: &Queue, filter: &Filter, args: &ListArgs) -> super::Result {
    const PAGE: usize = 1000;
    let now = tasks::now();
    let (mut left, mut before) = (args.limit, None);
    let mut all = Vec::new();
    while left > 0 {
        let page = queue.list(filter, before, left.min(PAGE)).await?;
        left -= page.items.len().min(left);
        before = page.next;
        match args.format {
            Format::Table | Format::Json => all.extend(page.items),
            // Written as it comes: such a list may be longer than memory.
            Format::Jsonl => {
                let mut text = String::new();
                for info in &page.items {
                    text += &line_of(queue, info).await?;
                    text.push('\n');
                }
                write_stdout(text.as_bytes())?;
            }
            Format::Id => {
                let ids: String = page.items.iter().map(|info| format!("{}\n", info.id)).collect();
                write_stdout(ids.as_bytes())?;
            }
        }
        if before.is_none() {
            break;
        }
    }
    match args.format {
        Format::Table => {
            if before.is_some() {
                crate::output::console::note("note: there are more; see `--limit`\n");
            }
            write_stdout(tasks::lines(&all, now).as_bytes())
        }
        Format::Json => {
            let mut lines = Vec::new();
            for info in &all {
                lines.push(line_of(queue, info).await?);
            }
            write_stdout(format!("[{}]\n", lines.join(",")).as_bytes())
        }
        Format::Jsonl | Format::Id => Ok(()),
    }
}

async fn line_of(queue: &Queue, info: &omniq::Info) -> Result<String, Problem> {
    // Looked up for each, and found in the queue's memory after the first.
    let module = module_of(queue, info).await;
    serde_json::to_string(&TaskBody::of(info, module.as_ref()))
        .map_err(|error| Problem::new(omniq_model::Kind::Host, error.to_string()))
}

fn show(args: &ShowArgs, settings: &SettingArgs) -> super::Result {
    queue::with(settings, &args.store, Presence::Required, async |queue| {
        let id = args.task.find(&queue).await?;
        let info = queue.handle(id).info().await?;
        let text = match args.format {
            TextOrJson::Text => {
                tasks::full(&info, module_of(&queue, &info).await.as_ref(), tasks::now())
            }
            TextOrJson::Json => line_of(&queue, &info).await? + "\n",
        };
        write_stdout(text.as_bytes())
    })
}

fn count(args: &CountArgs, settings: &SettingArgs) -> super::Result {
    queue::with(settings, &args.store, Presence::Required, async |queue| {
        let filter = filter_of(&queue, &args.filter, &[]).await?;
        let counts = queue.count(&filter).await?;
        let total: u64 = counts.values().sum();
        let of = |state: &State| counts.get(state).copied().unwrap_or(0);
        let text = match args.format {
            TextOrJson::Text => {
                let rows = State::ALL.iter().filter(|state| of(state) > 0);
                let rows = rows.map(|state| [state.name().to_owned(), of(state).to_string()]);
                table(["STATE", "TASKS"], rows.chain([[String::from("all"), total.to_string()]]))
            }
            TextOrJson::Json => {
                let entry = |state: &State| (state.name().to_owned(), Value::from(of(state)));
                let states: Map<_, _> = State::ALL.iter().map(entry).collect();
                format!("{}\n", json!({ "total": total, "states": states }))
            }
        };
        write_stdout(text.as_bytes())
    })
}
