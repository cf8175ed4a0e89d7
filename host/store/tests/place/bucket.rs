//! A place in a bucket: the log of tasks as objects, in this process's memory or on a server.
#![allow(dead_code, reason = "each test uses another part")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use omniq_conformance::{Factory, Place, Stores};
use omniq_store::ManualClock;
use omniq_store::object::{Config, ObjectEvents, ObjectModules, ObjectResults, ObjectTasks, Root};

/// How a bucket in memory is opened in tests.
pub fn config(objects: Arc<dyn ObjectStore>, clock: &ManualClock) -> Config {
    settings(Root::of(objects, Path::from("a/b"), "memory"), clock)
}

/// How buckets are opened in tests: nobody waits longer than needed.
pub fn settings(root: Root, clock: &ManualClock) -> Config {
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
pub enum Buckets {
    /// In this process's memory.
    Memory,
    /// Folders of the bucket at this URL, on a server of this process.
    #[cfg(feature = "cloud")]
    Server(&'static str),
}

#[async_trait]
impl Factory for Buckets {
    fn name(&self) -> &'static str {
        "object"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let root = match self {
            Self::Memory => Root::of(Arc::new(InMemory::new()), Path::from("a/b"), "memory"),
            #[cfg(feature = "cloud")]
            Self::Server(url) => folder(url),
        };
        Arc::new(BucketPlace { root, clock })
    }
}

/// A folder that nobody else has in the bucket at `url`.
#[cfg(feature = "cloud")]
pub fn folder(url: &str) -> Root {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = NEXT.fetch_add(1, Ordering::Relaxed);
    let url = url.replacen('?', &format!("/tasks-{folder}?"), 1);
    let opened = omniq_store::object::open(&url, &omniq_store::Options::default());
    // No server here wants time between two writes.
    Root { pace: Duration::ZERO, ..opened.expect("the URL is right") }
}

#[derive(Debug)]
struct BucketPlace {
    root: Root,
    clock: ManualClock,
}

#[async_trait]
impl Place for BucketPlace {
    async fn open(&self) -> Stores {
        let root = self.root.clone();
        let config = settings(root.clone(), &self.clock);
        let clock = Arc::new(self.clock.clone());
        Stores {
            tasks: Arc::new(ObjectTasks::open(config).await.expect("tasks open")),
            results: Some(Arc::new(ObjectResults::new(root.clone(), clock))),
            events: Some(Arc::new(ObjectEvents::new(root.clone()))),
            modules: Some(Arc::new(ObjectModules::new(root))),
        }
    }
}
