//! What is logged: levels, the components they are set for, and the switch that changes them while a process runs.
//!
//! The library writes through `tracing` and never chooses who reads. A program that does (the command line, or one that
//! embeds the queue) makes a filter of [`Levels::directives`], and gives [`LogControl`] a way to replace it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use omniq_sandbox::inspect::nearest::suggestion;
use serde_json::Value as Json;
use tracing::level_filters::LevelFilter;

use crate::config::Log;
use crate::config::value::{Value, choice};

choice! {
    /// From which severity on something is logged.
    pub enum Level {
        /// The story of each task, too.
        Debug = "DEBUG",
        /// The life of the process, too.
        Info = "INFO",
        /// What needs an operator soon, too.
        Warning = "WARNING",
        /// What needs an operator now.
        Error = "ERROR",
        /// Nothing.
        Disabled = "DISABLED",
    }
    forms "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `DISABLED`"
}

impl Level {
    /// The same in the words of `tracing`.
    pub fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
            Self::Disabled => LevelFilter::OFF,
        }
    }
}

choice! {
    /// How a line of the log is written.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
    forms "`text` or `json`"
}

choice! {
    /// A part of OmniQ that has a log level of its own.
    pub enum Component {
        /// Enqueueing, and all that no other component has.
        Queue = "queue",
        /// Claims, leases, heartbeats, pools.
        Worker = "worker",
        /// What moves time on: due tasks, dead workers, what is forgotten.
        Scheduler = "scheduler",
        /// The log of what happened to tasks.
        Event = "event",
        /// The storages.
        Store = "store",
        /// Loading and running components.
        Sandbox = "sandbox",
        /// What tasks themselves say.
        Guest = "guest",
        /// Settings.
        Config = "config",
        /// The command line.
        Cli = "cli",
        /// The WebAssembly engine below the sandbox.
        Engine = "engine",
        /// The database clients below the storages.
        Database = "database",
        /// The HTTP and TLS libraries.
        Http = "http",
    }
    forms "a component"
}

impl Component {
    /// What the names of its targets begin with; a target belongs to the component with the longest match.
    pub const fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Queue => &["omniq"],
            Self::Worker => &["omniq::worker", "omniq::pool"],
            Self::Scheduler => &["omniq::scheduler", "omniq::keeper"],
            Self::Event => &["omniq::event"],
            Self::Store => &["omniq_store"],
            Self::Sandbox => &["omniq_sandbox"],
            Self::Guest => &[GUEST_TARGET],
            Self::Config => &["omniq::config"],
            Self::Cli => &["omniq::command"],
            Self::Engine => &["wasmtime", "cranelift"],
            Self::Database => &["sqlx"],
            Self::Http => &["hyper", "rustls", "h2"],
        }
    }

    /// Whether it is ours. Others are as loud as we are only when asked: they talk to their own developers.
    const fn is_ours(self) -> bool {
        !matches!(self, Self::Engine | Self::Database | Self::Http)
    }

    /// The component of a name, or what there is instead.
    fn named(name: &str) -> Result<Self, String> {
        name.parse().map_err(|_: String| {
            let names = || Self::ALL.iter().map(|component| component.name());
            let hint = match suggestion(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
            };
            format!("there is no component `{name}`; {hint}")
        })
    }
}

/// The target of what is said about the log itself. It is heard at every level but `DISABLED`.
pub const LOG_TARGET: &str = "omniq::logging";

/// The target of what guests say.
pub(crate) const GUEST_TARGET: &str = "omniq::task";

/// Levels of single components: a JSON object such as `{"store": "DEBUG", "worker": "INFO"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd)]
pub struct ComponentLevels(pub BTreeMap<Component, Level>);

impl Value for ComponentLevels {
    const FORMS: &'static str =
        "a JSON object such as `{\"store\": \"DEBUG\", \"worker\": \"INFO\"}`";

    fn read(text: &str) -> Result<Self, String> {
        let object: serde_json::Map<String, Json> = serde_json::from_str(text)
            .map_err(|error| format!("it is no JSON object ({error})"))?;
        let mut levels = BTreeMap::new();
        for (name, level) in object {
            let component = Component::named(&name)?;
            let read = level.as_str().and_then(|level| Level::from_str(level).ok());
            let level = read.ok_or_else(|| {
                format!("the level of `{name}` is {level}, which is not {}", Level::FORMS)
            })?;
            levels.insert(component, level);
        }
        Ok(Self(levels))
    }

    fn show(&self) -> String {
        self.json().to_string()
    }

