//! A bucket that fails: it answers 503, does what it was asked and says that it did not, lists what was there before, or
//! does not answer one of several processes for a while.

#![cfg(feature = "object")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "place/bucket.rs"]
mod place;
#[path = "support/task.rs"]
mod sample;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use omniq_conformance::{Factory, Place, Stores, Stress, stress};
use omniq_model::{Lane, Payload, SessionId, State, TaskId, TaskResult, Timestamp};
use omniq_store::object::{Config, ObjectTasks};
use omniq_store::{End, Enqueued, Filter, How, ManualClock, Result, TaskStore, Want, WorkerInfo};

use self::sample::task;

type Said<T> = object_store::Result<T>;

/// What one process sees of a bucket.
struct Disturbed {
    bucket: Arc<InMemory>,
    /// Of a thousand requests, so many fail before anything is done, and of a thousand writes as many afterwards.
    faults: AtomicU64,
    /// Random, by SplitMix64.
    roll: AtomicU64,
    /// Nothing arrives as long as it is set: requests wait.
    cut: tokio::sync::watch::Sender<bool>,
    /// Milliseconds that an entry of the log takes to be read.
    slow: AtomicU64,
    /// Whoever takes over leaves a mark: reading one fails as long as it is set.
    blind: AtomicBool,
    /// Leaving one waits as long as it is set; counts those who wait.
    held: tokio::sync::watch::Sender<bool>,
    waiting: AtomicUsize,
    /// The next one is left, and nobody is told.
    unsaid: AtomicBool,
    /// Lists show what was there when the folder was listed before.
    stale: AtomicBool,
    lists: Arc<Mutex<HashMap<String, Vec<ObjectMeta>>>>,
}

impl Disturbed {
    fn new(bucket: &Arc<InMemory>, faults: u64, stale: bool) -> Arc<Self> {
        Arc::new(Self {
            bucket: Arc::clone(bucket),
            faults: AtomicU64::new(faults),
            roll: AtomicU64::new(1),
            cut: tokio::sync::watch::Sender::new(false),
            slow: AtomicU64::new(0),
            blind: AtomicBool::new(false),
            held: tokio::sync::watch::Sender::new(false),
            waiting: AtomicUsize::new(0),
            unsaid: AtomicBool::new(false),
            stale: AtomicBool::new(stale),
            lists: Arc::default(),
        })
    }

    fn fails(&self) -> bool {
        let seed = self.roll.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 33) % 1000 < self.faults.load(Ordering::Relaxed)
    }

    async fn pass(&self) -> Said<()> {
        let mut cut = self.cut.subscribe();
        let _ = cut.wait_for(|cut| !*cut).await;
        if self.fails() { Err(unavailable()) } else { Ok(()) }
    }
}

fn unavailable() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: "503 Slow Down".into() }
}

impl fmt::Debug for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disturbed")
    }
}

impl fmt::Display for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disturbed")
    }
}

