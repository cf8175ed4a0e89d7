//! Every store that the settings name, opened and asked: what `storage check` and `doctor` tell of.
//!
//! Nothing is made that is not there, and one store that fails hides no other.

use std::time::{Duration, Instant};

use omniq::config::{Config, StorageKind, StorageUrl};
use omniq::{Stores, Timestamp};
use omniq_model::{TaskId, Token};
use omniq_store::guard::{self, GuardState};
use omniq_store::{
    Durability, Error, ErrorKind, Options, Report, ResultKey, open_events, open_modules,
    open_results, open_tasks,
};

use crate::output::problem::chain;
use crate::queue;

/// A store that the settings name.
#[derive(Debug, Clone)]
pub struct Place {
    /// What is kept there.
    pub role: &'static str,
    /// Where it is; passwords are hidden when it is shown.
    pub url: StorageUrl,
    /// What kind of storage that is.
    pub kind: StorageKind,
}

impl Place {
    /// Whether opening it would make it.
    fn is_absent(&self) -> bool {
        match self.url.folder_path() {
            // Only tasks leave a mark. The others make nothing but the folder until there is something to keep.
            Some(folder) if self.role != "tasks" => matches!(folder.try_exists(), Ok(false)),
            _ => !queue::has_tasks(&self.url),
        }
    }
}

/// What was found there.
#[derive(Debug)]
pub enum Seen {
    /// A file or a folder that is not there yet.
    Absent,
    /// It cannot be used: why, and what to do.
    Failed { why: String, fix: String },
    /// It answers.
    Answers(Box<Answers>),
}

/// A store that answers.
#[derive(Debug)]
pub struct Answers {
    /// The backend's name.
    pub backend: &'static str,
    /// How long the answer took.
    pub took: Duration,
    /// What it says about itself; `None` where a backend says nothing of the kind.
    pub report: Option<Report>,
    /// What stands in front of it.
    pub guard: Option<GuardState>,
    /// What its clock shows, where it has one.
    pub now: Option<Timestamp>,
}

/// The stores that the settings name. What is kept nowhere is left out.
pub fn places(config: &Config) -> Vec<Place> {
    let of = |role, url: &StorageUrl, kind| Place { role, url: url.clone(), kind };
    let mut places = vec![of("tasks", &config.tasks.url, config.tasks.kind)];
    if config.results.kind != StorageKind::Memory {
        places.push(of("results", &config.results.url, config.results.kind));
    }
    if config.events.kind != StorageKind::Memory {
        places.push(of("events", &config.events.url, config.events.kind));
    }
    let (url, kind) = match &config.objects.url {
        Some(url) => (url, url.kind().unwrap_or(StorageKind::File)),
        None => (&config.tasks.url, config.tasks.kind),
    };
    places.push(of("modules", url, kind));
    places
}

/// Opens a store and asks it.
pub async fn look(place: &Place, config: &Config) -> Seen {
    if place.is_absent() {
        return Seen::Absent;
    }
    let began = Instant::now();
    let options = Stores::options(config);
    match ask(place, &options).await {
        Ok(answers) => Seen::Answers(Box::new(Answers { took: began.elapsed(), ..answers })),
        Err(error) => Seen::Failed { why: chain(&error), fix: fix(&error, place) },
    }
}

async fn ask(place: &Place, options: &Options) -> Result<Answers, Error> {
    let url = place.url.as_str();
    let mut answers =
        Answers { backend: "", took: Duration::ZERO, report: None, guard: None, now: None };
    match place.role {
        "tasks" => {
            let store = open_tasks(url, options).await?;
            answers.backend = store.caps().name;
            answers.now = Some(store.now().await?);
            if let Some(admin) = store.admin() {
                answers.report = Some(admin.check().await?);
            }
            answers.guard = guard_of(place.role, answers.backend);
            store.close().await?;
        }
        "results" => {
            let store = open_results(url, options).await?;
            answers.backend = store.name();
            // One that nobody has: the store has to look.
            let token = Token { fence: 0, nonce: 0 };
            store.get(&[ResultKey { task: TaskId::from_bytes([0; 16]), token }]).await?;
            answers.guard = guard_of(place.role, answers.backend);
            store.close().await?;
        }
        "events" => {
            let store = open_events(url, options).await?;
            answers.backend = store.name();
            store.watermark().await?;
            answers.guard = guard_of(place.role, answers.backend);
            store.close().await?;
        }
        _ => {
            let store = open_modules(url, options).await?;
            answers.backend = store.name();
            store.list().await?;
            answers.guard = guard_of(place.role, answers.backend);
            store.close().await?;
        }
    }
    Ok(answers)
}

/// The guard in front of a store that is open.
fn guard_of(role: &str, backend: &str) -> Option<GuardState> {
    guard::states().into_iter().find(|state| (state.role, state.backend) == (role, backend))
}

/// What to do about an error, where it does not say so itself.
fn fix(error: &Error, place: &Place) -> String {
    let server = !matches!(place.kind, StorageKind::Sqlite | StorageKind::Memory);
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::NotApplied if server => {
            format!("see that the server of `{}` runs and can be reached from here", place.url)
        }
        ErrorKind::Unavailable | ErrorKind::NotApplied => {
            "see which other process holds it, and try again".into()
        }
        ErrorKind::Full => "free some space, or let finished tasks expire sooner".into(),
        ErrorKind::Fenced => "try again: another process owns it now".into(),
        _ => "see `omniq config show --origin` for where its address comes from".into(),
    }
}

/// How much a level promises: more is better.
pub fn rank(durability: Durability) -> u8 {
    match durability {
        Durability::Disk => 2,
        Durability::Os => 1,
        Durability::None => 0,
    }
}

/// The word for a level.
pub fn level(durability: Durability) -> &'static str {
    match durability {
        Durability::Disk => "disk",
        Durability::Os => "os",
        Durability::None => "none",
    }
}
