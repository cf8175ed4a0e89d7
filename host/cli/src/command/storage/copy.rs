//! `omniq storage copy`: a whole queue from the stores in use to others.

use std::path::PathBuf;

use omniq::Stores;
use omniq::config::{Config, Sources, StorageKind};
use omniq_model::Kind;
use omniq_store::WorkerSeen;
use omniq_store::copy::{Comparison, Copied, Copy, Phase, Progress, Side};
use serde_json::{Value, json};

use crate::command::push::{AnswerArgs, Format};
use crate::output::bar::Bar;
use crate::output::console;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence};
use crate::settings::{Life, SettingArgs};

/// Copy a whole queue to other stores
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub struct CopyArgs {
    /// Where the tasks are to be; results, events and modules follow it as they do in the settings
    #[arg(long, value_name = "URL", required_unless_present = "to_config")]
    to: Option<String>,
    /// Where the results are to be
    #[arg(long, value_name = "URL")]
    to_results: Option<String>,
    /// Where the events are to be
    #[arg(long, value_name = "URL")]
    to_events: Option<String>,
    /// Where the modules are to be
    #[arg(long, value_name = "URL")]
    to_objects: Option<String>,
    /// A file of settings that says where everything is to be
    #[arg(long, value_name = "PATH")]
    to_config: Option<PathBuf>,
    /// Leave the events behind
    #[arg(long)]
    without_events: bool,
    /// Copy although workers are alive; what they do meanwhile may be lost or done twice
    #[arg(long)]
    force: bool,
    /// Only compare what is on both sides
    #[arg(long)]
    compare: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

const NOTES: &str = "Stop all workers and producers first. Nothing is changed where the queue is. Running tasks are ready again
where it goes, and every lease of before is void. A copy that was interrupted goes on when it is started again. At the end both
sides are compared, task by task. Exit code 1: something was left behind, or differs.";

/// How many things that were left or differ are named.
const NAMED: usize = 20;

impl CopyArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        self.answer.format.of_errors()
    }

    /// The settings of where it goes.
    fn target(&self, source: &Config) -> Result<Config, Problem> {
        let mut sources = Sources::new();
        if let Some(path) = &self.to_config {
            sources = sources.file(path);
        }
        let flags = [
            ("--to", "tasks.url", &self.to),
            ("--to-results", "results.url", &self.to_results),
            ("--to-events", "events.url", &self.to_events),
            ("--to-objects", "objects.url", &self.to_objects),
        ];
        for (flag, key, url) in flags {
            if let Some(url) = url {
                sources = sources.flag(flag, key, url);
            }
        }
        // What the file leaves open is as it is here.
        let given = Config::load(&sources)?.show();
        let is_given =
            |key| given.iter().any(|shown| shown.row.key == key && shown.origin.is_set());
        for (key, value) in [
            ("data.folder", source.data.folder.display().to_string()),
            ("storage.durability", source.storage.durability.to_string()),
        ] {
            if !is_given(key) {
                sources = sources.flag(key, key, value);
            }
        }
        let target = Config::load(&sources)?;
        target.supported()?;
        Ok(target)
    }
}

pub fn run(args: &CopyArgs, settings: &SettingArgs) -> crate::command::Result {
    let source = settings.open(&args.answer.store, Life::Command)?.config;
    let target = args.target(&source)?;
    check_places(&source, &target)?;
    queue::check_presence(&source, Presence::Required)?;
    let (copied, comparison) = queue::block_on(copy(args, &source, &target))?;
    let text = match args.answer.format {
        Format::Text => text(copied.as_ref(), &comparison),
        Format::Json => format!("{}\n", json_of(copied.as_ref(), &comparison)),
    };
    write_stdout(text.as_bytes())?;
    let left = copied.map_or(0, |copied| copied.left.len());
    if left > 0 || !comparison.is_equal() {
        let text = format!("{left} things were left behind, {} tasks differ", comparison.unequal);
        return Err(Problem::new(Kind::Host, text).hint(
            "see that nothing works on either side, and start the same command again; `--compare` only looks",
        ));
    }
    Ok(())
}

/// Refuses what cannot be meant.
fn check_places(source: &Config, target: &Config) -> Result<(), Problem> {
    if source.tasks.kind == StorageKind::Memory || target.tasks.kind == StorageKind::Memory {
        let text =
            "tasks in memory are gone with their process: there is nothing to copy from or to";
        return Err(Problem::new(Kind::Usage, text));
    }
    if source.tasks.url == target.tasks.url {
        let text = format!("`{}` is where the tasks are already", target.tasks.url);
        return Err(Problem::new(Kind::Usage, text).hint("name another place with `--to`"));
    }
    Ok(())
}

