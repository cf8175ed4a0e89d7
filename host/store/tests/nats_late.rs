//! What comes too late, or speaks of a log that is no more: messages, processes and images that come back after the others
//! went on. Whatever was acknowledged is there all the same, and nothing is done twice.
#![cfg(feature = "nats")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/task.rs"]
mod sample;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, object_store::ObjectStore};
use omniq_conformance::dump;
use omniq_model::{Lane, Payload, SessionId, Task, TaskId, TaskResult};
use omniq_services::{Kind, Mode, Proxy, Server};
use omniq_store::nats::{Config, NatsTasks};
use omniq_store::{End, ErrorKind, Filter, How, Select, TaskStore, Want, WorkerInfo};

/// After that a call is given up, and its message counts no more.
const PATIENCE: Duration = Duration::from_millis(500);

fn config(address: impl ToString, name: &str) -> Config {
    let patience = Duration::from_secs(10);
    Config { patience, ..Config::new(vec![address.to_string()], name) }
}

async fn open(config: &Config) -> NatsTasks {
    NatsTasks::open(config.clone()).await.expect("the store opens")
}

fn fresh() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(1);
    MADE.fetch_add(1, Ordering::Relaxed)
}

fn task() -> Task {
    sample::task(fresh())
}

fn tasks(count: usize) -> Vec<Task> {
    (0..count).map(|_| task()).collect()
}

/// Repeats a call until it is answered, as every caller may.
async fn again<T>(call: impl AsyncFn() -> omniq_store::Result<T>) -> T {
    for _ in 0..200 {
        match call().await {
            Ok(answer) => return answer,
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the server does not come back")
}

/// Looks again until it is so.
async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn jetstream(server: &Server) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.address().to_string()).await.expect("it connects"))
}

async fn objects(server: &Server, name: &str) -> ObjectStore {
    let objects = jetstream(server).await.get_object_store(format!("omniq_{name}")).await;
    objects.expect("the objects are there")
}

/// How many images are known to who starts.
async fn known(server: &Server, name: &str) -> usize {
    let bucket = jetstream(server).await.get_key_value(format!("omniq_{name}")).await;
    let list = bucket.expect("it is there").get("images").await.expect("it reads");
    list.map_or(0, |list| usize::from(list[0]))
}

/// The objects whose names begin so, in the order of their names.
async fn named(server: &Server, name: &str, prefix: &str) -> Vec<String> {
    use futures_util::TryStreamExt as _;
    let list = objects(server, name).await.list().await.expect("it lists");
    let list: Vec<_> = list.try_collect().await.expect("it lists");
    let names = list.into_iter().map(|object| object.name);
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort_unstable();
    names
}

async fn is_there(store: &NatsTasks, task: TaskId) -> bool {
    again(async || store.get(&[task]).await).await[0].is_some()
}

/// Two processes see the same, to the last field.
async fn agree(one: &NatsTasks, other: &NatsTasks) {
    assert_eq!(format!("{:?}", dump(one).await), format!("{:?}", dump(other).await));
}

/// Works one task off, and removes it.
async fn carry_out(store: &NatsTasks, task: TaskId) {
    let (id, worker) = (SessionId::new(fresh()), WorkerInfo::default());
    let session =
        store.open_session(id, &worker, Duration::from_secs(600)).await.expect("a session");
    let wants = [Want::new(Lane::default(), 1, fresh())];
    let leases = store.claim(&session, &wants).await.expect("it claims");
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [task]);
    let how = How::Succeeded(TaskResult::success(Payload::raw(b"done")).into());
    let ends = vec![End { id: task, token: leases[0].token, how }];
    store.finish(&session, ends).await.expect("it ends");
    let select = Select { filter: Filter { ids: vec![task], ..Filter::default() }, max: 9 };
    assert_eq!(store.remove(&select).await.expect("it removes").moved.len(), 1);
}

