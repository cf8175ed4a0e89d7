//! Results, events and modules as objects: in a folder, in memory, or in a bucket of S3. The tasks beside them are in
//! SQLite, so that every case about the others can be told, also those that reopen.
#![allow(dead_code, reason = "each test uses another part")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::path::Path;
use omniq_conformance::{CASES, Factory, Passed, Place, Stores, run_case};
use omniq_store::object::{ObjectEvents, ObjectModules, ObjectResults, Root};
use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{Durability, ManualClock, Options};

/// Makes places for objects.
#[derive(Debug)]
pub enum Objects {
    /// Folders that go away with them.
    Folder,
    /// This process's memory.
    Memory,
    /// Folders of a bucket of this process's S3 server.
    Bucket,
}

/// Runs the cases about everything but tasks, each on a fresh place.
pub async fn hold(factory: &dyn Factory) {
    let groups = ["results::", "events::", "modules::"];
    let cases = CASES.iter().filter(|case| groups.iter().any(|group| case.name.starts_with(group)));
    let (mut held, mut failed) = (0, Vec::new());
    for case in cases {
        match run_case(factory, case.name).await {
            Ok(Passed::Held) => held += 1,
            other => failed.push(format!("{}: {other:?}", case.name)),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(held > 20, "only {held} cases");
}

/// The URL of a server's bucket, with a folder in it that nobody else has.
pub fn bucket_url(url: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = NEXT.fetch_add(1, Ordering::Relaxed);
    url.replacen('?', &format!("/test-{folder}?"), 1)
}

/// The place of a URL.
pub fn bucket(url: &str) -> Root {
    omniq_store::object::open(url, &Options::default()).expect("the URL is right")
}

/// The place of `url`, by the server that `server` is the URL of.
pub fn through(url: &str, server: &str) -> Root {
    let (place, _) = url.split_once('?').expect("a URL with settings");
    let (_, settings) = server.split_once('?').expect("a URL with settings");
    bucket(&format!("{place}?{settings}"))
}

#[async_trait]
impl Factory for Objects {
    fn name(&self) -> &'static str {
        "sqlite" // whose tasks they are
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root = match self {
            Self::Folder => Root::folder(folder.path().join("objects"), Durability::Disk)
                .expect("the folder can be used"),
            Self::Memory => Root::of(Arc::new(InMemory::new()), Path::from("a/b"), "memory"),
            Self::Bucket => bucket(&bucket_url(omniq_services::s3().url())),
        };
        Arc::new(ObjectPlace {
            root,
            tasks: folder.path().join("tasks.db"),
            clock,
            _folder: folder,
        })
    }
}

#[derive(Debug)]
struct ObjectPlace {
    root: Root,
    tasks: PathBuf,
    clock: ManualClock,
    _folder: tempfile::TempDir,
}

#[async_trait]
impl Place for ObjectPlace {
    async fn open(&self) -> Stores {
        let clock = Arc::new(self.clock.clone());
        let config =
            Config { clock: clock.clone(), durability: Durability::Os, ..Config::new(&self.tasks) };
        Stores {
            tasks: Arc::new(SqliteTasks::open(config).await.expect("tasks open")),
            results: Some(Arc::new(ObjectResults::new(self.root.clone(), clock))),
            events: Some(Arc::new(ObjectEvents::new(self.root.clone()))),
            modules: Some(Arc::new(ObjectModules::new(self.root.clone()))),
        }
    }
}
