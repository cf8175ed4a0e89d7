//! `omniq push`: a component into the queue's store of modules.

use std::path::PathBuf;

use omniq::Published;
use serde_json::json;

use crate::component::{self, is_stdin};
use crate::option::limits::RuleArgs;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence};
use crate::settings::{SettingArgs, StoreArgs};

/// Put a component into the queue, so that its functions can be enqueued
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A name and version together stand for the same bytes for ever; the same push again changes nothing."
)]
pub struct PushArgs {
    /// The component: a `.wasm` or `.wat` file, or `-` for stdin
    file: PathBuf,
    /// What tasks call it by [default: the file's name without its ending]
    #[arg(long)]
    name: Option<String>,
    /// Its version [default: the first twelve digits of its digest]
    #[arg(long, value_name = "VERSION")]
    module_version: Option<String>,
    /// How the answer is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One line of JSON; failures are written to stdout as well
    Json,
}

/// What every command has that tells something about stores.
#[derive(Debug, clap::Args)]
pub struct AnswerArgs {
    #[arg(
        short = 'o',
        long,
        value_enum,
        default_value = "text",
        help = "How it is written to stdout"
    )]
    pub format: Format,
    #[command(flatten)]
    pub store: StoreArgs,
}

impl Format {
    /// How failures are written.
    pub fn of_errors(self) -> ErrorFormat {
        if self == Self::Json { ErrorFormat::Json } else { ErrorFormat::Wave }
    }
}

impl PushArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        self.format.of_errors()
    }
}

pub fn run(args: &PushArgs, settings: &SettingArgs) -> super::Result {
    let component = component::read(&args.file, &args.rules.rules())?;
    let stem = || {
        let stem = args.file.file_stem().filter(|_| !is_stdin(&args.file));
        stem.map(|stem| stem.to_string_lossy().into_owned())
    };
    let name = args.name.clone().or_else(stem).ok_or_else(|| {
        Problem::new(omniq_model::Kind::Usage, "a component from stdin has no name")
            .hint("give it one with `--name`")
    })?;
    let bytes = component.inspected().bytes().to_vec();
    let published = queue::with(settings, &args.store, Presence::Made, async |queue| {
        let push = queue.push(name, bytes).rules(args.rules.rules());
        let push = match &args.module_version {
            Some(version) => push.version(version),
            None => push,
        };
        Ok(push.await?)
    })?;
    write_stdout(text(&published, args.format).as_bytes())
}

fn text(published: &Published, format: Format) -> String {
    let module = &published.module;
    match format {
        Format::Text => {
            let what = if published.is_new { "pushed" } else { "unchanged" };
            format!("{}@{}  {}  {what}\n", module.name, module.version, module.digest)
        }
        Format::Json => {
            let json = json!({
                "name": module.name.as_str(),
                "version": module.version.as_str(),
                "digest": module.digest.to_string(),
                "size": module.size,
                "new": published.is_new,
            });
            format!("{json}\n")
        }
    }
}
