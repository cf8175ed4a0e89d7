//! Acting on tasks: on those whose ids are written, or on all that fit a filter, which is asked about first.

use omniq::{Bulk, Counts, Filter, Queue, Scope, TaskId};
use omniq_model::{Kind, State};
use serde_json::json;

use super::{filter_of, named};
use crate::command::push::Format;
use crate::output::console;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence, TaskRef, short};
use crate::settings::{SettingArgs, StoreArgs};

/// Which tasks are acted on.
#[derive(Debug, clap::Args)]
#[command(after_help = super::FILTERS)]
pub struct BulkArgs {
    /// Ids, or a filter such as `state:failed queue:media`
    #[arg(value_name = "ID|FILTER", required_unless_present = "all")]
    which: Vec<String>,
    /// All tasks there are
    #[arg(long, conflicts_with = "which")]
    all: bool,
    /// Only tell how many tasks it would be
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(short = 'y', long)]
    yes: bool,
    /// How the answer is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// They are called off.
    Cancel,
    /// They are made ready again.
    Retry,
    /// They are forgotten.
    Remove,
}

impl Act {
    fn verb(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Remove => "remove",
        }
    }

    /// The command of `omniq task`.
    fn command(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Remove => "rm",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Retry => "ready again",
            Self::Remove => "removed",
        }
    }

    /// The states it changes.
    fn states(self) -> &'static [State] {
        match self {
            Self::Cancel => &[State::Blocked, State::Scheduled, State::Ready, State::Running],
            Self::Retry => &[State::Failed, State::Cancelled, State::Expired],
            Self::Remove => &[State::Succeeded, State::Failed, State::Cancelled, State::Expired],
        }
    }

    async fn perform(self, queue: &Queue, filter: &Filter) -> Result<Bulk, Problem> {
        Ok(match self {
            Self::Cancel => queue.cancel(filter).await?,
            Self::Retry => queue.retry(filter).await?,
            Self::Remove => queue.remove(filter).await?,
        })
    }
}

impl BulkArgs {
    /// How failures are written.
    pub fn error_format(&self) -> ErrorFormat {
        self.format.of_errors()
    }
}

/// Does it; `states` are the only ones that are meant, unless there are none of them.
pub fn run(
    act: Act,
    args: &BulkArgs,
    states: &[State],
    settings: &SettingArgs,
) -> crate::command::Result {
    let refs: Option<Vec<TaskRef>> = args.which.iter().map(|word| word.parse().ok()).collect();
    queue::with(settings, &args.store, Presence::Required, async |queue| {
        match refs.filter(|refs| !refs.is_empty()) {
            Some(refs) => by_id(act, args, &refs, states, &queue).await,
            None => by_filter(act, args, states, &queue).await,
        }
    })
}

/// Ids are meant as they are written, so nobody is asked. Those in none of `states` are left alone, unless that is empty.
async fn by_id(
    act: Act,
    args: &BulkArgs,
    refs: &[TaskRef],
    states: &[State],
    queue: &Queue,
) -> crate::command::Result {
    // The store holds the tasks against both at once: none moves on in between.
    let mut filter = Filter { states: states.to_vec(), ..Filter::default() };
    for task in refs {
        filter.ids.push(task.find(queue).await?);
    }
    if args.dry_run {
        return would(act, args, &queue.count(&filter).await?);
    }
    let mut done = act.perform(queue, &filter).await?;
    let missing = add_skipped(&mut done, &filter.ids, queue).await?;
    tell(act, args, &done)?;
    if let Some(id) = missing {
        return Err(omniq::Error::NoTask(id).into());
    }
    match done.skipped.first() {
        None => Ok(()),
        Some((id, state)) if is_meant(act, *state, states) => {
            Err(held_back(act, *id, *state, queue).await)
        }
        Some((id, state)) => Err(refused(act, *id, *state, states)),
    }
}