#[async_trait]
impl ObjectStore for Disturbed {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Said<PutResult> {
        self.pass().await?;
        if location.as_ref().contains("/epoch/") && *self.held.borrow() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = self.held.subscribe().wait_for(|held| !*held).await;
        }
        let unsaid =
            location.as_ref().contains("/epoch/") && self.unsaid.swap(false, Ordering::Relaxed);
        let done = self.bucket.put_opts(location, payload, options).await?;
        // It was done, and nobody is told.
        if unsaid || self.fails() { Err(unavailable()) } else { Ok(done) }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Said<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Said<GetResult> {
        self.pass().await?;
        if location.as_ref().contains("/epoch/") && self.blind.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        if location.as_ref().contains("/log/") {
            tokio::time::sleep(Duration::from_millis(self.slow.load(Ordering::Relaxed))).await;
        }
        self.bucket.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Said<Vec<Bytes>> {
        self.pass().await?;
        self.bucket.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Said<Path>>,
    ) -> BoxStream<'static, Said<Path>> {
        self.bucket.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Said<ObjectMeta>> {
        let folder = prefix.map(ToString::to_string).unwrap_or_default();
        let (bucket, prefix) = (Arc::clone(&self.bucket), prefix.cloned());
        let (lists, stale) = (Arc::clone(&self.lists), self.stale.load(Ordering::Relaxed));
        let fails = self.fails();
        let mut cut = self.cut.subscribe();
        let listed = async move {
            let _ = cut.wait_for(|cut| !*cut).await;
            if fails {
                return Err(unavailable());
            }
            let now: Vec<ObjectMeta> = bucket.list(prefix.as_ref()).try_collect().await?;
            let before = lists.lock().unwrap().insert(folder, now.clone());
            let shown = if stale { before.unwrap_or_default() } else { now };
            Ok(stream::iter(shown.into_iter().map(Ok)))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Said<ListResult> {
        self.pass().await?;
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Said<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}

/// Makes disturbed buckets, whose tasks are all the suite is given.
#[derive(Debug)]
struct Disturbances;

#[async_trait]
impl Factory for Disturbances {
    fn name(&self) -> &'static str {
        "object"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        Arc::new(DisturbedPlace(Disturbed::new(&Arc::default(), 30, true), clock))
    }
}

#[derive(Debug)]
struct DisturbedPlace(Arc<Disturbed>, ManualClock);

#[async_trait]
impl Place for DisturbedPlace {
    async fn open(&self) -> Stores {
        let tasks = loop {
            let config = place::config(Arc::clone(&self.0) as _, &self.1);
            match ObjectTasks::open(config).await {
                Ok(tasks) => break tasks,
                Err(error) => assert!(error.kind().is_passing(), "{error:?}"),
            }
        };
        Stores { tasks: Arc::new(tasks), results: None, events: None, modules: None }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_that_fails_lies_and_lists_what_was_keeps_its_promises() {
    let run = Stress { seed: 3, clients: 8, steps: 150, faults: 50 };
    stress(&Disturbances, run).await.assert_clean();
}

/// Asks again until somebody answers.
async fn again<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.kind().is_passing(), "{error:?}"),
        }
        // An owner that may not speak says so at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Enqueues its own tasks until both were cut off, and lives what it gets until all have ended; says which enqueues were
/// acknowledged.
async fn work(store: ObjectTasks, number: u64, cuts: &AtomicUsize) -> BTreeSet<TaskId> {
    let mut acknowledged = BTreeSet::new();
    let lease = Duration::from_secs(3600);
    let open = async || {
        store.open_session(SessionId::new(number + 1), &WorkerInfo::default(), lease).await
    };
    let session = again(open).await;
    let mut nonce = number << 32;
    let mut live = async || {
        nonce += 1;
        let wants = [Want::new(Lane::default(), 5, nonce)];
        // A claim whose answer was lost is put back: this session holds nothing between two of these.
        again(async || store.reconcile(&session, &[]).await).await;
        let leases = again(async || store.claim(&session, &wants).await).await;
        let how = || How::Succeeded(TaskResult::success(Payload::cbor([7])).into());
        let end = |lease: &omniq_store::Lease| End { id: lease.id, token: lease.token, how: how() };
        let ends: Vec<End> = leases.iter().map(end).collect();
        again(async || store.finish(&session, ends.clone()).await).await;
    };
    let mut own = number << 32;
    while cuts.load(Ordering::Relaxed) < 3 {
        own += 1;
        let answers = again(async || store.enqueue(vec![task(own)]).await).await;
        assert!(matches!(answers[..], [Enqueued::Created | Enqueued::Duplicate { .. }]));
        acknowledged.insert(task(own).id);
        live().await;
    }
    while !again(async || store.is_idle().await).await {
        live().await;
    }
    acknowledged
}

/// Two processes share a bucket that fails; each in turn is cut off for longer than a lease, so that the other takes over
/// while the first believes to be the owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_owner_that_was_cut_off_changes_nothing_when_it_comes_back() {
    let bucket = Arc::new(InMemory::new());
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let links = [0, 1].map(|_| Disturbed::new(&bucket, 10, false));
    let open = async |number: usize| {
        let link = Arc::clone(&links[number]) as _;
        let patience = Duration::from_secs(4);
        let config = Config { patience, ..place::config(link, &clock) };
        again(async || ObjectTasks::open(config.clone()).await).await
    };
    let turns = AtomicUsize::new(0);
    let first = work(open(0).await, 0, &turns);
    let second = work(open(1).await, 1, &turns);
    let mut acknowledged = BTreeSet::new();
    // Each is cut off while it may be the owner, three times in all; afterwards both get on with what is left.
    let cuts = async {
        for link in links.iter().chain(&links[..1]) {
            tokio::time::sleep(Duration::from_millis(400)).await;
            link.cut.send_replace(true);
            tokio::time::sleep(Duration::from_millis(2600)).await;
            link.cut.send_replace(false);
            turns.fetch_add(1, Ordering::Relaxed);
        }
        std::future::pending().await
    };
    let done = async {
        let (first, mut second) = futures_util::future::join(first, second).await;
        acknowledged.extend(first);
        acknowledged.append(&mut second);
    };
    tokio::select! {
        () = cuts => {}
        () = done => {}
        () = tokio::time::sleep(Duration::from_secs(100)) => panic!("it does not get on"),
    }
    let store = ObjectTasks::open(place::config(bucket, &clock)).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    println!("{turns:?} cuts, {} acknowledged, {counts:?}", acknowledged.len());
    assert_eq!(counts, BTreeMap::from([(State::Succeeded, acknowledged.len() as u64)]));
}

/// Opens the tasks of a bucket as a process that sees it through that link.
async fn open(link: &Arc<Disturbed>, clock: &ManualClock) -> ObjectTasks {
    ObjectTasks::open(place::config(Arc::clone(link) as _, clock)).await.unwrap()
}

/// A bucket whose owner was cut off from it just now, and the links of that process and of another one.
struct CutOff {
    bucket: Arc<InMemory>,
    clock: ManualClock,
    first: Arc<Disturbed>,
    second: Arc<Disturbed>,
    /// What the owner has open, with task 1.
    before: ObjectTasks,
}

impl CutOff {
    async fn new() -> Self {
        let bucket = Arc::new(InMemory::new());
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let [first, second] = [0, 1].map(|_| Disturbed::new(&bucket, 0, false));
        let before = open(&first, &clock).await;
        before.enqueue(vec![task(1)]).await.unwrap();
        first.cut.send_replace(true);
        Self { bucket, clock, first, second, before }
    }
}

/// Else everybody, itself included, would wait for an owner that there is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_not_told_that_its_mark_is_left_is_the_owner() {
    let bucket = Arc::new(InMemory::new());
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let link = Disturbed::new(&bucket, 0, false);
    link.unsaid.store(true, Ordering::Relaxed);
    let store = open(&link, &clock).await;
    store.enqueue(vec![task(1)]).await.unwrap();
    assert!(!link.unsaid.load(Ordering::Relaxed));
    let marks: Vec<ObjectMeta> =
        bucket.list(Some(&Path::from("a/b/tasks/epoch"))).try_collect().await.unwrap();
    assert_eq!(marks.len(), 1);
}

/// Whoever comes back does not get to know that another took over, and the log it wrote to has been thrown away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_an_owner_acknowledges_that_cannot_see_its_successor_is_there() {
    let CutOff { bucket, clock, first, second, before } = CutOff::new().await;
    let late = tokio::spawn(async move { (before.enqueue(vec![task(2)]).await, before) });
    let after = open(&second, &clock).await;
    // Until the beginning of the log is gone, but for fences.
    let log = Path::from("a/b/tasks/log");
    let last = Path::from(format!("{log}/{:020}", 20));
    for number in 100.. {
        after.enqueue(vec![task(number)]).await.unwrap();
        let listed: Vec<ObjectMeta> = bucket.list(Some(&log)).try_collect().await.unwrap();
        let beginning = listed.iter().filter(|entry| entry.location <= last).count();
        if number > 120 && beginning < 10 {
            break;
        }
    }
    first.blind.store(true, Ordering::Relaxed);
    first.cut.send_replace(false);
    let (answer, before) = late.await.unwrap();
    if answer.is_ok() {
        assert!(after.get(&[task(2).id]).await.unwrap()[0].is_some(), "{answer:?} and is lost");
    }
    first.blind.store(false, Ordering::Relaxed);
    let found = again(async || before.get(&[task(100).id]).await).await;
    assert!(found[0].is_some());
}

