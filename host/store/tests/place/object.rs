//! Results, events and modules as objects: in a folder, in memory, or in a bucket. The tasks beside them are in
//! SQLite, so that every case about the others can be told, also those that reopen.
#![allow(dead_code, reason = "each test uses another part")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
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
    /// Folders of the bucket at this URL, on a server of this process.
    Bucket(&'static str),
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

/// Lets several create a name at the same time, again and again, in the bucket at `url`: exactly one does.
pub async fn creates_once(url: &str) {
    let url = bucket_url(url);
    let clients: Vec<_> = (0..4).map(|_| bucket(&url)).collect();
    for round in 0..20 {
        let create = |(number, client): (usize, &Root)| {
            let (objects, path) = (client.objects.clone(), client.path(&format!("race/{round}")));
            tokio::spawn(async move {
                let bytes = PutPayload::from(number.to_string());
                objects.put_opts(&path, bytes, PutMode::Create.into()).await
            })
        };
        let (mut won, creates) =
            (Vec::new(), join_all(clients.iter().enumerate().map(create)).await);
        for (number, created) in creates.into_iter().enumerate() {
            match created.expect("nobody panics") {
                Ok(_) => won.push(number),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        let [winner] = won[..] else { panic!("round {round}: {won:?} won") };
        let path = clients[0].path(&format!("race/{round}"));
        let there = clients[0].objects.get(&path).await.expect("it is there").bytes().await;
        assert_eq!(there.expect("it can be read"), winner.to_string());
    }
}

/// Lists more names than are in one page of a list, in the bucket at `url`.
pub async fn lists_pages(url: &str) {
    let root = bucket(&bucket_url(url));
    let put = |number: usize| {
        let (objects, path) = (root.objects.clone(), root.path(&format!("many/{number}")));
        async move { objects.put(&path, PutPayload::from_static(b"x")).await.map(drop) }
    };
    for chunk in (0..1200).collect::<Vec<_>>().chunks(50) {
        let puts = join_all(chunk.iter().map(|number| put(*number))).await;
        puts.into_iter().for_each(|put| put.expect("it is written"));
    }
    let many = root.path("many");
    let listed = root.objects.list(Some(&many)).count().await;
    assert_eq!(listed, 1200, "more than a page of 1000");
    let folders = root.objects.list_with_delimiter(Some(&root.prefix)).await.expect("it lists");
    assert_eq!((folders.common_prefixes, folders.objects.len()), (vec![many], 0));
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
            Self::Bucket(url) => bucket(&bucket_url(url)),
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