/// Adds those that are there and fit no state that was meant; gives one that is not there.
async fn add_skipped(
    done: &mut Bulk,
    ids: &[TaskId],
    queue: &Queue,
) -> Result<Option<TaskId>, Problem> {
    let mut missing = None;
    for id in ids {
        let is_known = done.changed.contains(id)
            || done.requested.contains(id)
            || done.skipped.iter().any(|(of, _)| of == id);
        if is_known {
            continue;
        }
        match queue.handle(*id).status().await {
            Ok(state) => done.skipped.push((*id, state)),
            Err(omniq::Error::NoTask(_)) => missing = missing.or(Some(*id)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(missing)
}

/// Whether a task in that state was to be changed.
fn is_meant(act: Act, state: State, states: &[State]) -> bool {
    act.states().contains(&state) && (states.is_empty() || states.contains(&state))
}

/// Why a task was left as it is that was to be changed.
async fn held_back(act: Act, id: TaskId, state: State, queue: &Queue) -> Problem {
    let info = queue.handle(id).info().await.ok();
    let unique = info.and_then(|info| info.task.ok()?.unique.clone());
    let short = short(id);
    match (act, unique) {
        (Act::Retry, Some(unique)) => {
            let key = unique.key;
            let text = format!(
                "the task `{short}` is {state}, and another one has its unique key `{key}` by now"
            );
            Problem::new(Kind::Conflict, text).hint(match unique.scope {
                Scope::Window => "retry it when the key's window is over",
                _ => "retry it when that one has ended, or cancel that one first",
            })
        }
        _ => {
            let text =
                format!("the task `{short}` is {state}, and something else changed it meanwhile");
            Problem::new(Kind::Conflict, text).hint("do it once more if it is still to be done")
        }
    }
}

/// Why a task was left as it is that is in no state which is changed.
fn refused(act: Act, id: TaskId, state: State, states: &[State]) -> Problem {
    let (id, verb) = (short(id), act.verb());
    if states.is_empty() || states.contains(&state) {
        let text = format!("the task `{id}` is {state}, which `{verb}` does not change");
        return Problem::new(Kind::Conflict, text);
    }
    let text = format!("the task `{id}` is {state}; this command is about {}", named(states));
    let problem = Problem::new(Kind::Conflict, text);
    if act.states().contains(&state) {
        return problem.hint(format!("`omniq task {} {id}` does it", act.command()));
    }
    match state.is_terminal() {
        true => problem.hint(format!("`omniq task show {id}` tells what happened to it")),
        false => problem.hint(format!("it has not ended; `omniq task cancel {id}` calls it off")),
    }
}

async fn by_filter(
    act: Act,
    args: &BulkArgs,
    states: &[State],
    queue: &Queue,
) -> crate::command::Result {
    let mut filter = filter_of(queue, &args.which, states).await?;
    if filter.states.is_empty() {
        filter.states = act.states().to_vec();
    }
    let counts = queue.count(&filter).await?;
    if args.dry_run {
        return would(act, args, &counts);
    }
    let total = meant(act, &counts);
    if total > 0 && !args.yes {
        confirm(act, total)?;
    }
    tell(act, args, &act.perform(queue, &filter).await?)
}

/// How many of these tasks it changes.
fn meant(act: Act, counts: &Counts) -> u64 {
    counts.iter().filter(|(state, _)| act.states().contains(state)).map(|(_, count)| count).sum()
}

fn would(act: Act, args: &BulkArgs, counts: &Counts) -> crate::command::Result {
    let total = meant(act, counts);
    let of: Vec<_> = counts
        .iter()
        .filter(|(state, count)| act.states().contains(state) && **count > 0)
        .collect();
    let text = match args.format {
        Format::Text => {
            let parts: Vec<_> =
                of.iter().map(|(state, count)| format!("{count} {state}")).collect();
            let parts =
                if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
            format!("would {} {total}{parts}\n", act.verb())
        }
        Format::Json => {
            let states: serde_json::Map<_, _> = of
                .iter()
                .map(|(state, count)| (state.name().to_owned(), (**count).into()))
                .collect();
            format!("{}\n", json!({ "would": act.verb(), "total": total, "states": states }))
        }
    };
    write_stdout(text.as_bytes())
}

fn confirm(act: Act, total: u64) -> Result<(), Problem> {
    let noun = if total == 1 { "task" } else { "tasks" };
    let text = format!("this would {} {total} {noun}, and nobody is here to ask", act.verb());
    let otherwise =
        Problem::new(Kind::Usage, text).hint("say `--yes` to do it, `--dry-run` to only count");
    console::confirm(&format!("{} {total} {noun}", act.verb()), otherwise)
}

fn tell(act: Act, args: &BulkArgs, done: &Bulk) -> crate::command::Result {
    let text = match args.format {
        Format::Text => {
            let mut text = format!("{} {}", done.changed.len(), act.done());
            if !done.requested.is_empty() {
                text += &format!(", {} asked to stop", done.requested.len());
            }
            if !done.skipped.is_empty() {
                text += &format!(", {} left as they are", done.skipped.len());
            }
            text + "\n"
        }
        Format::Json => {
            let skipped: Vec<_> = done
                .skipped
                .iter()
                .map(|(id, state)| json!({ "id": id, "state": state.name() }))
                .collect();
            let json = json!({
                "changed": done.changed.len(),
                "requested": done.requested.len(),
                "skipped": skipped,
            });
            format!("{json}\n")
        }
    };
    write_stdout(text.as_bytes())
}
