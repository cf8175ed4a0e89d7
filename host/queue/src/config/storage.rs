//! Which storages the settings stand for: what was left out follows from what was said, and what contradicts is refused.

use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::reader::Reader;
use super::setting::{GivenEvents, GivenResults, GivenTasks};
use super::table::known;
use super::url::{StorageKind, StorageUrl};

/// A storage that was chosen: its URL, and the kind that goes with it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Storage {
    /// What kind of storage it is.
    pub kind: StorageKind,
    /// Where it is. An SQLite file is always written `sqlite:PATH`, memory `memory:`, or as it was given.
    pub url: StorageUrl,
}

impl Storage {
    /// The storage of a URL whose scheme is known.
    fn of(url: StorageUrl) -> Option<Self> {
        url.kind().map(|kind| Self { kind, url })
    }

    fn sqlite(path: &Path) -> Self {
        Self { kind: StorageKind::Sqlite, url: StorageUrl::sqlite(path) }
    }

    fn memory() -> Self {
        Self { kind: StorageKind::Memory, url: StorageUrl::memory() }
    }
}

/// What was said about one storage, under the keys it was said under.
struct Given {
    kind_key: &'static str,
    url_key: &'static str,
    kind: Option<StorageKind>,
    url: Option<StorageUrl>,
    /// The file of an SQLite storage nobody named a file for.
    file: PathBuf,
}

/// The three storages of a queue.
#[derive(Debug)]
pub(super) struct Storages {
    pub tasks: Storage,
    pub results: Storage,
    pub events: Storage,
}

/// Finds out which storages are meant; `folder` is the one that the default ones lie in.
pub(super) fn resolve(reader: &mut Reader<'_>, folder: &Path) -> Storages {
    let tasks = GivenTasks::read(reader);
    let given = Given {
        kind_key: "tasks.type",
        url_key: "tasks.url",
        kind: tasks.kind,
        url: tasks.url,
        file: folder.join("omniq.db"),
    };
    let default = Storage::sqlite(&given.file);
    let tasks = given.storage(reader, None).unwrap_or_else(|| {
        if reader.origin("data.folder").is_set() {
            follow(reader, "tasks.url", "data.folder");
        }
        default
    });
    let results = resolve_results(reader, &tasks, folder);
    let events = resolve_events(reader, &tasks, folder);
    Storages { tasks, results, events }
}

fn resolve_results(reader: &mut Reader<'_>, tasks: &Storage, folder: &Path) -> Storage {
    let results = GivenResults::read(reader);
    let given = Given {
        kind_key: "results.type",
        url_key: "results.url",
        kind: results.kind,
        url: results.url,
        file: folder.join("results.db"),
    };
    given.storage(reader, Some(tasks)).unwrap_or_else(|| {
        follow(reader, "results.type", "tasks.type");
        follow(reader, "results.url", "tasks.url");
        tasks.clone()
    })
}

fn resolve_events(reader: &mut Reader<'_>, tasks: &Storage, folder: &Path) -> Storage {
    let beside = match (tasks.kind, tasks.url.sqlite_path()) {
        (_, Some(path)) => Storage::sqlite(&beside(path)),
        (StorageKind::Memory, None) => tasks.clone(),
        _ => Storage::sqlite(&tasks.url.folder_path().unwrap_or(folder).join("events.db")),
    };
    let events = GivenEvents::read(reader);
    let file = beside.url.sqlite_path().map_or_else(|| folder.join("events.db"), Path::to_owned);
    let given = Given {
        kind_key: "events.type",
        url_key: "events.url",
        kind: events.kind,
        url: events.url,
        file,
    };
    let Some(storage) = given.storage(reader, None) else {
        follow(reader, "events.type", "tasks.type");
        follow(reader, "events.url", "tasks.url");
        return beside;
    };
    if matches!(storage.kind, StorageKind::Memory | StorageKind::Redis | StorageKind::Nats) {
        let said = if reader.origin("events.type").is_set() { "events.type" } else { "events.url" };
        let name = reader.origin(said).name(known(said));
        let text = format!(
            "{name} asks for events in `{}`, but events live in `sqlite`, `postgres` or `file`",
            storage.kind
        );
        reader.problem(said, text);
    }
    storage
}

