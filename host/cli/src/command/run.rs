//! `omniq run`: one call of a component, in this process, with nothing kept.

use std::path::PathBuf;
use std::sync::Arc;

use omniq_model::Kind;
use omniq_model::wit::Type;
use omniq_sandbox::{Call, Limits, Module, Outcome, Output};

use crate::component::{self, is_stdin};
use crate::engine::{self, Settings};
use crate::interrupt;
use crate::job::{Job, Request};
use crate::option::grants::GrantArgs;
use crate::option::limits::LimitArgs;
use crate::output::hint;
use crate::output::problem::{self, Problem, write_stdout};
use crate::output::task::Task;
use crate::output::value::{Format, encode};
use crate::output::{console, report};

/// Run a function of a component, or a command, once
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The component: a `.wasm` or `.wat` file, or `-` for stdin
    file: PathBuf,
    /// The function to call, such as `add` or `calc.add`; leave it out to run a command
    function: Option<String>,
    /// Its arguments: WAVE text in order, `NAME=WAVE`, or `@FILE` for what a file holds
    #[arg(allow_negative_numbers = true, conflicts_with_all = ["json", "cbor"])]
    args: Vec<String>,
    /// Arguments of a command; after a FUNCTION, arguments that look like options
    #[arg(last = true, value_name = "ARGV")]
    rest: Vec<String>,
    /// The function's arguments as a JSON array or object, or `@FILE` that holds one
    #[arg(long = "args", value_name = "JSON")]
    json: Option<String>,
    /// A file with the function's arguments in CBOR: an array, or a map by name
    #[arg(long = "args-cbor", value_name = "FILE", conflicts_with = "json")]
    cbor: Option<PathBuf>,
    /// How the result is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "wave")]
    format: Format,
    /// Where the bytes go that the guest writes through `omniq:task/output`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print to stderr what the run used
    #[arg(long)]
    report: bool,
    /// Compile the component anew, and keep nothing of it
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    grants: GrantArgs,
}

const EXAMPLES: &str = "Examples:
  omniq run add.wat add 5 -10
  omniq run images.wasm thumbnail image=@cat.png width=200 --output small.png
  omniq run jobs.wasm greet '{name: \"Ada\", tags: [\"x\", \"y\"]}' -o json
  omniq run wordcount.wasm -- --lines < book.txt

Exit codes: `omniq help exit-codes`";

impl RunArgs {
    /// How results, and failures, are written.
    pub fn format(&self) -> Format {
        self.format
    }

    fn request(&self, has_separator: bool, limits: &Limits) -> Request {
        Request {
            function: self.function.clone(),
            words: self.args.clone(),
            rest: self.rest.clone(),
            has_separator,
            json: self.json.clone(),
            cbor: self.cbor.clone(),
            max_bytes: limits.args,
            timeout: limits.timeout,
            stdin_is_taken: is_stdin(&self.file),
        }
    }
}

/// Runs it. What does not need the engine comes first, so that a mistake is reported before anything is compiled.
pub fn run(args: &RunArgs, has_separator: bool) -> super::Result {
    let limits = args.limits.limits();
    let grants = args.grants.grants()?;
    let component = component::read(&args.file, &args.limits.rules())?;
    let job = Job::new(&args.request(has_separator, &limits), &component)?;

    let settings =
        Settings { rules: args.limits.rules(), stack: args.limits.stack(), cache: !args.no_cache };
    let sandbox = engine::open(settings)?;
    let (module, code) = engine::load(&sandbox, &component)?;

    let task = Task::new(job.target(), args.output.as_deref())?;
    let grants = Arc::new(grants);
    let call = Call { limits: limits.clone(), grants, task: task.host(), ..Call::default() };
    interrupt::cancels(&call.cancel);
    let cancel = call.cancel.clone();
    let is_command = matches!(job, Job::Command(_));
    let (outcome, ty) = perform(&module, job, call)?;

    let put_away = task.finish(outcome.result.is_ok());
    show_streams(&outcome, is_command, args.format)?;
    if args.report {
        report::print(&outcome, &limits, code, args.format);
    } else if outcome.result.is_ok() {
        // A guest that got over a refusal may still have done less than it should.
        for denial in &outcome.denials {
            let text = format!("the guest was denied {denial}; {}", hint::grant(denial));
            console::note(&format!("note: {}\n", console::tame(&text)));
        }
    }
    match problem::split(outcome) {
        Ok(Output::Value(cbor)) => write_stdout(&encode(args.format, ty.as_ref(), &cbor)?)?,
        Ok(_) => {}
        Err(problem) if cancel.is_cancelled() => return Err(problem.interrupted()),
        Err(problem) => return Err(problem),
    }
    put_away
}

/// Makes the call; the type is that of the value it gives.
fn perform(module: &Module, job: Job, call: Call) -> Result<(Outcome, Option<Type>), Problem> {
    match job {
        Job::Command(command) => Ok((module.run_blocking(command, call), None)),
        Job::Function { name, args } => {
            let function = module
                .function(&name)
                .map_err(|error| Problem::new(Kind::Host, error.to_string()))?;
            let outcome = function.call_blocking(&args, call);
            // The sandbox takes the outer `result` off.
            let ty = match &function.signature().result {
                Some(Type::Result(sides)) => sides.ok.clone(),
                other => other.clone(),
            };
            Ok((outcome, ty))
        }
    }
}

/// Passes on what the guest wrote. A command's stdout is its result; that of a function is only talk.
fn show_streams(outcome: &Outcome, is_command: bool, format: Format) -> super::Result {
    console::raw(&outcome.stderr);
    if !is_command {
        console::raw(&outcome.stdout);
        return Ok(());
    }
    write_stdout(&outcome.stdout)?;
    // The failure that follows in JSON stands on a line of its own.
    let is_open = outcome.stdout.last().is_some_and(|last| *last != b'\n');
    if is_open && outcome.result.is_err() && format == Format::Json {
        write_stdout(b"\n")?;
    }
    Ok(())
}
