//! `omniq enqueue`: one task, or many from a stream of lines.

mod many;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use omniq::{NewTask, Queue, State, TaskHandle};
use omniq_model::Kind;
use omniq_sandbox::Limits;
use serde_json::json;

use super::result;
use crate::job::{self, Request};
use crate::option::policy::PolicyArgs;
use crate::option::quantity::Span;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ResultFormat;
use crate::queue::{self, Presence};
use crate::settings::{SettingArgs, StoreArgs};

/// Enqueue a call of a module's function, or a run of a command
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct EnqueueArgs {
    /// The module: the name it was pushed under, or `NAME@VERSION`; without a version the one pushed last
    module: String,
    /// The function to call, such as `add` or `calc.add`; leave it out to run a command
    function: Option<String>,
    /// Its arguments: WAVE text in order, `NAME=WAVE`, or `@FILE` for what a file holds
    #[arg(allow_negative_numbers = true, conflicts_with_all = ["json", "cbor", "ndjson"])]
    args: Vec<String>,
    /// Arguments of a command; after a FUNCTION, arguments that look like options
    #[arg(last = true, value_name = "ARGV")]
    rest: Vec<String>,
    /// The function's arguments as a JSON array or object, or `@FILE` that holds one
    #[arg(long = "args", value_name = "JSON", conflicts_with = "ndjson")]
    json: Option<String>,
    /// A file with the function's arguments in CBOR: an array, or a map by name
    #[arg(long = "args-cbor", value_name = "FILE", conflicts_with_all = ["json", "ndjson"])]
    cbor: Option<PathBuf>,
    /// A file with the standard input of a command, `-` for ours
    #[arg(long, value_name = "FILE", conflicts_with = "ndjson")]
    stdin: Option<PathBuf>,
    /// Many tasks: a file, `-` for stdin, with the arguments of one task on each line, in JSON
    #[arg(long, value_name = "FILE", requires = "function", conflicts_with = "wait")]
    ndjson: Option<PathBuf>,
    /// With `--ndjson`: a name for the whole, so that the same lines may be enqueued again and are kept once
    #[arg(long, value_name = "NAME", requires = "ndjson", value_parser = NonEmptyStringValueParser::new())]
    batch: Option<String>,
    /// Wait for the result and write that, for at most TIME if one is said
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "365d")]
    wait: Option<Span>,
    /// How the id or the result is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "wave")]
    format: ResultFormat,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "Examples:
  omniq enqueue add add 5 10 --wait
  omniq enqueue images thumbnail image=@cat.png width=200 --queue media --retries 5
  omniq enqueue jobs greet --args '{\"person\": {\"name\": \"Ada\"}}' --delay 5m
  omniq enqueue wordcount --stdin book.txt -- --lines
  seq 1000 | sed 's/.*/[&, 1]/' | omniq enqueue add add --ndjson -

Without `--wait` the task's id is written, one line; `omniq result ID --wait` waits for it later.
Exit codes: `omniq help exit-codes`";

impl EnqueueArgs {
    /// How failures are written.
    pub fn format(&self) -> ResultFormat {
        self.format
    }

    fn request(&self) -> Request {
        let limits = Limits::default();
        Request {
            function: self.function.clone(),
            words: self.args.clone(),
            rest: self.rest.clone(),
            has_separator: true,
            json: self.json.clone(),
            cbor: self.cbor.clone(),
            max_bytes: limits.args,
            timeout: Duration::from_secs(300),
            stdin_is_taken: false,
        }
    }
}

pub fn run(args: &EnqueueArgs, settings: &SettingArgs) -> super::Result {
    if args.format == ResultFormat::Cbor && args.wait.is_none() {
        let problem = Problem::new(Kind::Usage, "`-o cbor` is a form of results, not of ids");
        return Err(match args.ndjson {
            None => problem.hint("wait for the result with `--wait`, or take `-o json`"),
            Some(_) => problem.hint("take `-o json`; `omniq result ID -o cbor` writes a result"),
        });
    }
    // clap drops what an option requires when it conflicts with something that is there, such as ARGS.
    if args.batch.is_some() && args.ndjson.is_none() {
        let problem = Problem::new(Kind::Usage, "`--batch` is a name for the lines of `--ndjson`");
        return Err(problem.hint("name the file with `--ndjson FILE`, or leave `--batch` out"));
    }
    if let Some(file) = &args.ndjson {
        return many::run(args, file, settings);
    }
    queue::with(settings, &args.store, Presence::Required, async |queue| {
        let task = task_of(args, &queue).await?;
        // Before the task is there: whoever stops from then on is told its id.
        let wait = args.wait.map(|Span(timeout)| (timeout, result::stop_of_wait()));
        let enqueued = queue.enqueue_many([task]).await.pop();
        let handle = enqueued.unwrap_or(Err(omniq::Error::Closed))?;
        match wait {
            Some((timeout, stop)) => {
                result::wait_and_write(&queue, handle.id(), timeout, args.format, &stop).await
            }
            None => write_stdout(text(&handle, args.format).await?.as_bytes()),
        }
    })
}

async fn task_of(args: &EnqueueArgs, queue: &Queue) -> Result<NewTask, Problem> {
    let mut task = args.policy.apply(new_task(args, queue).await?)?;
    for parent in args.policy.parents() {
        task = task.after(parent.find(queue).await?);
    }
    Ok(task)
}

async fn new_task(args: &EnqueueArgs, queue: &Queue) -> Result<NewTask, Problem> {
    let request = args.request();
    let module = queue.module(&args.module).await?;
    // The version is nailed down, so that the arguments are checked against what will run.
    let exact = format!("{}@{}", module.name, module.version);
    let Some(function) = &args.function else {
        if args.json.is_some() || args.cbor.is_some() {
            let usage = Problem::new(Kind::Usage, "a command takes no typed arguments");
            return Err(usage.hint("put its arguments after `--`, and name a file with `--stdin`"));
        }
        let read = |file| job::read_whole("the command's stdin", file, &request);
        let stdin = args.stdin.as_deref().map(read).transpose()?;
        return Ok(NewTask::command(exact, args.rest.clone(), stdin.unwrap_or_default()));
    };
    if args.stdin.is_some() {
        let text = format!("`--stdin` is for commands, and `{function}` is a function");
        let usage = Problem::new(Kind::Usage, text);
        return Err(usage.hint("give a function's arguments by `@FILE`"));
    }
    let task = NewTask::new(&exact, function);
    // An unknown function is reported by the queue, which knows what there is instead.
    let known =
        module.functions.iter().find(|known| known.short == *function || known.name == *function);
    match known {
        Some(known) => {
            Ok(task.args_cbor(job::arguments(&known.short, &known.signature, &request)?))
        }
        None => {
            let full = queue.function(&exact, function).await?;
            Ok(task.args_cbor(job::arguments(&full.short, &full.signature, &request)?))
        }
    }
}

/// The answer without waiting: the id, or an object.
async fn text(handle: &TaskHandle, format: ResultFormat) -> Result<String, Problem> {
    if format != ResultFormat::Json {
        return Ok(format!("{}\n", handle.id()));
    }
    let state = handle.status().await.unwrap_or(State::Ready);
    Ok(format!("{}\n", json!({ "id": handle.id(), "state": state.name(), "new": handle.is_new() })))
}
