//! What servers, networks and other processes do to a store in NATS, and what must hold all the same.
#![cfg(feature = "nats")]

#[path = "support/nats.rs"]
mod crowd;

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use omniq_conformance::LEASE;
use omniq_model::{Lane, Payload, State, Task};
use omniq_services::{Kind, Mode, Proxy, Server};
use omniq_store::nats::{Config, NatsTasks};
use omniq_store::{End, Enqueued, ErrorKind, Filter, Select, TaskStore, Want};

use self::crowd::{again, agree, config, count, fresh, open, session, success, survives, task};

async fn jetstream(server: &Server) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.address().to_string()).await.expect("it connects"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_dies_again_and_again_loses_nothing() {
    let server = Server::start(Kind::Nats, &[]);
    let config = Config { image_every: 20 << 10, ..config(server.address(), "killed") };
    survives([&config, &config], async || {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            tokio::task::block_in_place(|| {
                server.kill();
                server.restart();
            });
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_are_cut_at_any_byte_lose_nothing() {
    let server = Server::start(Kind::Nats, &[]);
    let proxy = Proxy::to(server.address());
    let (near, far) = (config(server.address(), "cut"), config(proxy.addr(), "cut"));
    survives([&near, &far], async || {
        for round in 0..12_u64 {
            let bytes = Some(1 + round * 977);
            proxy.set(match round % 3 {
                0 => Mode::CutAfter { up: bytes, down: None },
                1 => Mode::CutAfter { up: None, down: bytes },
                _ => Mode::Delay(Duration::from_millis(5)),
            });
            tokio::time::sleep(Duration::from_millis(150)).await;
            proxy.set(Mode::Pass);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_paused_server_does_not_answer_may_be_asked_again() {
    let server = Server::start(Kind::Nats, &[]);
    let patience = Duration::from_millis(500);
    let store = open(&Config { patience, ..config(server.address(), "paused") }).await;
    server.pause();
    let task = task();
    let error = store.enqueue(vec![task.clone()]).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = store.get(&[task.id]).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.resume();
    let answers = again(|| store.enqueue(vec![task.clone()])).await;
    assert!(matches!(answers[..], [Enqueued::Created | Enqueued::Duplicate { .. }]), "{answers:?}");
    assert_eq!(count(&store, State::Ready).await, 1);
    store.close().await.expect("it closes");
}

/// One request waits 3 s at most, and one connection as long for its server's first word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_outlasts_a_server_that_stands_still_for_longer_than_a_request() {
    let server = Server::start(Kind::Nats, &[]);
    let config = Config { patience: Duration::from_secs(60), ..config(server.address(), "slow") };
    server.pause();
    let opening = tokio::spawn(async move { open(&config).await });
    // The span under test: nothing tells that a request was given up.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!opening.is_finished(), "there is patience left");
    server.resume();
    let store = opening.await.expect("it opens");
    store.close().await.expect("it closes");
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

/// A server that answers before its disk has a message loses the end of the log with its power. Processes that have applied
/// it must not go on as if it were there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_server_lost_is_taken_back_by_all() {
    let server = Server::start(Kind::Nats, &[]);
    // Images on both sides of what is lost.
    let config = Config { image_every: 4 << 10, ..config(server.address(), "lossy") };
    let (one, other) = (open(&config).await, open(&config).await);
    let kept: Vec<_> = (0..200).map(|_| task()).collect();
    for tasks in kept.chunks(10) {
        one.enqueue(tasks.to_vec()).await.expect("they are accepted");
    }
    let (data, saved) = (server.folder().join("data"), tempfile::tempdir().expect("a folder"));
    server.kill();
    copy(&data, saved.path());
    server.restart();
    let lost: Vec<_> = (0..200).map(|_| task()).collect();
    for tasks in lost.chunks(10) {
        again(|| one.enqueue(tasks.to_vec())).await;
    }
    assert_eq!(count(&other, State::Ready).await, 400);
    server.kill();
    std::fs::remove_dir_all(&data).expect("it can be removed");
    copy(saved.path(), &data);
    server.restart();
    // As long as what was lost, so that nobody is told by the numbers alone.
    let later: Vec<_> = (0..300).map(|_| task()).collect();
    for tasks in later.chunks(10) {
        again(|| other.enqueue(tasks.to_vec())).await;
    }
    let third = open(&config).await;
    let lost: Vec<_> = lost.iter().map(|task| task.id).collect();
    for store in [&one, &other, &third] {
        let found = again(|| store.get(&lost)).await;
        assert!(found.iter().all(Option::is_none), "what was lost is gone for all");
        assert_eq!(count(store, State::Ready).await, 500);
        agree(store, &third).await;
    }
    for store in [one, other, third] {
        store.close().await.expect("it closes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_twice_change_nothing() {
    let server = omniq_services::nats();
    let config = config(server.address(), "twice");
    let store = open(&config).await;
    let session = session(&store).await;
    store.enqueue((0..9).map(|_| task()).collect()).await.expect("they are accepted");
    let leases =
        store.claim(&session, &[Want::new(Lane::default(), 3, fresh())]).await.expect("it claims");
    let ends: Vec<_> = leases
        .iter()
        .map(|lease| End { id: lease.id, token: lease.token, how: success(b"done") })
        .collect();
    store.finish(&session, ends).await.expect("they end");
    let before = store.count(&Filter::default()).await.expect("it counts");
    let context = jetstream(server).await;
    let log = context.get_stream("OMNIQ_twice").await.expect("the log is there");
    let last = log.cached_info().state.last_sequence;
    for seq in 1..=last {
        let message = log.get_raw_message(seq).await.expect("it is there");
        // Under no id, as if the server had forgotten it: a second time in the log.
        let sent = context.publish("omniq.twice.log", message.payload).await.expect("it is sent");
        sent.await.expect("it is kept");
    }
    // The repeated claim leased others to a session that does not know of them, as a lost answer does.
    store.reconcile(&session, &[]).await.expect("they are put back");
    assert_eq!(store.count(&Filter::default()).await.expect("it counts"), before);
    store.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_short_and_the_next_start_needs_no_more_of_it() {
    let server = omniq_services::nats();
    let config = Config { image_every: 8 << 10, ..config(server.address(), "short") };
    let store = open(&config).await;
    for _ in 0..300 {
        store.enqueue((0..4).map(|_| task()).collect()).await.expect("they are accepted");
    }
    let log = jetstream(server).await.get_stream("OMNIQ_short").await.expect("the log is there");
    let state = &log.cached_info().state;
    assert!(state.first_sequence > 100, "old messages are gone: {}", state.first_sequence);
    assert!(state.messages < 250, "what is left is short: {}", state.messages);
    let second = open(&config).await;
    agree(&store, &second).await;
    assert_eq!(count(&second, State::Ready).await, 1200);
    for store in [store, second] {
        store.close().await.expect("it closes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_too_large_for_a_message_reaches_all() {
    let server = omniq_services::nats();
    let config = config(server.address(), "large");
    let (store, beside) = (open(&config).await, open(&config).await);
    let tasks: Vec<_> = (0..16_000).map(|_| task()).collect();
    assert!(tasks.iter().map(Task::encoded_len).sum::<usize>() > 1 << 20);
    store.enqueue(tasks).await.expect("they are accepted");
    assert_eq!(count(&beside, State::Ready).await, 16_000);
    let third = open(&config).await;
    assert_eq!(count(&third, State::Ready).await, 16_000, "also for who comes later");
    for store in [store, beside, third] {
        store.close().await.expect("it closes");
    }
}

/// Values in the bucket and objects in the store, by their names.
async fn kept(server: &Server, name: &str) -> (Vec<String>, Vec<String>) {
    use futures_util::TryStreamExt as _;
    let context = jetstream(server).await;
    let bucket = context.get_key_value(format!("omniq_{name}")).await.expect("it is there");
    let values: Vec<String> =
        bucket.keys().await.expect("it lists").try_collect().await.expect("it lists");
    let objects = context.get_object_store(format!("omniq_{name}")).await.expect("it is there");
    let objects: Vec<_> =
        objects.list().await.expect("it lists").try_collect().await.expect("it lists");
    (values, objects.into_iter().map(|object| object.name).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_go_with_their_task_and_what_was_left_over_is_swept() {
    let server = omniq_services::nats();
    let config = Config { grace: Duration::ZERO, ..config(server.address(), "values") };
    let store = open(&config).await;
    let sized = |bytes: usize| Task { args: Payload::raw(vec![7; bytes]), ..task() };
    let tasks = vec![sized(10), sized(20_000), sized(600_000)];
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    store.enqueue(tasks.clone()).await.expect("they are accepted");
    let (values, objects) = kept(server, "values").await;
    assert_eq!(
        (values.len(), objects.len()),
        (1, 1),
        "small ones are in the log: {values:?} {objects:?}"
    );
    // As a process leaves them that dies between value and command.
    let context = jetstream(server).await;
    let bucket = context.get_key_value("omniq_values").await.expect("it is there");
    let orphan = values[0].replace(&ids[1].to_string(), &ids[0].to_string());
    bucket.put(&orphan, "left over".into()).await.expect("it is kept");
    bucket.put("unknown.name", "of a newer version".into()).await.expect("it is kept");
    store.purge(9).await.expect("it purges"); // nothing to forget, so it tidies up
    let (values, objects) = kept(server, "values").await;
    assert!(
        !values.contains(&orphan) && values.len() == 2 && objects.len() == 1,
        "{values:?} {objects:?}"
    );
    let found = store.get(&ids).await.expect("it reads");
    for (task, info) in tasks.iter().zip(found) {
        assert!(*info.expect("it is there").task.expect("it is readable") == *task);
    }
    // They go with their task.
    let select = Select { filter: Filter { ids, ..Filter::default() }, max: 9 };
    store.cancel(&select).await.expect("it cancels");
    assert_eq!(store.remove(&select).await.expect("it removes").moved.len(), 3);
    for _ in 0..200 {
        let (values, objects) = kept(server, "values").await;
        if values == ["unknown.name"] && objects.is_empty() {
            store.close().await.expect("it closes");
            return;
        }
        store.purge(9).await.expect("it purges");
    }
    panic!("values are left: {:?}", kept(server, "values").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_cannot_be_trusted_is_refused() {
    let server = omniq_services::nats();
    let name = "refused";
    let config = config(server.address(), name);
    open(&config).await.close().await.expect("it closes");
    let context = jetstream(server).await;
    let stream = context.get_stream("OMNIQ_refused").await.expect("it is there");
    let sound = stream.cached_info().config.clone();
    let age = jetstream::stream::Config { max_age: Duration::from_secs(3600), ..sound.clone() };
    let few = jetstream::stream::Config { max_messages: 100_000, ..sound.clone() };
    let newer = |schema: &str, writer: &str| {
        let mut metadata = sound.metadata.clone();
        metadata.insert("omniq_schema".into(), schema.into());
        metadata.insert("omniq_min_writer".into(), writer.into());
        jetstream::stream::Config { metadata, ..sound.clone() }
    };
    for (changed, kind, part) in [
        (age, ErrorKind::Config, "`max_age` must not be limited"),
        (few, ErrorKind::Config, "`max_msgs` must not be limited"),
        (newer("9", "9"), ErrorKind::Schema, "update this omniq"),
        (newer("x", "1"), ErrorKind::Config, "is not one of OmniQ's"),
    ] {
        context.update_stream(&changed).await.expect("it changes");
        let error = NatsTasks::open(config.clone()).await.expect_err(part);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    context.update_stream(newer("9", "1")).await.expect("it changes");
    open(&config).await.close().await.expect("a newer one that older writers may work with");
}

/// What would lose arguments, results, modules and images loses tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cannot_be_trusted_is_refused() {
    use jetstream::stream::StorageType;
    let server = omniq_services::nats();
    let context = jetstream(server).await;
    let refused = async |name: &str, part: &str| {
        let error = NatsTasks::open(config(server.address(), name)).await.expect_err(part);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    let values = jetstream::kv::Config {
        bucket: "omniq_memory-values".into(),
        storage: StorageType::Memory,
        ..Default::default()
    };
    context.create_key_value(values).await.expect("it is made");
    refused("memory-values", "`KV_omniq_memory-values` is lost with its server").await;
    let objects = jetstream::object_store::Config {
        bucket: "omniq_memory-objects".into(),
        storage: StorageType::Memory,
        ..Default::default()
    };
    context.create_object_store(objects).await.expect("it is made");
    refused("memory-objects", "`OBJ_omniq_memory-objects` is lost with its server").await;
    let config = config(server.address(), "aged");
    open(&config).await.close().await.expect("it closes");
    for bucket in ["KV_omniq_aged", "OBJ_omniq_aged"] {
        let stream = context.get_stream(bucket).await.expect("it is there");
        let sound = stream.cached_info().config.clone();
        let max_age = Duration::from_secs(3600);
        let aged = jetstream::stream::Config { max_age, ..sound.clone() };
        context.update_stream(&aged).await.expect("it changes");
        refused("aged", &format!("`{bucket}` may lose what it holds")).await;
        context.update_stream(&sound).await.expect("it changes");
        open(&config).await.close().await.expect("it is sound again");
    }
    for (stream, name) in [("OMNIQ_aged", "aged"), ("OBJ_omniq_aged", "aged")] {
        let stream = context.get_stream(stream).await.expect("it is there");
        let sound = stream.cached_info().config.clone();
        let few = jetstream::stream::Config { max_messages_per_subject: 100_000, ..sound.clone() };
        context.update_stream(&few).await.expect("it changes");
        refused(name, "`max_msgs_per_subject` must not be limited").await;
        context.update_stream(&sound).await.expect("it changes");
    }
}

/// Reading all that is there takes longer than a call may. It goes on all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_long_to_read_opens() {
    let server = omniq_services::nats();
    let config = config(server.address(), "long");
    let store = open(&config).await;
    for _ in 0..40 {
        again(|| store.enqueue((0..1000).map(|_| task()).collect())).await;
    }
    let hasty = Config { patience: Duration::from_millis(200), ..config };
    // A server may stand still for that long on a busy machine.
    let opened = again(|| NatsTasks::open(hasty.clone())).await;
    assert_eq!(count(&opened, State::Ready).await, 40_000);
    for store in [store, opened] {
        store.close().await.expect("it closes");
    }
}

/// Who tries again and again does not gather connections, threads and copies of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_open_leaves_nothing_behind() {
    let server = omniq_services::nats();
    let proxy = Proxy::to(server.address());
    let config = config(proxy.addr(), "damaged");
    open(&config).await.close().await.expect("it closes");
    let context = jetstream(server).await;
    let sent = context.publish("omniq.damaged.log", "no message".into()).await;
    sent.expect("it is sent").await.expect("it is kept");
    for _ in 0..3 {
        let error = NatsTasks::open(config.clone()).await.expect_err("it cannot be read");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let begun = std::time::Instant::now();
    while proxy.open() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} are connected", proxy.open());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_at_once() {
    let started = std::time::Instant::now();
    let error = NatsTasks::open(config("127.0.0.1:1", "none")).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < LEASE);
}
