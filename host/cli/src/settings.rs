//! What every command is told about settings, and how it gets them: read, checked, warned about, with the log started.

use std::path::PathBuf;
use std::str::FromStr;

use omniq::config::{Config, Error, Log, Notice, Sources};
use omniq::logging::{Level, LogControl};
use omniq_model::Kind;

use crate::logging;
use crate::output::console;
use crate::output::problem::Problem;

/// The heading these options stand under in the help.
const HEADING: &str = "Settings";

/// Options of all commands.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct SettingArgs {
    /// The file of settings [default: $OMNIQ_CONFIG, or `omniq.toml` if it is there]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// From which severity on something is logged: DEBUG, INFO, WARNING, ERROR, DISABLED
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any setting of `omniq help configuration`, such as `workers.max=8`
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<SetArg>,
}

/// An option of all commands that use a queue.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct StoreArgs {
    /// Where the tasks are, such as `sqlite:omniq.db` [default: $OMNIQ_TASK_STORAGE_URL]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// `KEY=VALUE`.
#[derive(Debug, Clone)]
struct SetArg {
    key: String,
    value: String,
}

impl FromStr for SetArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) =
            text.split_once('=').ok_or("write `KEY=VALUE`, such as `workers.max=8`")?;
        Ok(Self { key: key.trim().to_owned(), value: value.to_owned() })
    }
}

/// How long a process is around, which decides how much it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does one thing: warnings are enough.
    Command,
    /// It works until it is told to stop: its life is worth following, and its log levels can be changed meanwhile.
    Service,
}

/// Settings that are good, and a log that has been started.
#[derive(Debug)]
pub struct Opened {
    /// The settings.
    pub config: Config,
    /// Changes log levels meanwhile.
    #[expect(dead_code, reason = "the commands that change levels are to come")]
    pub log: LogControl,
    /// What has been written as warnings.
    pub warnings: Vec<Notice>,
}

impl Life {
    /// The log level where nobody sets one.
    fn level(self) -> Level {
        match self {
            Self::Command => Level::Warning,
            Self::Service => Level::Info,
        }
    }
}

impl SettingArgs {
    /// What a command that uses a queue needs, before it does anything. Warnings have been written.
    ///
    /// # Errors
    /// A setting is wrong, or asks for what this version does not have.
    pub fn open(&self, store: &StoreArgs, life: Life) -> Result<Opened, Problem> {
        self.open_with(store, life, [])
    }

    /// The same for a command with options of its own that stand for settings: the option, the setting's key, what was given.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with<'a>(
        &self,
        store: &StoreArgs,
        life: Life,
        options: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> Result<Opened, Problem> {
        let sources = self.sources(store, options);
        let config = Config::load(&sources)?;
        let mut warnings = config.warnings.clone();
        warnings.extend(config.supported()?);
        warn(&warnings);
        let log = self.start_log(&config.log, sources, life)?;
        Ok(Opened { config, log, warnings })
    }

    /// The settings alone, to be looked at: nothing is said and nothing started.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn load(&self, store: &StoreArgs) -> Result<Config, Problem> {
        Ok(Config::load(&self.sources(store, []))?)
    }

    /// Starts the log of a command that needs no queue, and so no other setting: no file is read but one that was named.
    ///
    /// # Errors
    /// What is said about the log is wrong; or another setting is given, which would do nothing.
    pub fn log_only(&self) -> Result<(), Problem> {
        if let Some(other) = self.set.iter().find(|set| !set.key.starts_with("log.")) {
            let text = format!(
                "`--set {}` does nothing here: this command heeds only the settings of the log",
                other.key
            );
            return Err(Problem::new(Kind::Usage, text));
        }
        let sources = self.sources(&StoreArgs::default(), []);
        let sources = if self.config.is_some() { sources } else { sources.without_file() };
        let log = Log::load(&sources)?;
        self.start_log(&log, sources, Life::Command)?;
        Ok(())
    }

    fn start_log(&self, log: &Log, sources: Sources, life: Life) -> Result<LogControl, Problem> {
        let control = logging::start(log, life.level(), life == Life::Service)?;
        if life == Life::Service {
            logging::follow_hangups(&control, sources, life.level());
        }
        Ok(control)
    }

    /// What the settings are read from; the special flags are weaker than `--set`, which is more exact.
    fn sources<'a>(
        &self,
        store: &StoreArgs,
        options: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> Sources {
        let mut sources = Sources::of_process();
        if let Some(path) = &self.config {
            sources = sources.file(path);
        }
        if let Some(level) = &self.log_level {
            sources = sources.flag("--log-level", "log.level", level);
        }
        if let Some(url) = &store.store {
            sources = sources.flag("--store", "tasks.url", url);
        }
        for (option, key, text) in options {
            sources = sources.flag(option, key, text);
        }
        self.set.iter().fold(sources, |sources, set| {
            sources.flag(&format!("--set {}", set.key), &set.key, &set.value)
        })
    }
}

/// Writes each notice as a warning.
pub fn warn(notices: &[Notice]) {
    for notice in notices {
        console::warning(&console::tame(&notice.text));
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::new(Kind::Usage, error.to_string())
            .in_lines()
            .hint("`omniq help configuration` lists all settings")
    }
}
