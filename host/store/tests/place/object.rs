//! Results, events and modules as objects: in a folder, in memory, or in a bucket of S3. The tasks beside them are in
//! SQLite, so that every case about the others can be told, also those that reopen.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::path::Path;
use omniq_conformance::{Factory, Place, Stores};
use omniq_store::object::{ObjectEvents, ObjectModules, ObjectResults, Root};
use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{Durability, ManualClock};

/// Makes places for objects.
#[derive(Debug)]
pub enum Objects {
    /// Folders that go away with them.
    Folder,
    /// This process's memory.
    Memory,
}

#[async_trait]
impl Factory for Objects {
    fn name(&self) -> &'static str {
        "sqlite" // whose tasks they are
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root = match self {
            Self::Folder => Root::folder(folder.path().join("objects"), Durability::Disk),
            Self::Memory => Ok(Root::of(Arc::new(InMemory::new()), Path::from("a/b"), "memory")),
        };
        let root = root.expect("the place can be used");
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
