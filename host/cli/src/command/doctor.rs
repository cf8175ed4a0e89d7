//! `omniq doctor`: looks for what is wrong with this installation, says why it matters and what to do.

mod machine;
mod sandbox;
mod stores;

use omniq::config::Config;
use omniq_model::Kind;
use serde_json::json;

use super::push::Format;
use crate::output::problem::{Problem, write_stdout};
use crate::output::table::table;
use crate::output::value::Format as ErrorFormat;
use crate::queue;
use crate::settings::{SettingArgs, StoreArgs};

/// Look for what is wrong here: settings, stores, disk, sandbox, clock, limits of the machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 1 when a check has failed; warnings do not count.")]
pub struct DoctorArgs {
    /// How the checks are written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Good,
    /// It works, and somebody should know.
    Warning,
    /// It does not work.
    Failed,
}

/// One check.
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    state: State,
    why: String,
    fix: String,
}

impl Check {
    /// All is well, as `why` shows.
    pub fn good(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, state: State::Good, why: why.into(), fix: String::new() }
    }

    /// It works, but.
    pub fn warning(name: &'static str, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warning, why: why.into(), fix: fix.into() }
    }

    /// It does not work; `fix` is what to do.
    pub fn failed(name: &'static str, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Failed, why: why.into(), fix: fix.into() }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl DoctorArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        self.format.of_errors()
    }
}

pub fn run(args: &DoctorArgs, settings: &SettingArgs) -> super::Result {
    let mut checks = Vec::new();
    match settings.load(&args.store) {
        Ok(config) => {
            checks.extend(of_settings(&config));
            checks.extend(queue::block_on(async { Ok(stores::checks(&config).await) })?);
            checks.push(machine::disk(&config));
            checks.push(sandbox::cache(&config));
        }
        // Without settings there is no telling which stores are meant; the machine can be looked at all the same.
        Err(problem) => checks.push(Check::failed(
            "settings",
            problem.message(),
            "`omniq help configuration` lists all settings",
        )),
    }
    checks.extend(sandbox::limits());
    checks.push(machine::clock());
    checks.push(machine::files());
    write_stdout(text(&checks, args.format).as_bytes())?;
    let failed = checks.iter().filter(|check| check.state == State::Failed).count();
    match failed {
        0 => Ok(()),
        1 => Err(Problem::new(Kind::Host, "a check has failed")),
        count => Err(Problem::new(Kind::Host, format!("{count} checks have failed"))),
    }
}

fn of_settings(config: &Config) -> Vec<Check> {
    let name = "settings";
    let set = config.show().iter().filter(|shown| shown.origin.is_set()).count();
    let mut checks = vec![Check::good(name, format!("{set} are set, and all are good"))];
    let fix = "see `omniq config show --origin`";
    checks.extend(config.warnings.iter().map(|notice| Check::warning(name, &notice.text, fix)));
    match config.supported() {
        Ok(notices) => {
            checks.extend(notices.iter().map(|notice| Check::warning(name, &notice.text, fix)));
        }
        Err(error) => checks.push(Check::failed(name, error.to_string(), fix)),
    }
    checks
}

fn text(checks: &[Check], format: Format) -> String {
    match format {
        Format::Text => {
            let row = |check: &Check| {
                [
                    check.name.to_owned(),
                    check.state.name().to_owned(),
                    check.why.clone(),
                    check.fix.clone(),
                ]
            };
            table(["CHECK", "STATE", "WHY", "WHAT TO DO"], checks.iter().map(row))
        }
        Format::Json => {
            let check = |check: &Check| json!({ "name": check.name, "state": check.state.name(), "why": check.why, "fix": check.fix });
            let checks: Vec<_> = checks.iter().map(check).collect();
            format!("{}\n", json!({ "checks": checks }))
        }
    }
}
