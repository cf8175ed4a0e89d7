//! `omniq result`: what a task returned.

use std::time::Duration;

use omniq::{Error, Queue, State, TaskHandle, TaskId};
use omniq_model::{Format as Stored, Kind, Module};

use crate::interrupt::Stop;
use crate::option::quantity::Span;
use crate::output::problem::{Problem, chain, write_stdout};
use crate::output::tasks::{result_type, sides};
use crate::output::value::{Format, encode};
use crate::queue::{self, Presence, TaskRef};
use crate::settings::{SettingArgs, StoreArgs};

/// Write what a task returned
#[derive(Debug, clap::Args)]
pub struct ResultArgs {
    /// The task's id, or the last eight digits of it
    task: TaskRef,
    /// Wait until the task has ended, for at most TIME if one is said
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "365d")]
    wait: Option<Span>,
    /// How the result is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "wave")]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

impl ResultArgs {
    /// How failures are written.
    pub fn format(&self) -> Format {
        self.format
    }
}

pub fn run(args: &ResultArgs, settings: &SettingArgs) -> super::Result {
    queue::with(settings, &args.store, Presence::Required, async |queue| {
        let id = args.task.find(&queue).await?;
        match args.wait {
            Some(Span(timeout)) => {
                let stop = stop_of_wait();
                wait_and_write(&queue, id, timeout, args.format, &stop).await
            }
            None => write_now(&queue, id, args.format).await,
        }
    })
}

/// What ends a wait. It says nothing when it is asked: the end of the wait does, at once.
pub fn stop_of_wait() -> Stop {
    Stop::on_signals("")
}

/// Waits for a task's end, and writes its result.
///
/// # Errors
/// It does not end in time or until `stop` is asked, ends without a result, or its result cannot be had.
pub async fn wait_and_write(
    queue: &Queue,
    id: TaskId,
    timeout: Duration,
    format: Format,
    stop: &Stop,
) -> super::Result {
    let handle = queue.handle(id);
    // What is waited for longest is still a wait: it can be ended with Ctrl-C at any time. What has ended is written all
    // the same.
    tokio::select! {
        biased;
        ended = handle.wait(timeout) => ended.map(drop)?,
        () = stop.asked() => return Err(stopped(id)),
    }
    write(queue, &handle, format).await
}

fn stopped(id: TaskId) -> Problem {
    Problem::new(Kind::Cancelled, format!("stopped waiting; the task `{id}` goes on"))
        .hint(format!("`omniq result {id} --wait` waits for it again"))
        .interrupted()
}

async fn write_now(queue: &Queue, id: TaskId, format: Format) -> super::Result {
    let handle = queue.handle(id);
    let state = handle.status().await?;
    if !state.is_terminal() {
        let text = format!("the task `{id}` is {state}; it has no result yet");
        return Err(Problem::new(Kind::WaitTimeout, text).hint("wait for it with `--wait`"));
    }
    write(queue, &handle, format).await
}

async fn write(queue: &Queue, handle: &TaskHandle, format: Format) -> super::Result {
    let info = handle.info().await?;
    let module = module_of(queue, &info).await;
    let (ok, err) = sides(result_type(&info, module.as_ref()));
    let (state, result) = (info.head.state, info.head.result.clone().unwrap_or_default());
    let payload = queue.load(handle.id(), state, result).await;
    let payload = payload.map_err(|error| Problem::from(error).typed(err))?;
    if payload.format != Stored::Cbor {
        return write_stdout(&payload.bytes);
    }
    let is_typed = result_type(&info, module.as_ref()).is_some() || payload.bytes == [0xf6];
    if !is_typed && format != Format::Cbor {
        let text =
            "the type of the result is not known, since its module is not in the store any more";
        return Err(Problem::new(Kind::NotFound, text).hint("write the stored form with `-o cbor`"));
    }
    debug_assert_eq!(state, State::Succeeded, "anything else has no value");
    write_stdout(&encode(format, ok.as_ref(), &payload.bytes)?)
}

/// The module a task runs, if it is still there.
pub async fn module_of(queue: &Queue, info: &omniq::Info) -> Option<Module> {
    let task = info.task.as_ref().ok()?;
    let found = queue.module(format!("{}@{}", task.module.name, task.module.version)).await;
    match found {
        Ok(module) => Some(module),
        Err(Error::NoModule { .. }) => None,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the module of a task cannot be looked up");
            None
        }
    }
}
