//! The queue that a command works on: opened by the settings, used on a runtime of this thread, and closed at the end.

use std::error::Error as _;
use std::future::Future;
use std::path::Path;
use std::str::FromStr;

use omniq::config::{Config, StorageKind, StorageUrl};
use omniq::{Error, Filter, Queue, StoreFailure, TaskId};
use omniq_model::Kind;
use tokio::runtime::Builder;

use crate::output::ended;
use crate::output::problem::{Problem, chain};
use crate::settings::{Life, Opened, SettingArgs, StoreArgs};

/// Whether a command may make the queue it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// There must be one: a command that looks at tasks would only find that there are none.
    Required,
    /// It is made if there is none.
    Made,
}

/// Runs `work` on the queue that the settings describe, and closes it.
///
/// # Errors
/// A setting is wrong, the queue cannot be opened, or the work failed.
pub fn with<F, T>(
    settings: &SettingArgs,
    store: &StoreArgs,
    presence: Presence,
    work: impl FnOnce(Queue) -> F,
) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let opened = settings.open(store, Life::Command)?;
    block_on(async {
        let queue = open(opened, presence).await?;
        let done = work(queue.clone()).await;
        let closed = queue.close().await;
        let done = done?;
        closed?;
        Ok(done)
    })
}

/// Opens the queue.
///
/// # Errors
/// It cannot be opened, or is not there.
pub async fn open(opened: Opened, presence: Presence) -> Result<Queue, Problem> {
    check_presence(&opened.config, presence)?;
    Ok(Queue::open(opened.config).await?)
}

/// Checks that there is a queue where one is required.
///
/// # Errors
/// Its file or folder is not there, or the folder holds no tasks.
pub fn check_presence(config: &Config, presence: Presence) -> Result<(), Problem> {
    let url = &config.tasks.url;
    let place = url.sqlite_path().or_else(|| url.folder_path());
    match place {
        Some(path) if presence == Presence::Required && !has_tasks(url) => Err(absent(path)),
        _ => Ok(()),
    }
}

/// Whether tasks are kept there, as far as this host can tell without opening anything: of a server, and of what cannot be
/// looked into, opening it has to tell.
pub fn has_tasks(url: &StorageUrl) -> bool {
    match (url.sqlite_path(), url.folder_path()) {
        (Some(file), _) => file.exists(),
        (None, Some(folder)) => was_owned(folder),
        (None, None) => true,
    }
}

/// Whether somebody has kept tasks in a folder; what is no folder at all is for the store to refuse.
fn was_owned(folder: &Path) -> bool {
    // Written by the first owner, before any task.
    const MARK: &str = "tasks/meta";
    folder.join(MARK).try_exists().unwrap_or(true)
}

/// Runs a future on this thread.
///
/// # Errors
/// Those of the future, or the runtime cannot be made.
pub fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
        Problem::new(Kind::Host, format!("the runtime cannot be started: {error}"))
    })?;
    runtime.block_on(work)
}

/// The file the tasks are in, if they are in one.
pub fn file_of(config: &Config) -> Option<&Path> {
    if config.tasks.kind == StorageKind::Sqlite { config.tasks.url.sqlite_path() } else { None }
}

fn absent(path: &Path) -> Problem {
    let text = format!("there is no queue at `{}`", path.display());
    Problem::new(Kind::Unavailable, text).hint(
        "push a module to make one with `omniq push FILE`, start one with `omniq dev FILE`, or name another with `--store`",
    )
}

/// A task as it is named on a command line: by its id, or by the last eight digits of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskRef {
    /// The whole id.
    Id(TaskId),
    /// Its last eight digits, in lower case.
    Tail(String),
}

/// Digits of the short form of an id.
pub const TAIL: usize = 8;
/// How many tasks are looked through for a short id, the newest first.
const LOOKED_THROUGH: usize = 100_000;

impl FromStr for TaskRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == TAIL && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Tail(text.to_ascii_lowercase()));
        }
        text.parse().map(Self::Id).map_err(|_| {
            format!("`{text}` is not the id of a task; write all of it, or its last {TAIL} digits")
        })
    }
}

