//! `omniq worker`: runs tasks until it is told to stop, or until there are none left.

mod left;

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use omniq::worker::WorkerHandle;
use omniq::{Name, Queue, WorkerBuilder};
use omniq_model::Kind;
use omniq_store::{Changes, Interest};

use crate::interrupt::Stop;
use crate::option::grants::GrantArgs;
use crate::option::limits::RuleArgs;
use crate::option::policy::PoolArg;
use crate::option::quantity::Span;
use crate::output::bar::Bar;
use crate::output::console;
use crate::output::problem::Problem;
use crate::queue::{self, Presence};
use crate::settings::{Life, SettingArgs, StoreArgs};
use left::{Left, Looks};

/// Run tasks until told to stop
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub struct WorkerArgs {
    /// Run the tasks of this queue; repeat it for more [default: all queues]
    #[arg(long, value_name = "NAME")]
    queue: Vec<Name>,
    /// The most tasks at once [default: the settings', 32 for each processor]
    #[arg(long, value_name = "N", value_parser = NonEmptyStringValueParser::new())]
    slots: Option<String>,
    /// The pool of tasks that do not ask for one: `async` for those that mostly wait, `thread` for those that compute
    #[arg(long, value_name = "POOL")]
    pool: Option<PoolArg>,
    /// Threads of each pool [default: the settings', one for each processor]
    #[arg(long, value_name = "N", value_parser = NonEmptyStringValueParser::new())]
    threads: Option<String>,
    /// What it is called, for people [default: the machine's name and the number of the process]
    #[arg(long)]
    name: Option<String>,
    /// Stop when no task is left to run
    #[arg(long)]
    drain: bool,
    /// How long running tasks may go on after Ctrl-C or SIGTERM [default: the settings', 30s]
    #[arg(long, value_name = "TIME")]
    grace: Option<Span>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    store: StoreArgs,
}

const NOTES: &str = "Ctrl-C or SIGTERM: no more tasks are taken, those that run may come to their end, and what still runs after
the grace is put back without an attempt being counted. A second one ends the process at once; others take its tasks over then.
`--drain` waits for retries too, and not for tasks that are due later than `retry.max_delay` (5m) from now. Tasks that nobody
can run as things are, in paused queues, of modules that are not there or damaged, or for pools that are not there, are left: it
says so and ends with exit code 8. Stopped with work left it ends with 130.";

pub fn run(args: &WorkerArgs, settings: &SettingArgs) -> super::Result {
    let options =
        [("--slots", "workers.max", &args.slots), ("--threads", "workers.threads", &args.threads)];
    let options =
        options.into_iter().filter_map(|(option, key, text)| Some((option, key, text.as_deref()?)));
    let opened = settings.open_with(&args.store, Life::Service, options)?;
    let grants = args.grants.grants()?;
    let grace = args.grace.map_or(opened.config.workers.shutdown_grace, |Span(grace)| grace);
    let stop = Stop::on_signals("stopping; once more to end at once\n");
    queue::block_on(async {
        let queue = queue::open(opened, Presence::Made).await?;
        let worker = settings_of(args, queue.worker()).grants(grants).start().await?;
        let worked = if args.drain {
            drain(&queue, &worker, &args.queue, &stop).await
        } else {
            until_asked(&worker, &stop).await
        };
        let stats = worker.stop(grace).await;
        // What was under way has come to its end by now, which may have been all there was.
        let worked = match worked {
            Ok(()) if args.drain && stop.is_asked() => left_behind(&queue, &args.queue).await,
            worked => worked,
        };
        let closed = queue.close().await;
        console::last_words(summary(&stats));
        worked?;
        Ok(closed?)
    })
}

fn settings_of(args: &WorkerArgs, mut worker: WorkerBuilder) -> WorkerBuilder {
    let named = |worker: WorkerBuilder, name: &Name| worker.queue(name.as_str());
    worker = args.queue.iter().fold(worker, named).rules(args.rules.rules());
    if let Some(pool) = args.pool {
        worker = worker.pool(pool.0);
    }
    match &args.name {
        Some(name) => worker.name(name),
        None => worker,
    }
}