    fn json(&self) -> Json {
        self.0
            .iter()
            .map(|(component, level)| (component.name().to_owned(), Json::from(level.name())))
            .collect()
    }
}

/// Who is heard from which level on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// Whether nobody is heard at all.
    pub disabled: bool,
    /// The level of all components that are not among [`Self::components`].
    pub general: Level,
    /// Levels of single components.
    pub components: BTreeMap<Component, Level>,
}

impl Levels {
    /// As configured; `general` holds where nobody set a level.
    pub fn new(log: &Log, general: Level) -> Self {
        Self {
            disabled: log.disable,
            general: log.level.unwrap_or(general),
            components: log.components.0.clone(),
        }
    }

    /// The level of a component.
    pub fn of(&self, component: Component) -> Level {
        if self.disabled {
            return Level::Disabled;
        }
        let general =
            if component.is_ours() { self.general } else { self.general.max(Level::Warning) };
        self.components.get(&component).copied().unwrap_or(general)
    }

    /// The level of code that is in no component: that of other people's code.
    pub fn elsewhere(&self) -> LevelFilter {
        if self.disabled { LevelFilter::OFF } else { self.general.max(Level::Warning).filter() }
    }

    /// Prefixes of targets and the level of each; the longest one that fits a target counts, [`Self::elsewhere`] where
    /// none does.
    pub fn directives(&self) -> Vec<(&'static str, LevelFilter)> {
        let of_components = Component::ALL.iter().flat_map(|component| {
            let level = self.of(*component).filter();
            component.targets().iter().map(move |target| (*target, level))
        });
        let is_silent = self.disabled || self.general == Level::Disabled;
        let own = if is_silent { LevelFilter::OFF } else { LevelFilter::INFO };
        of_components.chain([(LOG_TARGET, own)]).collect()
    }
}

/// As a person would say it: `INFO, store DEBUG`.
impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.disabled {
            return f.write_str("DISABLED");
        }
        self.general.fmt(f)?;
        self.components.iter().try_for_each(|(component, level)| write!(f, ", {component} {level}"))
    }
}

/// Changes log levels while the process runs. Clones are the same switch.
#[derive(Clone)]
pub struct LogControl(Arc<Shared>);

struct Shared {
    levels: Mutex<Levels>,
    apply: Box<dyn Fn(&Levels) + Send + Sync>,
}