impl TaskRef {
    /// The id that is meant.
    ///
    /// # Errors
    /// There is no such task, or several.
    pub async fn find(&self, queue: &Queue) -> Result<TaskId, Problem> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Tail(tail) => find_tail(queue, tail).await,
        }
    }
}

async fn find_tail(queue: &Queue, tail: &str) -> Result<TaskId, Problem> {
    const PAGE: usize = 1000;
    let (mut found, mut before, mut seen) = (Vec::new(), None, 0);
    loop {
        let page = queue.list(&Filter::default(), before, PAGE).await?;
        seen += page.items.len();
        found.extend(page.items.iter().map(|info| info.id).filter(|id| short(*id) == tail));
        before = page.next;
        if before.is_none() || seen >= LOOKED_THROUGH {
            break;
        }
    }
    match found[..] {
        [id] => Ok(id),
        [] => {
            let text = format!("there is no task `…{tail}` among the newest {seen}");
            Err(Problem::new(Kind::NotFound, text)
                .hint("`omniq task list` shows the newest ones; older ones go by their whole id"))
        }
        _ => {
            let all: Vec<_> = found.iter().map(|id| format!("`{id}`")).collect();
            let text = format!("`{tail}` can be several tasks: {}", all.join(", "));
            Err(Problem::new(Kind::Conflict, text).hint("write all of the id"))
        }
    }
}

/// The short form of an id.
pub fn short(id: TaskId) -> String {
    let text = id.to_string();
    text[text.len() - TAIL..].to_owned()
}

impl From<omniq_store::Error> for Problem {
    fn from(error: omniq_store::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::NoResult(ended) => return ended::problem(*ended),
            Error::Component(error) => return error.into(),
            Error::Config(error) => return error.into(),
            error => error,
        };
        let problem = Self::new(error.kind(), chain(&error)).passing(error.is_retryable());
        match &error {
            Error::NoModule { .. } => problem.hint("`omniq module list` shows all there are"),
            Error::NoFunction { module, .. } | Error::Arguments { function: module, .. } => {
                let module = module.split(' ').next().unwrap_or(module);
                problem.hint(format!(
                    "`omniq module show {module}` lists its functions with their types"
                ))
            }
            Error::WaitTimeout { id, .. } => {
                problem.hint(format!("wait for it with `omniq result {id} --wait`"))
            }
            Error::VersionConflict { .. } => {
                problem.hint("give it another version with `--module-version`, or none")
            }
            Error::Lost(id) => problem.hint(format!(
                "enqueue it again; `omniq task show {id}` has what it was called with"
            )),
            Error::Store(StoreFailure { error, task: Some(id), .. }) if error.source().is_some() => problem.hint(format!(
                "the task may be in the queue all the same: `omniq task show {id}` tells; if it is not, repeat the command"
            )),
            Error::Store(failure) if failure.error.source().is_some() => problem
                .hint("the same command may be repeated; `omniq doctor` looks for what is wrong"),
            _ => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_whole_or_by_its_end() {
        let id = "0198c6a2-7c1e-7d3a-9b1f-5d2f6c3e8a10";
        assert_eq!(id.parse(), Ok(TaskRef::Id(id.parse().unwrap())));
        assert_eq!("6C3E8A10".parse(), Ok(TaskRef::Tail("6c3e8a10".into())));
        assert_eq!(short(id.parse().unwrap()), "6c3e8a10");
        for text in ["", "6c3e8a1", "6c3e8a1g", "0198c6a2"[..7].as_ref()] {
            assert!(text.parse::<TaskRef>().unwrap_err().contains("is not the id"), "{text}");
        }
    }

    #[test]
    fn a_folder_has_tasks_once_somebody_has_owned_it() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("used/tasks")).unwrap();
        std::fs::write(place.path().join("used/tasks/meta"), "").unwrap();
        std::fs::create_dir(place.path().join("empty")).unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        for (path, expected) in [("used", true), ("empty", false), ("none", false), ("file", true)]
        {
            assert_eq!(was_owned(&place.path().join(path)), expected, "{path}");
        }
    }
}