/// A call that was told to be of no avail long ago is not carried out when the network comes back: somebody else may have
/// asked the same in the meantime, and all of it may be over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_long_ago_is_not_done_any_more() {
    let server = omniq_services::nats();
    let proxy = Proxy::to(server.address());
    let near = open(&config(server.address(), "given-up")).await;
    let far = open(&Config { patience: PATIENCE, ..config(proxy.addr(), "given-up") }).await;
    let task = task();
    proxy.set(Mode::HalfOpen);
    let error = far.enqueue(vec![task.clone()]).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    stays_over([near, far], &proxy, task).await;
}

/// What the far one has given up, the near one does, to its end. Once the far one is back it is not done again.
async fn stays_over([near, far]: [NatsTasks; 2], proxy: &Proxy, task: Task) {
    let id = task.id;
    near.enqueue(vec![task]).await.expect("it is accepted");
    carry_out(&near, id).await;
    proxy.set(Mode::Pass);
    again(async || far.pause(&Lane::default(), false).await).await; // whatever was sent before is in the log by now
    assert!(!is_there(&near, id).await, "it is over, and stays so");
    agree(&near, &far).await;
    for store in [near, far] {
        store.close().await.expect("it closes");
    }
}

/// The same for what waited behind other calls until its caller had gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_before_its_turn_came_is_not_done_any_more() {
    let server = omniq_services::nats();
    let proxy = Proxy::to(server.address());
    let near = open(&config(server.address(), "turn")).await;
    let far = open(&Config { patience: PATIENCE, ..config(proxy.addr(), "turn") }).await;
    let task = task();
    proxy.set(Mode::HalfOpen);
    // Each fills a message, and few are on their way at a time.
    let mut calls = Vec::new();
    for _ in 0..12 {
        let large = tasks(5000);
        assert!(large.iter().map(Task::encoded_len).sum::<usize>() > 256 << 10);
        calls.push(large);
    }
    calls.push(vec![task.clone()]);
    let calls = calls.into_iter().map(|tasks| far.enqueue(tasks));
    for answer in futures_util::future::join_all(calls).await {
        let error = answer.expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    stays_over([near, far], &proxy, task).await;
}

/// A message in an object takes few bytes of the log, and as long to start from as any other of its size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_taken_of_what_objects_hold() {
    let server = omniq_services::nats();
    let config = Config { image_every: 64 << 10, ..config(server.address(), "spilled") };
    let store = open(&config).await;
    store.enqueue(tasks(16_000)).await.expect("they are accepted");
    assert_eq!(named(server, "spilled", "message.").await.len(), 1, "they are in an object");
    wait_until("an image is taken", async || known(server, "spilled").await == 1).await;
    let beside = open(&config).await;
    agree(&store, &beside).await;
    for store in [store, beside] {
        store.close().await.expect("it closes");
    }
}

/// A message that names an object comes when the object is gone. It must not stop everybody for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_after_its_object_was_swept_stops_nobody() {
    let server = omniq_services::nats();
    let config = Config { patience: PATIENCE, ..config(server.address(), "swept") };
    let store = open(&config).await;
    again(async || store.enqueue(tasks(1)).await).await;
    let large = tasks(16_000);
    again(async || store.enqueue(large.clone()).await).await;
    let context = jetstream(server).await;
    let log = context.get_stream("OMNIQ_swept").await.expect("the log is there");
    let last = log.cached_info().state.last_sequence;
    let message = log.get_raw_message(last).await.expect("it is there");
    assert!(message.payload.len() < 1000, "it only says where the tasks are");
    let object = named(server, "swept", "message.").await.pop().expect("they are there");
    let bytes = {
        use tokio::io::AsyncReadExt as _;
        let mut bytes = Vec::new();
        let mut object = objects(server, "swept").await.get(&object).await.expect("it is there");
        object.read_to_end(&mut bytes).await.expect("it reads");
        bytes
    };
    tokio::time::sleep(2 * PATIENCE).await;
    // As a process sends it that stood still in between, while the sweep of another found that the object belongs to nothing.
    let objects = objects(server, "swept").await;
    objects.delete(&object).await.expect("it goes");
    let sent = context.publish("omniq.swept.log", message.payload).await.expect("it is sent");
    sent.await.expect("it is kept");
    again(async || store.enqueue(tasks(1)).await).await;
    // The one in time needs its object.
    objects.put(object.as_str(), &mut bytes.as_slice()).await.expect("it is back");
    let beside = open(&Config { patience: Duration::from_secs(10), ..config }).await;
    agree(&store, &beside).await;
    for store in [store, beside] {
        store.close().await.expect("it closes");
    }
}