async fn copy(
    args: &CopyArgs,
    source: &Config,
    target: &Config,
) -> Result<(Option<Copied>, Comparison), Problem> {
    let (from, to) = (Stores::open(source).await?, Stores::open(target).await?);
    let same_events = source.events.url == target.events.url;
    let events = !args.without_events && !same_events;
    if same_events && !args.without_events && source.events.kind != StorageKind::Memory {
        console::note(&format!("the events stay where they are, in `{}`\n", source.events.url));
    }
    let objects = |config: &Config| config.objects.url.clone().unwrap_or(config.tasks.url.clone());
    let modules = objects(source) != objects(target);
    let copy = Copy { from: side(&from, events, modules), to: side(&to, events, modules) };
    let workers = copy.check().await?;
    refuse_workers("where the queue is", &workers.from, args.force)?;
    refuse_workers("where it goes", &workers.to, args.force)?;
    let mut bars = Bars::default();
    let copied = match args.compare {
        true => None,
        false => Some(copy.run(&mut |progress| bars.tell(progress)).await?),
    };
    let comparison = copy.compare(&mut |progress| bars.tell(progress)).await?;
    drop(bars);
    for stores in [from, to] {
        close(stores).await?;
    }
    Ok((copied, comparison))
}

fn side(stores: &Stores, events: bool, modules: bool) -> Side {
    Side {
        tasks: stores.tasks.clone(),
        results: stores.results.clone(),
        events: stores.events.clone().filter(|_| events),
        modules: modules.then(|| stores.modules.clone()),
    }
}

async fn close(stores: Stores) -> Result<(), Problem> {
    if let Some(events) = &stores.events {
        events.close().await?;
    }
    if let Some(results) = &stores.results {
        results.close().await?;
    }
    stores.modules.close().await?;
    Ok(stores.tasks.close().await?)
}

fn refuse_workers(place: &str, workers: &[WorkerSeen], force: bool) -> Result<(), Problem> {
    let Some(first) = workers.first().filter(|_| !force) else { return Ok(()) };
    let name = if first.name.is_empty() { first.session.to_string() } else { first.name.clone() };
    let text = match workers.len() {
        1 => format!("a worker is alive {place}: `{name}`"),
        count => format!("{count} workers are alive {place}, `{name}` among them"),
    };
    Err(Problem::new(Kind::Conflict, text).hint(
        "stop them first; one that has died counts for the time of its lease; `--force` copies all the same",
    ))
}

/// One bar after the other.
#[derive(Default)]
struct Bars {
    bar: Option<(Phase, Bar)>,
}

impl Bars {
    fn tell(&mut self, progress: Progress) {
        let Progress { phase, done, of } = progress;
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            self.bar = None; // the one before goes first
            self.bar = Some((phase, Bar::new(unit(phase), of)));
        }
        if let Some((_, bar)) = &self.bar {
            let note = match phase {
                Phase::Comparing => "compared",
                _ => "copied",
            };
            bar.at(done, of.map(|_| done), note);
        }
    }
}

fn unit(phase: Phase) -> &'static str {
    match phase {
        Phase::Modules => "modules",
        Phase::Tasks | Phase::Comparing => "tasks",
        Phase::Events => "events",
    }
}

fn text(copied: Option<&Copied>, comparison: &Comparison) -> String {
    let mut text = String::new();
    if let Some(copied) = copied {
        text += &format!(
            "copied {} tasks ({} were there, {} ran and are ready again), {} values, {} modules, {} schedules, {} events\n",
            copied.tasks,
            copied.tasks_there,
            copied.released,
            copied.values,
            copied.modules,
            copied.schedules,
            copied.events
        );
        for left in copied.left.iter().take(NAMED) {
            text += &format!("left behind: {left}\n");
        }
    }
    text += &format!("compared: {} tasks are the same", comparison.same);
    if comparison.settled > 0 {
        text += &format!(", {} were being stopped and are settled", comparison.settled);
    }
    text += &match comparison.unequal {
        0 => ", none differs\n".to_owned(),
        count => format!(", {count} differ\n"),
    };
    for id in comparison.missing.iter().take(NAMED) {
        text += &format!("differs: task `{id}` is not there\n");
    }
    for (id, what) in comparison.different.iter().take(NAMED) {
        text += &format!("differs: task `{id}` in {what}\n");
    }
    text
}

fn json_of(copied: Option<&Copied>, comparison: &Comparison) -> Value {
    let copied = copied.map(|copied| {
        json!({
            "tasks": copied.tasks,
            "tasks_there": copied.tasks_there,
            "released": copied.released,
            "values": copied.values,
            "modules": copied.modules,
            "schedules": copied.schedules,
            "paused": copied.paused,
            "events": copied.events,
            "left": copied.left.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let ids: Vec<_> = comparison.missing.iter().map(ToString::to_string).collect();
    let different: Vec<_> = comparison
        .different
        .iter()
        .map(|(id, what)| json!({ "task": id.to_string(), "what": what }))
        .collect();
    json!({
        "copied": copied,
        "compared": {
            "same": comparison.same,
            "settled": comparison.settled,
            "unequal": comparison.unequal,
            "missing": ids,
            "different": different,
        },
    })
}
