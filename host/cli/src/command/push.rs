//! `omniq push`: a component into the queue's store of modules.

use std::path::{Path, PathBuf};

use omniq::{Name, Published, Queue};
use omniq_model::id::ParseNameError;
use omniq_model::{Kind, Module};
use serde_json::json;

use crate::component::{self, is_stdin};
use crate::option::limits::RuleArgs;
use crate::output::console;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence};
use crate::settings::{SettingArgs, StoreArgs};

/// Put a component into the queue, so that its functions can be enqueued
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A name and version together stand for the same bytes for ever; the same push again changes nothing, but puts right what was
damaged in the store."
)]
pub struct PushArgs {
    /// The component: a `.wasm` or `.wat` file, or `-` for stdin
    file: PathBuf,
    /// What tasks call it by [default: the file's name without its ending]
    #[arg(long)]
    name: Option<Name>,
    /// Its version [default: the first twelve digits of its digest]
    #[arg(long, value_name = "VERSION")]
    module_version: Option<Name>,
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
    let name = args.name.clone().map_or_else(|| name_of(&args.file), Ok)?;
    let bytes = component.inspected().bytes().to_vec();
    let published = queue::with(settings, &args.store, Presence::Made, async |queue| {
        let push = queue.push(name.as_str(), bytes).rules(args.rules.rules());
        let push = match &args.module_version {
            Some(version) => push.version(version.as_str()),
            None => push,
        };
        let published = push.await?;
        if !published.is_new {
            tell_of_newer(&queue, &published.module).await;
        }
        Ok(published)
    })?;
    write_stdout(text(&published, args.format).as_bytes())
}

/// Warns where an older version was pushed again: it is not the one that is meant where none is said.
async fn tell_of_newer(queue: &Queue, module: &Module) {
    let Module { name, version, .. } = module;
    // The push was made, whatever becomes of this question.
    let Ok(Module { version: current, .. }) = queue.module(name.as_str()).await else { return };
    if current != *version {
        console::warning(&format!(
            "`{name}` without a version still means `{name}@{current}`, which was pushed later; say `{name}@{version}`, or \
             forget the other one with `omniq module rm {name}@{current}`"
        ));
    }
}

/// What a component is called where nobody says so.
///
/// # Errors
/// Its file's name is no name for a module.
fn name_of(file: &Path) -> Result<Name, Problem> {
    let nameless = |text: String| Problem::new(Kind::Usage, text).hint("give it one with `--name`");
    let stem = file.file_stem().filter(|_| !is_stdin(file));
    let stem = stem.ok_or_else(|| nameless(String::from("a component from stdin has no name")))?;
    let parsed = stem.to_string_lossy().parse();
    let name: Name = parsed.map_err(|error: ParseNameError| nameless(error.to_string()))?;
    if name.as_str().contains('@') {
        let text = format!("`{name}` has an `@`, which stands between a module's name and version");
        return Err(nameless(text));
    }
    Ok(name)
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