/// Whoever comes back does not know of what was enqueued meanwhile: what belongs to it is no leftover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_cut_off_removes_no_value_that_it_does_not_know_of() {
    let server = omniq_services::nats();
    let proxy = Proxy::to(server.address());
    let near = open(&config(server.address(), "unknown")).await;
    let far = open(&Config { grace: Duration::ZERO, ..config(proxy.addr(), "unknown") }).await;
    let args = Payload::raw(vec![7; 20_000]);
    let mut enqueued = Vec::new();
    for _ in 0..3 {
        proxy.set(Mode::Refuse);
        proxy.cut_all();
        // It has seen for long that nobody is there.
        wait_until("the connection is cut", async || proxy.open() == 0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let task = Task { args: args.clone(), ..task() };
        near.enqueue(vec![task.clone()]).await.expect("it is accepted");
        enqueued.push(task);
        let purging = tokio::spawn({
            let far = far.clone();
            async move { far.purge(9).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.set(Mode::Pass);
        // Whether there was anything to tidy up is not asked.
        let _ = purging.await.expect("it does not panic");
        let ids: Vec<_> = enqueued.iter().map(|task| task.id).collect();
        for (task, info) in enqueued.iter().zip(near.get(&ids).await.expect("it reads")) {
            assert!(*info.expect("it is there").task.expect("its arguments are there") == *task);
        }
        again(async || far.get(&ids).await).await;
    }
    for store in [near, far] {
        store.close().await.expect("it closes");
    }
}

/// Where there is no room everybody takes an image, all of the same place in the log. None removes another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_several_take_of_the_same_place_are_kept() {
    let server = omniq_services::nats();
    let config = Config { patience: PATIENCE, ..config(server.address(), "same") };
    let stores = [open(&config).await, open(&config).await];
    again(async || stores[0].enqueue(tasks(9)).await).await;
    agree(&stores[0], &stores[1]).await;
    let context = jetstream(server).await;
    let log = context.get_stream("OMNIQ_same").await.expect("the log is there");
    let info = log.cached_info();
    let sound = info.config.clone();
    let max_bytes = i64::try_from(info.state.bytes).expect("it is small");
    let full = jetstream::stream::Config { max_bytes, ..sound.clone() };
    context.update_stream(&full).await.expect("it changes");
    for store in &stores {
        let before = written(&context).await;
        let error = store.enqueue(tasks(1)).await.expect_err("there is no room");
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        // Its bytes and its name; what is wrong to be done comes soon after.
        wait_until("an image is taken", async || written(&context).await >= before + 2).await;
        wait_until("it is known", async || known(server, "same").await == 1).await;
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(named(server, "same", "image.").await.len(), 1, "what is known is there");
    }
    context.update_stream(&sound).await.expect("it changes");
    let third = open(&Config { patience: Duration::from_secs(10), ..config }).await;
    agree(&stores[0], &third).await;
    for store in [&stores[0], &stores[1], &third] {
        store.close().await.expect("it closes");
    }
}

/// How many messages the object store of that test has seen.
async fn written(context: &jetstream::Context) -> u64 {
    let stream = context.get_stream("OBJ_omniq_same").await.expect("the objects are there");
    stream.cached_info().state.last_sequence
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("it can be read").flatten() {
        let (kind, to) = (entry.file_type().expect("it has a type"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("it can be copied");
        }
    }
}

/// Stops the server; when it starts again it finds the files in `part` as they were when `saved` was copied.
fn lose(server: &Server, part: &Path, saved: &Path) {
    server.kill();
    std::fs::remove_dir_all(part).expect("it can be removed");
    copy(saved, part);
}

/// Copies files of a server that stands still meanwhile.
fn save(server: &Server, part: &Path) -> tempfile::TempDir {
    let saved = tempfile::tempdir().expect("a folder");
    server.kill();
    copy(part, saved.path());
    server.restart();
    saved
}

/// A loss of power takes the end of the log, and not the image that was taken of it. When the log is as long again that image
/// still is of another log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_image_of_what_a_server_lost_is_nobodys_start() {
    let server = Server::start(Kind::Nats, &[]);
    let config = Config { image_every: 64 << 10, ..config(server.address(), "ahead") };
    let one = open(&config).await;
    let image = async |after: usize| {
        wait_until("an image is taken", async || {
            again(async || one.enqueue(tasks(10)).await).await;
            known(&server, "ahead").await > after
        })
        .await;
        let newest = named(&server, "ahead", "image.").await.pop().expect("it is there");
        newest["image.".len()..].parse::<u64>().expect("it is a number")
    };
    image(0).await;
    let log = server.folder().join("data/jetstream/$G/streams/OMNIQ_ahead");
    assert!(log.is_dir(), "the log is in a folder of its own");
    let saved = tokio::task::block_in_place(|| save(&server, &log));
    let lost = tasks(1);
    again(async || one.enqueue(lost.clone()).await).await;
    let ahead = image(1).await;
    tokio::task::block_in_place(|| {
        lose(&server, &log, saved.path());
        server.restart();
    });
    let stream = jetstream(&server).await.get_stream("OMNIQ_ahead").await.expect("it is there");
    let last = stream.cached_info().state.last_sequence;
    assert!(last < ahead, "{last}: the image is of what is lost");
    for _ in last..ahead + 9 {
        again(async || one.pause(&Lane::default(), false).await).await;
    }
    let later = open(&config).await;
    for store in [&one, &later] {
        assert!(!is_there(store, lost[0].id).await, "it is gone for all");
    }
    agree(&one, &later).await;
    for store in [one, later] {
        store.close().await.expect("it closes");
    }
}

/// Nobody is shown what the server lost, however soon it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_server_lost_is_shown_to_nobody() {
    let server = Server::start(Kind::Nats, &[]);
    let store = open(&config(server.address(), "shown")).await;
    store.enqueue(tasks(2)).await.expect("they are accepted");
    let data = server.folder().join("data");
    let saved = tokio::task::block_in_place(|| save(&server, &data));
    for _ in 0..3 {
        let lost = tasks(2);
        for task in &lost {
            again(async || store.enqueue(vec![task.clone()]).await).await;
        }
        tokio::task::block_in_place(|| lose(&server, &data, saved.path()));
        // It asks as soon as anybody can be asked.
        let restarting = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tokio::task::block_in_place(|| server.restart());
        };
        let (shown, ()) = tokio::join!(is_there(&store, lost[1].id), restarting);
        assert!(!shown, "it is lost");
    }
    store.close().await.expect("it closes");
}

/// An image that lost its bytes holds up nobody: there is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_its_bytes_is_passed_over() {
    let server = omniq_services::nats();
    let config = Config { image_every: 16 << 10, ..config(server.address(), "bytes") };
    let store = open(&config).await;
    wait_until("two images are taken", async || {
        store.enqueue(tasks(10)).await.expect("they are accepted");
        known(server, "bytes").await == 2
    })
    .await;
    let newest = named(server, "bytes", "image.").await.pop().expect("there is one");
    let objects = objects(server, "bytes").await;
    let info = objects.info(&newest).await.expect("it is there");
    let chunks = format!("$O.omniq_bytes.C.{}", info.nuid);
    let stream = jetstream(server).await.get_stream("OBJ_omniq_bytes").await.expect("a stream");
    assert!(stream.purge().filter(chunks).await.expect("they go").purged > 0);
    let other = open(&config).await;
    agree(&store, &other).await;
    for store in [store, other] {
        store.close().await.expect("it closes");
    }
}
