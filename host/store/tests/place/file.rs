//! A place in a folder of its own: everything in files, without a server.

use std::sync::Arc;

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_store::object::{Config, ObjectEvents, ObjectModules, ObjectResults, ObjectTasks, Root};
use omniq_store::{Durability, ManualClock};

/// Makes places in folders that go away with them.
#[derive(Debug)]
pub struct Files(pub Durability);

#[async_trait]
impl Factory for Files {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Arc::new(FilePlace { folder, clock, durability: self.0 })
    }
}

#[derive(Debug)]
struct FilePlace {
    folder: tempfile::TempDir,
    clock: ManualClock,
    durability: Durability,
}

#[async_trait]
impl Place for FilePlace {
    async fn open(&self) -> Stores {
        let root = Root::folder(self.folder.path(), self.durability).expect("the folder opens");
        let clock = Arc::new(self.clock.clone());
        // An image after every few entries, so that most of what is opened again is one.
        let config = Config {
            clock: clock.clone(),
            durability: self.durability,
            image_every: 4096,
            ..Config::new(root.clone())
        };
        let tasks = ObjectTasks::open(config).await.expect("tasks open");
        Stores {
            tasks: Arc::new(tasks),
            results: Some(Arc::new(ObjectResults::new(root.clone(), clock))),
            events: Some(Arc::new(ObjectEvents::new(root.clone()))),
            modules: Some(Arc::new(ObjectModules::new(root))),
        }
    }
}