/// Waits until the process is asked to end.
///
/// # Errors
/// The worker ended by itself.
pub async fn until_asked(worker: &WorkerHandle, stop: &Stop) -> super::Result {
    tokio::select! {
        () = stop.asked() => Ok(()),
        () = worker.wait() => Err(failed(worker)),
    }
}

fn failed(worker: &WorkerHandle) -> Problem {
    let why = worker.failure().unwrap_or_else(|| String::from("it ended by itself"));
    Problem::new(Kind::Host, format!("the worker failed: {why}"))
        .hint("its tasks are taken over by others after the time of a lease; `omniq doctor` looks for what is wrong")
}

/// `12 tasks succeeded, 1 failed`
pub fn summary(stats: &omniq::worker::Stats) -> String {
    let noun = if stats.succeeded == 1 { "task" } else { "tasks" };
    let mut text = format!("{} {noun} succeeded", stats.succeeded);
    for (count, what) in [
        (stats.failed, "failed"),
        (stats.cancelled, "cancelled"),
        (stats.retried, "to be tried again"),
        (stats.released, "put back"),
        (stats.stale, "taken over by others"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text + "\n"
}

/// Waits until there is nothing left to do in these queues, or the process is asked to end.
async fn drain(
    queue: &Queue,
    worker: &WorkerHandle,
    queues: &[Name],
    stop: &Stop,
) -> super::Result {
    /// Changes are told at once; this is for those of a store that went silent.
    const PATIENCE: Duration = Duration::from_millis(500);
    /// So that a busy queue is not counted after every task.
    const PACE: Duration = Duration::from_millis(50);
    let tasks = &queue.stores().tasks;
    let bar = Bar::new("done", Some(0));
    let looks = Looks::new(queue, queues);
    let mut is_away = false;
    loop {
        let seen: Changes = tasks.changes(Interest::Ends);
        let left = tokio::select! {
            left = Left::of(&looks) => left,
            () = stop.asked() => return Ok(()),
            () = worker.wait() => return Err(failed(worker)),
        };
        let left = match left {
            Ok(left) => left,
            // The worker goes on when its store is back, and so does who waits for it.
            Err(problem) if problem.is_passing() => {
                if !is_away {
                    console::warning(&format!(
                        "{}; looking again",
                        console::tame(problem.message())
                    ));
                }
                is_away = true;
                tokio::select! {
                    () = tokio::time::sleep(PATIENCE) => continue,
                    () = stop.asked() => return Ok(()),
                    () = worker.wait() => return Err(failed(worker)),
                }
            }
            Err(problem) => return Err(problem),
        };
        is_away = false;
        let done = ended(worker);
        bar.set_size(done + left.now + left.soon);
        bar.at(done, None, &format!("{} to go", left.now + left.soon));
        if left.now == 0 && left.soon == 0 {
            return left.held_back();
        }
        let changed = async {
            tokio::join!(tasks.changed(Interest::Ends, seen, PATIENCE), tokio::time::sleep(PACE));
        };
        tokio::select! {
            () = changed => {}
            () = stop.asked() => return Ok(()),
            () = worker.wait() => return Err(failed(worker)),
        }
    }
}

/// Refuses to call queues drained that are not, once the process was asked to end.
async fn left_behind(queue: &Queue, queues: &[Name]) -> super::Result {
    let left = Left::of(&Looks::new(queue, queues)).await?;
    let count = left.now + left.soon;
    if count == 0 {
        return left.held_back();
    }
    let noun = if count == 1 { "task" } else { "tasks" };
    let text = format!("stopped before the queues were drained; {count} {noun} to go");
    Err(Problem::new(Kind::Cancelled, text).hint("drain again to go on").interrupted())
}

fn ended(worker: &WorkerHandle) -> u64 {
    let stats = worker.stats();
    stats.succeeded + stats.failed + stats.cancelled
}