fn follow(reader: &mut Reader<'_>, key: &'static str, leader: &'static str) {
    reader.origins.entry(key).or_insert(Origin::Follows(leader));
}

/// The file of events beside one of tasks: `jobs.db` has `jobs-events.db`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-events");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl Given {
    /// The storage that was asked for; `None` where nothing was said, or nothing that can be.
    ///
    /// A kind alone is enough where `like` is a storage of that kind, or where the kind needs no address.
    fn storage(self, reader: &mut Reader<'_>, like: Option<&Storage>) -> Option<Storage> {
        match (self.kind, self.url.clone()) {
            (None, None) => None,
            (kind, Some(url)) => {
                follow(reader, self.kind_key, self.url_key);
                self.by_url(reader, kind, url)
            }
            (Some(kind), None) => {
                follow(reader, self.url_key, self.kind_key);
                match like {
                    Some(like) if like.kind == kind => Some(like.clone()),
                    _ => self.by_kind(reader, kind),
                }
            }
        }
    }

    fn by_url(
        &self,
        reader: &mut Reader<'_>,
        kind: Option<StorageKind>,
        url: StorageUrl,
    ) -> Option<Storage> {
        let name = reader.origin(self.url_key).name(known(self.url_key));
        match (kind, url.kind()) {
            (Some(kind), Some(found)) if kind != found => {
                let kind_name = reader.origin(self.kind_key).name(known(self.kind_key));
                let text = format!(
                    "{kind_name} says `{kind}`, but {name} is `{url}`, which is `{found}`; the URL alone is enough, drop the type"
                );
                reader.problem(self.kind_key, text);
                None
            }
            (_, Some(StorageKind::Sqlite)) if url.sqlite_path().is_none() => {
                let text = format!(
                    "{name} is `{url}`, which names no file; write `sqlite:PATH`, or `memory:` for what need not last"
                );
                reader.problem(self.url_key, text);
                None
            }
            (_, Some(StorageKind::Sqlite)) if url.as_str().contains('?') => {
                let text =
                    format!("{name} is `{url}`, but `sqlite:PATH` takes no options after a `?`");
                reader.problem(self.url_key, text);
                None
            }
            (_, Some(_)) => Storage::of(url),
            // A plain path, whose kind was said beside it.
            (Some(StorageKind::Sqlite), None) if url.scheme().is_none() => {
                Some(Storage::sqlite(Path::new(url.as_str())))
            }
            (Some(StorageKind::File), None) if url.scheme().is_none() => {
                let url =
                    <StorageUrl as super::value::Value>::read(&format!("file:{}", url.as_str()))
                        .ok()?;
                Storage::of(url)
            }
            (_, None) => {
                let text = format!(
                    "{name} is `{url}`, whose scheme is not known; write `sqlite:PATH`, `memory:`, `file:PATH`, \
                     `postgres://…`, `redis://…` or `nats://…`"
                );
                reader.problem(self.url_key, text);
                None
            }
        }
    }

    fn by_kind(&self, reader: &mut Reader<'_>, kind: StorageKind) -> Option<Storage> {
        match kind {
            StorageKind::Memory => Some(Storage::memory()),
            StorageKind::Sqlite => Some(Storage::sqlite(&self.file)),
            StorageKind::File | StorageKind::Postgres | StorageKind::Redis | StorageKind::Nats => {
                let name = reader.origin(self.kind_key).name(known(self.kind_key));
                let row = known(self.url_key);
                let variable = row.variables.first().copied().unwrap_or(row.key);
                let text = format!(
                    "{name} says `{kind}`, which needs an address: set `{variable}` or `{}` too",
                    row.key
                );
                reader.problem(self.kind_key, text);
                None
            }
        }
    }
}