/// The same for looks: signs of life that arrive again do not let it speak for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_owner_that_cannot_see_its_successor_shows_nothing_old() {
    let CutOff { clock, first, second, before, .. } = CutOff::new().await;
    let after = open(&second, &clock).await;
    after.enqueue(vec![task(2)]).await.unwrap();
    first.blind.store(true, Ordering::Relaxed);
    first.cut.send_replace(false);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < deadline {
        let found = before.get(&[task(2).id]).await;
        assert!(found.is_err(), "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.blind.store(false, Ordering::Relaxed);
    let found = again(async || before.get(&[task(2).id]).await).await;
    assert!(found[0].is_some());
}

/// The owner comes back between when another takes it for dead and when that one says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_takes_over_waits_for_an_owner_that_just_came_back() {
    let CutOff { clock, first, second, before, .. } = CutOff::new().await;
    second.held.send_replace(true);
    let opening = tokio::spawn(ObjectTasks::open(place::config(Arc::clone(&second) as _, &clock)));
    while second.waiting.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.cut.send_replace(false);
    again(async || before.get(&[task(1).id]).await).await;
    second.held.send_replace(false);
    let after = opening.await.unwrap().unwrap();
    after.enqueue(vec![task(2)]).await.unwrap();
    if let Ok(found) = before.get(&[task(2).id]).await {
        assert!(found[0].is_some(), "it shows what was before");
    }
}

/// Opening takes three leases here, since the log is long and slow to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_a_long_log_is_not_taken_for_dead() {
    let bucket = Arc::new(InMemory::new());
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    // No image: all entries are read.
    let config = Config { image_every: 1 << 30, ..place::config(Arc::clone(&bucket) as _, &clock) };
    let writer = ObjectTasks::open(config).await.unwrap();
    for number in 0..300 {
        writer.enqueue(vec![task(number)]).await.unwrap();
    }
    writer.close().await.unwrap();
    let link = Disturbed::new(&bucket, 0, false);
    link.slow.store(320, Ordering::Relaxed);
    let patience = Duration::from_secs(60);
    let config = Config { patience, ..place::config(Arc::clone(&link) as _, &clock) };
    let open = async || ObjectTasks::open(config.clone()).await.unwrap();
    let (first, second) = futures_util::future::join(open(), open()).await;
    for store in [&first, &second] {
        let counts = again(async || store.count(&Filter::default()).await).await;
        assert_eq!(counts, BTreeMap::from([(State::Ready, 300)]));
    }
    let epochs = bucket.list(Some(&Path::from("a/b/tasks/epoch")));
    assert_eq!(epochs.count().await, 2, "one of the writer, and one of both that came after it");
}
