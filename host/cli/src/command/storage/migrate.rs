//! `omniq storage migrate`: brings the stores to this version's layout, and says when no older version is left.

use omniq_model::Kind;
use omniq_store::{Layout, open_events, open_modules, open_results, open_tasks};
use serde_json::json;

use super::check::layout_json;
use super::look::places;
use super::stats::admin;
use crate::command::push::{AnswerArgs, Format};
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence};
use crate::settings::{Life, SettingArgs};

/// Bring the stores to this version's layout
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub struct MigrateArgs {
    /// Say that no process of an older version works with them any more: such are refused from now on
    #[arg(long)]
    finish: bool,
    /// Finish although workers are alive
    #[arg(long, requires = "finish")]
    force: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

const NOTES: &str = "Stores are brought to the newest layout that the version before can still work with whenever something
opens them; this command does no more than that. So both versions may run side by side. When all processes are of the new
version, --finish closes the stores to older ones.";

impl MigrateArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        self.answer.format.of_errors()
    }
}

pub fn run(args: &MigrateArgs, settings: &SettingArgs) -> crate::command::Result {
    let config = settings.open(&args.answer.store, Life::Command)?.config;
    queue::check_presence(&config, Presence::Required)?;
    let options = omniq::Stores::options(&config);
    let layout = queue::block_on(async {
        for place in places(&config) {
            let url = place.url.as_str();
            match place.role {
                "results" => open_results(url, &options).await?.close().await?,
                "events" => open_events(url, &options).await?.close().await?,
                "modules" => open_modules(url, &options).await?.close().await?,
                _ => {}
            }
        }
        let store = open_tasks(config.tasks.url.as_str(), &options).await?;
        let admin = admin(&*store)?;
        let layout = if args.finish {
            refuse_workers(&admin.stats().await?.workers, args.force)?;
            Some(admin.finish_migration().await?)
        } else {
            admin.check().await?.layout
        };
        store.close().await?;
        Ok(layout)
    })?;
    let text = match (args.answer.format, layout) {
        (Format::Json, layout) => {
            format!("{}\n", json!({ "layout": layout.as_ref().map(layout_json) }))
        }
        (Format::Text, Some(layout)) => text(&layout),
        (Format::Text, None) => "tasks in memory have no layout\n".into(),
    };
    write_stdout(text.as_bytes())
}

fn refuse_workers(workers: &[omniq_store::WorkerSeen], force: bool) -> Result<(), Problem> {
    if workers.is_empty() || force {
        return Ok(());
    }
    let text = format!("{} workers are alive, which may be of an older version", workers.len());
    Err(Problem::new(Kind::Conflict, text).hint(
        "see that all of them are of this version, and finish all the same with `--force`; `omniq storage stats` names them",
    ))
}

fn text(layout: &Layout) -> String {
    let Layout { schema, min_writer, oldest, newest, .. } = layout;
    let shared = if min_writer < schema {
        format!(
            "versions that write layout {min_writer} may work with it too, until `omniq storage migrate --finish`"
        )
    } else {
        "older layouts are refused".into()
    };
    format!(
        "the stores have layout {schema}; this omniq works with {oldest} to {newest}; {shared}\n"
    )
}
