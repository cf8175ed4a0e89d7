//! Where settings are looked for. Nothing here reads the process: its environment is passed in, so that a test brings
//! its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The start of the names of all our variables.
pub(crate) const PREFIX: &str = "OMNIQ_";
/// Names the file of settings.
pub(crate) const FILE_VARIABLE: &str = "OMNIQ_CONFIG";
/// What the file is called where nothing names it.
pub const FILE_NAME: &str = "omniq.toml";

/// What settings are read from: flags over variables over a file over the defaults.
///
/// ```
/// use omniq::config::{Config, Sources};
///
/// let sources = Sources::new().variable("OMNIQ_TASK_TIMEOUT", "90").flag("--retries", "retry.attempts", "5");
/// let config = Config::load(&sources)?;
/// assert_eq!(config.defaults.timeout.as_secs(), 90);
/// assert_eq!(config.retry.attempts.get(), 5);
/// # Ok::<(), omniq::config::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub(crate) flags: Vec<Flag>,
    pub(crate) variables: BTreeMap<String, OsString>,
    pub(crate) file: Lookup,
}

/// A value that a flag gave.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub name: String,
    pub key: String,
    pub text: String,
}

/// Which file is read.
#[derive(Debug, Clone, Default)]
pub(crate) enum Lookup {
    /// None, whatever the environment says.
    #[default]
    Nothing,
    /// The one that `OMNIQ_CONFIG` names, else `omniq.toml` in this folder if there is one.
    Folder(PathBuf),
    /// This one, which a flag named.
    Named(PathBuf),
}

impl Sources {
    /// Nothing but the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a process started by a person has: its environment, and `omniq.toml` in its working directory.
    pub fn of_process() -> Self {
        Self::new().variables(std::env::vars_os()).folder(".")
    }

    /// With these variables; those that are none of OmniQ's business are dropped. An empty one counts as unset.
    pub fn variables(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let wanted =
            |name: &str| name.starts_with(PREFIX) || ["HOME", "XDG_CACHE_HOME"].contains(&name);
        for (name, value) in variables {
            if let Some(name) = name.to_str().filter(|name| wanted(name)) {
                self.variables.insert(name.to_owned(), value);
            }
        }
        self
    }

    /// With one more variable.
    pub fn variable(self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables([(name.into(), value.into())])
    }

    /// With a value for the setting `key`, such as `log.level`, from a flag called `name`; the last one of a key counts.
    pub fn flag(mut self, name: &str, key: &str, text: impl Into<String>) -> Self {
        self.flags.push(Flag { name: name.to_owned(), key: key.to_owned(), text: text.into() });
        self
    }

    /// With the file that `OMNIQ_CONFIG` names, or else `omniq.toml` in `folder` if there is one.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.file = Lookup::Folder(folder.as_ref().to_owned());
        self
    }

    /// With the settings of this file, which must exist.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Lookup::Named(path.as_ref().to_owned());
        self
    }

    /// With no file, whatever `OMNIQ_CONFIG` says.
    pub fn without_file(mut self) -> Self {
        self.file = Lookup::Nothing;
        self
    }

    /// The file to read and what named it; `None` where there is none.
    pub(crate) fn chosen_file(&self) -> Option<(PathBuf, Option<&'static str>)> {
        match &self.file {
            Lookup::Nothing => None,
            Lookup::Named(path) => Some((path.clone(), Some("--config"))),
            Lookup::Folder(folder) => match self.variables.get(FILE_VARIABLE) {
                Some(path) if !path.is_empty() => Some((path.into(), Some(FILE_VARIABLE))),
                _ => {
                    let path = folder.join(FILE_NAME);
                    // As short as a person would write it.
                    let path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
                    path.exists().then_some((path, None))
                }
            },
        }
    }

    /// The folder for what can be made anew, `omniq` below the user's own one, and the variable that says where that is.
    ///
    /// A relative path is to be ignored, as the XDG base directory specification has it.
    pub(crate) fn user_cache(&self) -> Option<(PathBuf, &'static str)> {
        let absolute =
            |name| self.variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let of_xdg = absolute("XDG_CACHE_HOME").map(|path| (path.join("omniq"), "XDG_CACHE_HOME"));
        of_xdg.or_else(|| Some((absolute("HOME")?.join(".cache/omniq"), "HOME")))
    }
}