impl LogControl {
    /// A switch over what `apply` does with new levels; they are in force when it returns. It is not called at once:
    /// `levels` are in force already.
    pub fn new(levels: Levels, apply: impl Fn(&Levels) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { levels: Mutex::new(levels), apply: Box::new(apply) }))
    }

    /// The levels in force.
    pub fn levels(&self) -> Levels {
        self.lock().clone()
    }

    /// Gives a component a level of its own.
    pub fn set(&self, component: Component, level: Level) {
        self.change(|levels| {
            levels.components.insert(component, level);
        });
    }

    /// Takes a component's own level away: the general one holds.
    pub fn reset(&self, component: Component) {
        self.change(|levels| {
            levels.components.remove(&component);
        });
    }

    /// Sets the level of all components that have none of their own.
    pub fn set_general(&self, level: Level) {
        self.change(|levels| levels.general = level);
    }

    /// Replaces all levels.
    pub fn replace(&self, new: Levels) {
        self.change(|levels| *levels = new);
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) {
        // The lock is held until they are in force, so that the last change is the one that stays.
        let mut levels = self.lock();
        change(&mut levels);
        (self.0.apply)(&levels);
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        // Levels are replaced in one step: a panic elsewhere leaves nothing half-done.
        self.0.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogControl").field(&self.levels()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn levels(general: Level, components: &[(Component, Level)]) -> Levels {
        Levels { disabled: false, general, components: components.iter().copied().collect() }
    }

    /// The level of a target, as the longest directive has it.
    fn level_of(levels: &Levels, target: &str) -> LevelFilter {
        let directives = levels.directives();
        let fitting = directives.iter().filter(|(prefix, _)| target.starts_with(prefix));
        fitting
            .max_by_key(|(prefix, _)| prefix.len())
            .map_or(levels.elsewhere(), |(_, level)| *level)
    }

    #[test]
    fn the_level_of_a_target_is_that_of_its_component() {
        let loud = levels(Level::Debug, &[]);
        let one = levels(
            Level::Warning,
            &[(Component::Worker, Level::Debug), (Component::Database, Level::Info)],
        );
        let off = Levels { disabled: true, ..one.clone() };
        for (levels, target, expected) in [
            (&loud, "omniq::queue::enqueue", LevelFilter::DEBUG),
            (&loud, "omniq_store::sqlite", LevelFilter::DEBUG),
            (&loud, "sqlx::query", LevelFilter::WARN),
            (&loud, "wasmtime_cranelift::compiler", LevelFilter::WARN),
            (&loud, "mio::poll", LevelFilter::WARN),
            (&one, "omniq::worker::lease", LevelFilter::DEBUG),
            (&one, "omniq::pool", LevelFilter::DEBUG),
            (&one, "omniq::queue", LevelFilter::WARN),
            (&one, "omniq_store", LevelFilter::WARN),
            (&one, "sqlx::query", LevelFilter::INFO),
            (&one, LOG_TARGET, LevelFilter::INFO),
            (&off, "omniq::worker", LevelFilter::OFF),
            (&off, LOG_TARGET, LevelFilter::OFF),
            (&off, "mio::poll", LevelFilter::OFF),
            (
                &levels(Level::Disabled, &[(Component::Store, Level::Error)]),
                "omniq_store",
                LevelFilter::ERROR,
            ),
            (&levels(Level::Disabled, &[]), "mio", LevelFilter::OFF),
        ] {
            assert_eq!(level_of(levels, target), expected, "{levels}: {target}");
        }
    }

    #[test]
    fn the_code_of_each_component_answers_to_its_level() {
        use std::any::type_name;

        for (component, target) in [
            (Component::Queue, type_name::<crate::Queue>()),
            (Component::Worker, type_name::<crate::worker::Worker>()),
            (Component::Worker, type_name::<crate::pool::ThreadPool>()),
            (Component::Scheduler, type_name::<crate::keeper::Keeper>()),
            (Component::Event, type_name::<crate::event::Sink>()),
            (Component::Store, type_name::<omniq_store::Session>()),
            (Component::Sandbox, type_name::<omniq_sandbox::Sandbox>()),
            (Component::Guest, GUEST_TARGET),
            (Component::Config, type_name::<crate::config::Config>()),
        ] {
            let loud = levels(Level::Error, &[(component, Level::Debug)]);
            assert_eq!(level_of(&loud, target), LevelFilter::DEBUG, "{component}: {target}");
        }
    }

    #[test]
    fn no_two_components_share_a_target() {
        let mut targets: Vec<_> =
            Component::ALL.iter().flat_map(|component| component.targets()).collect();
        let count = targets.len();
        targets.sort_unstable();
        targets.dedup();
        assert_eq!(targets.len(), count);
    }

    #[test]
    fn component_levels_are_a_json_map() {
        let read = |text: &str| ComponentLevels::read(text);
        let two = read(r#"{"store":"debug","WORKER":"INFO"}"#).unwrap();
        assert_eq!(
            two.0,
            levels(
                Level::Info,
                &[(Component::Store, Level::Debug), (Component::Worker, Level::Info)]
            )
            .components
        );
        assert_eq!(read(&two.show()), Ok(two));
        assert_eq!(read("{}"), Ok(ComponentLevels::default()));
        for (text, says) in [
            (r#"{"stor":"DEBUG"}"#, "there is no component `stor`; did you mean `store`?"),
            (r#"{"zzzzzz":"DEBUG"}"#, "there are queue, worker, "),
            (r#"{"store":"LOUD"}"#, "the level of `store` is \"LOUD\", which is not `DEBUG`"),
            (r#"{"store":3}"#, "the level of `store` is 3"),
            ("[]", "no JSON object"),
            ("store=DEBUG", "no JSON object"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_change_is_in_force_when_it_returns() {
        let (sender, applied) = mpsc::channel();
        let control = LogControl::new(levels(Level::Info, &[]), move |levels| {
            sender.send(levels.clone()).unwrap();
        });
        let other = control.clone();
        assert!(applied.try_recv().is_err(), "nothing is applied before something changes");
        for (change, expected) in [
            (
                &(|control: &LogControl| control.set(Component::Store, Level::Debug))
                    as &dyn Fn(&LogControl),
                "INFO, store DEBUG",
            ),
            (&|control| control.set_general(Level::Error), "ERROR, store DEBUG"),
            (&|control| control.reset(Component::Store), "ERROR"),
            (
                &|control| control.replace(Levels { disabled: true, ..levels(Level::Info, &[]) }),
                "DISABLED",
            ),
        ] {
            change(&other);
            assert_eq!(applied.try_recv().unwrap().to_string(), expected);
            assert_eq!(control.levels().to_string(), expected);
        }
    }
}
