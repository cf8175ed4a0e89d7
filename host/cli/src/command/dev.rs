//! `omniq dev`: a queue and a worker in one process, for trying things out. Modules named on the command line are pushed,
//! and pushed again whenever their files change.

mod example;
mod watch;

use std::path::PathBuf;

use omniq::Queue;

use super::worker::{summary, until_asked};
use crate::interrupt::Stop;
use crate::option::grants::GrantArgs;
use crate::option::limits::RuleArgs;
use crate::output::console;
use crate::queue::{self, Presence};
use crate::settings::{Life, SettingArgs, StoreArgs};
use watch::Watched;

/// Run a queue and a worker here, and keep modules up to date while you work on them
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub struct DevArgs {
    /// Components to push, and to push again whenever they change
    files: Vec<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    store: StoreArgs,
}

const NOTES: &str = "The queue is in `.omniq/` unless the settings say otherwise, and everything in it survives this process.
Other commands in the same folder work on the same queue. Each version of a file is pushed as `dev-` and its digest; tasks run
the version they were enqueued with.";

pub fn run(args: &DevArgs, settings: &SettingArgs) -> super::Result {
    let opened = settings.open(&args.store, Life::Service)?;
    let grants = args.grants.grants()?;
    let grace = opened.config.workers.shutdown_grace;
    let rules = args.rules.rules();
    let stop = Stop::on_signals("stopping; once more to end at once\n");
    queue::block_on(async {
        let queue = queue::open(opened, Presence::Made).await?;
        let mut watched = Vec::new();
        for file in &args.files {
            watched.push(Watched::push_first(&queue, file, &rules).await?);
        }
        let worker = queue.worker().rules(rules.clone()).grants(grants).start().await?;
        console::note(&welcome(&queue, &watched));
        let worked = tokio::select! {
            worked = until_asked(&worker, &stop) => worked,
            () = watch::follow(&queue, watched, &rules) => Ok(()),
        };
        let stats = worker.stop(grace).await;
        let closed = queue.close().await;
        console::note(&summary(&stats));
        worked?;
        Ok(closed?)
    })
}

/// What there is, and what to type next.
fn welcome(queue: &Queue, watched: &[Watched]) -> String {
    let url = &queue.config().tasks.url;
    let mut text = format!("queue    {url}\n");
    for one in watched {
        let module = one.module();
        text +=
            &format!("module   {}@{} from {}\n", module.name, module.version, one.path().display());
        for function in &module.functions {
            text += &format!("           {}{}\n", function.short, function.signature);
        }
        if module.command {
            text += "           a command\n";
        }
    }
    text += "\nIn another terminal, in this folder:\n";
    match watched.first() {
        Some(one) => text += &format!("  {}\n", example::of(one.module())),
        None => text += "  omniq push FILE\n  omniq enqueue MODULE FUNCTION ARGS… --wait\n",
    }
    text + "  omniq task list\n\nCtrl-C to stop.\n"
}
