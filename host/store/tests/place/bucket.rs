//! A place in a bucket: the log of tasks as objects, in this process's memory, behind a layer that a test disturbs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use omniq_conformance::{Factory, Place, Stores};
use omniq_store::ManualClock;
use omniq_store::object::{Config, ObjectEvents, ObjectModules, ObjectResults, ObjectTasks, Root};

/// How a bucket's settings are in tests: nobody waits longer than needed.
pub fn config(objects: Arc<dyn ObjectStore>, clock: &ManualClock) -> Config {
    let root = Root::of(objects, Path::from("a/b"), "memory");
    Config {
        clock: Arc::new(clock.clone()),
        image_every: 4096,
        poll: Duration::from_millis(2),
        lease: Duration::from_secs(2),
        ..Config::new(root)
    }
}

/// Makes places in buckets of their own.
#[derive(Debug)]
pub struct Buckets;

#[async_trait]
impl Factory for Buckets {
    fn name(&self) -> &'static str {
        "object"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        Arc::new(BucketPlace { objects: Arc::new(InMemory::new()), clock })
    }
}

#[derive(Debug)]
struct BucketPlace {
    objects: Arc<dyn ObjectStore>,
    clock: ManualClock,
}

#[async_trait]
impl Place for BucketPlace {
    async fn open(&self) -> Stores {
        let config = config(Arc::clone(&self.objects), &self.clock);
        let root = config.root.clone();
        let clock = Arc::new(self.clock.clone());
        Stores {
            tasks: Arc::new(ObjectTasks::open(config).await.expect("tasks open")),
            results: Some(Arc::new(ObjectResults::new(root.clone(), clock))),
            events: Some(Arc::new(ObjectEvents::new(root.clone()))),
            modules: Some(Arc::new(ObjectModules::new(root))),
        }
    }
}
