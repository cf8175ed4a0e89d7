//! Results, events and modules where listings are late: what is new is seen later, and nothing is ever wrong. And where a
//! name is said to be taken that is not.
#![cfg(all(feature = "object", feature = "sqlite"))]

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use omniq_model::{Digest, EventKind, Module, Payload, TaskEvent, TaskId, Timestamp, Token};
use omniq_store::object::{ObjectEvents, ObjectModules, ObjectResults, Root};
use omniq_store::{
    ErrorKind, EventFilter, EventStore as _, ManualClock, ModuleStore as _, Pushed, ResultKey,
    ResultStore as _, StagedResult,
};

/// Objects in memory whose listings stand still from when they are frozen.
#[derive(Debug, Default)]
struct Stale {
    inner: InMemory,
    frozen: Mutex<Option<Vec<ObjectMeta>>>,
    /// How many writes are answered as S3 does (409) where another one of the same name is under way.
    conflicts: AtomicUsize,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stale")
    }
}

impl Stale {
    async fn freeze(&self) {
        let all = self.inner.list(None).try_collect().await.expect("memory is listed");
        *self.frozen.lock().expect("nothing panics while it holds it") = Some(all);
    }

    fn thaw(&self) {
        *self.frozen.lock().expect("nothing panics while it holds it") = None;
    }
}

#[async_trait]
impl ObjectStore for Stale {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.conflicts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            let (path, source) = (at.to_string(), "409 ConditionalRequestConflict".into());
            return Err(object_store::Error::AlreadyExists { path, source });
        }
        self.inner.put_opts(at, what, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(which)
    }

    fn list(&self, folder: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let frozen = self.frozen.lock().expect("nothing panics while it holds it").clone();
        let Some(frozen) = frozen else { return self.inner.list(folder) };
        let folder = folder.cloned().unwrap_or_default();
        let inside = move |meta: &ObjectMeta| meta.location.prefix_matches(&folder);
        stream::iter(frozen.into_iter().filter(inside).map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, folder: Option<&Path>) -> Result<ListResult> {
        let frozen = self.frozen.lock().expect("nothing panics while it holds it").clone();
        let Some(frozen) = frozen else { return self.inner.list_with_delimiter(folder).await };
        let there = InMemory::new();
        for meta in frozen {
            there.put_opts(&meta.location, PutPayload::new(), PutOptions::default()).await?;
        }
        there.list_with_delimiter(folder).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

fn place() -> (Arc<Stale>, Root) {
    let objects = Arc::<Stale>::default();
    let root = Root::of(objects.clone(), Path::from("x"), "stale");
    (objects, root)
}

fn module(version: &str, fill: u8) -> Module {
    Module {
        name: "m".parse().expect("a name"),
        version: version.parse().expect("a version"),
        digest: Digest::from_sha256([fill; 32]),
        size: 1,
        functions: Vec::new(),
        command: false,
        capabilities: Vec::new(),
        pushed: Timestamp::default(),
        unknown: Default::default(),
    }
}

#[tokio::test]
async fn a_version_is_decided_without_listings() {
    let (objects, root) = place();
    let modules = ObjectModules::new(root);
    objects.freeze().await;
    assert_eq!(modules.push(module("1", 1), vec![1]).await.unwrap(), Pushed::Created);
    let there = Digest::from_sha256([1; 32]);
    assert_eq!(modules.push(module("1", 2), vec![2]).await.unwrap(), Pushed::Conflict(there));
    let (name, version) = ("m".parse().unwrap(), "1".parse().unwrap());
    assert!(modules.find(&name, Some(&version)).await.unwrap().is_some());
    assert_eq!(modules.bytes(&there).await.unwrap(), None, "its bytes are seen later");
    objects.thaw();
    assert_eq!(modules.bytes(&there).await.unwrap(), Some(vec![1]));
    assert_eq!(modules.bytes(&Digest::from_sha256([2; 32])).await.unwrap(), None);
}

#[tokio::test]
async fn values_are_read_at_once_and_forgotten_late_but_never_early() {
    let (objects, root) = place();
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let results = ObjectResults::new(root, Arc::new(clock.clone()));
    objects.freeze().await;
    let key = ResultKey { task: TaskId::derived(&[b"t"]), token: Token { fence: 1, nonce: 1 } };
    let ttl = Duration::from_secs(5);
    let staged = StagedResult { key, value: Payload::raw(*b"value"), ttl: ttl.into() };
    results.put(vec![staged.clone()]).await.unwrap();
    assert_eq!(results.get(&[key]).await.unwrap(), [Some(staged.value)]);
    clock.advance(ttl * 2);
    assert_eq!(results.purge(9).await.unwrap(), 0, "its list is not seen yet");
    objects.thaw();
    clock.advance(Duration::from_secs(60));
    assert_eq!(results.purge(9).await.unwrap(), 1);
    assert_eq!(results.get(&[key]).await.unwrap(), [None]);
}

#[tokio::test]
async fn the_mark_of_the_repair_does_not_go_back_and_events_are_seen_once() {
    let (objects, root) = place();
    let events = ObjectEvents::new(root);
    let at =
        |seconds: u64| Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(seconds);
    let task = TaskId::derived(&[b"t"]);
    events.set_watermark((at(10), task)).await.unwrap();
    objects.freeze().await;
    for seconds in [20, 15] {
        events.set_watermark((at(seconds), task)).await.unwrap(); // it sees neither
    }
    let end = TaskEvent {
        task,
        fence: 1,
        kind: EventKind::Succeeded,
        at: at(1),
        lane: Default::default(),
        attempt: 1,
        session: None,
        error: None,
        micros: 0,
        missing: 0,
        what: String::new(),
        began: None,
        unknown: Default::default(),
    };
    for _ in 0..3 {
        events.append(vec![end.clone()]).await.unwrap();
        let seen = events.query(&EventFilter::default(), None, 9).await.unwrap();
        assert!(seen.is_empty(), "it is written and not listed yet");
    }
    objects.thaw();
    assert_eq!(events.watermark().await.unwrap(), (at(20), task));
    let seen = events.query(&EventFilter::default(), None, 9).await.unwrap();
    assert_eq!(seen.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), [end]);
}

#[tokio::test]
async fn a_name_that_is_only_said_to_be_taken_is_written_by_the_next_try() {
    let (objects, root) = place();
    let results = ObjectResults::new(root, Arc::new(ManualClock::new(Timestamp::default())));
    let key = ResultKey { task: TaskId::derived(&[b"t"]), token: Token { fence: 1, nonce: 1 } };
    let ttl = Duration::from_secs(5).into();
    let staged = StagedResult { key, value: Payload::raw(*b"value"), ttl };
    objects.conflicts.store(1, Ordering::Relaxed);
    let error = results.put(vec![staged.clone()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    results.put(vec![staged.clone()]).await.unwrap();
    assert_eq!(results.get(&[key]).await.unwrap(), [Some(staged.value)]);
    objects.conflicts.store(1, Ordering::Relaxed);
    results.put(vec![StagedResult { key, value: Payload::raw(*b"other"), ttl }]).await.unwrap_err();
}
