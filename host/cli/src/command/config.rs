//! `omniq config`: the settings in use, where each comes from, and whether they are good.

use omniq::config::{Config, Origin, Shown};
use omniq_model::Kind;
use serde_json::{Map, Value, json};

use crate::output::console::tame;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value;
use crate::settings::{self, Life, Opened, SettingArgs, StoreArgs};

/// Show and check the settings
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show every setting in use; passwords are hidden
    Show(ShowArgs),
    /// Check that all settings are good, and that this version has what they ask for
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Show where each value comes from, too
    #[arg(long)]
    origin: bool,
    /// How it is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// How it is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: CheckFormat,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One line of JSON: times in seconds, sizes in bytes; failures are written to stdout as well
    Json,
    /// A file that means the same, where no password had to be hidden
    Toml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    /// For people
    Text,
    /// One line of JSON; failures are written to stdout as well
    Json,
}

impl ConfigArgs {
    /// How failures are written.
    pub fn format(&self) -> value::Format {
        let is_json = match &self.command {
            Command::Show(args) => args.format == Format::Json,
            Command::Check(args) => args.format == CheckFormat::Json,
        };
        if is_json { value::Format::Json } else { value::Format::Wave }
    }
}

pub fn run(args: &ConfigArgs, settings: &SettingArgs) -> super::Result {
    match &args.command {
        Command::Show(args) => show(args, &settings.load(&args.store)?),
        Command::Check(args) => check(args, &settings.open(&args.store, Life::Command)?),
    }
}

fn show(args: &ShowArgs, config: &Config) -> super::Result {
    settings::warn(&config.warnings);
    settings::warn(&config.unsupported());
    let text = match args.format {
        Format::Table => table(&config.show(), args.origin),
        Format::Json => json_of(&config.show(), args.origin)?,
        Format::Toml => config.to_toml(args.origin),
    };
    write_stdout(text.as_bytes())
}

/// Columns for people; what has no value says in brackets what that means.
fn table(rows: &[Shown], origins: bool) -> String {
    let cell = |shown: &Shown| match shown.text.as_str() {
        "" => format!("({})", shown.row.unset),
        text => tame(text),
    };
    let mut lines = vec![["SETTING".to_owned(), "VALUE".to_owned(), "ORIGIN".to_owned()]];
    lines.extend(
        rows.iter()
            .map(|shown| [shown.row.key.to_owned(), cell(shown), tame(&shown.origin.to_string())]),
    );
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for [key, value, origin] in &lines {
        let line = match origins {
            true => format!("{key:<first$}  {value:<second$}  {origin}"),
            false => format!("{key:<first$}  {value}"),
        };
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// An object by key; with origins each value is an object itself.
fn json_of(rows: &[Shown], origins: bool) -> Result<String, Problem> {
    let entry = |shown: &Shown| {
        let value = match origins {
            true => json!({ "value": shown.json, "origin": origin_of(&shown.origin) }),
            false => shown.json.clone(),
        };
        (shown.row.key.to_owned(), value)
    };
    line_of(&Value::Object(rows.iter().map(entry).collect::<Map<_, _>>()))
}

/// An origin for programs: what kind of source it is, and which.
fn origin_of(origin: &Origin) -> Value {
    match origin {
        Origin::Flag(flag) => json!({ "kind": "flag", "flag": flag }),
        Origin::Variable(name) => json!({ "kind": "variable", "variable": name }),
        Origin::File { path, line } => {
            json!({ "kind": "file", "path": path.display().to_string(), "line": line })
        }
        Origin::Follows(key) => json!({ "kind": "follows", "key": key }),
        _ => json!({ "kind": "default" }),
    }
}

/// They were checked when they were opened, as any command does.
fn check(args: &CheckArgs, opened: &Opened) -> super::Result {
    let rows = opened.config.show();
    let set = rows.iter().filter(|shown| shown.origin.is_set()).count();
    let warnings = &opened.warnings;
    let text = match args.format {
        CheckFormat::Text => {
            let noun = if warnings.len() == 1 { "warning" } else { "warnings" };
            format!("good: {set} of {} settings are set, {} {noun}\n", rows.len(), warnings.len())
        }
        CheckFormat::Json => {
            let warnings: Vec<_> = warnings
                .iter()
                .map(|notice| json!({ "key": notice.key, "message": notice.text }))
                .collect();
            line_of(&json!({ "set": set, "settings": rows.len(), "warnings": warnings }))?
        }
    };
    write_stdout(text.as_bytes())
}

fn line_of(value: &Value) -> Result<String, Problem> {
    let text = serde_json::to_string(value)
        .map_err(|error| Problem::new(Kind::Host, error.to_string()))?;
    Ok(text + "\n")
}
