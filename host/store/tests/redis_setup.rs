//! Which servers are accepted, and that Valkey and clusters keep the same promises.
#![cfg(feature = "redis")]

#[path = "place/redis.rs"]
mod place;
#[path = "support/redis.rs"]
mod support;

use std::time::Duration;

use omniq_services::{Kind, Server};
use omniq_store::redis::{Config, RedisTasks};
use omniq_store::{Durability, ErrorKind, Filter, TaskStore};

use support::{Run, fresh, open, repeat, session, success, task, want};

async fn open_as(server: &Server, durability: Durability) -> omniq_store::Result<RedisTasks> {
    let mut config = Config::new(server.url()).expect("the URL is right");
    config.durability = durability;
    RedisTasks::open(config).await
}

/// Opens with each durability; answers what the refusals say.
async fn refusals(options: &[(&str, &str)]) -> [Option<String>; 3] {
    let server = Server::start(Kind::Redis, options);
    let mut said = [const { None }; 3];
    for (said, wanted) in said.iter_mut().zip([Durability::Disk, Durability::Os, Durability::None])
    {
        *said = open_as(&server, wanted).await.err().map(|error| {
            assert_eq!(error.kind(), ErrorKind::Config);
            error.to_string()
        });
    }
    said
}

#[tokio::test]
async fn a_server_that_promises_less_is_refused() {
    let [disk, os, none] = refusals(&[("appendfsync", "everysec")]).await;
    assert!(disk.expect("refused").contains("appendfsync always"));
    assert_eq!((os, none), (None, None));

    let [disk, os, none] = refusals(&[("appendonly", "no")]).await;
    assert!(disk.expect("refused").contains("appendonly yes"));
    assert!(os.expect("refused").contains("appendonly yes"));
    assert_eq!(none, None);

    let [disk, os, none] = refusals(&[("maxmemory-policy", "volatile-lru")]).await;
    assert!(disk.expect("refused").contains("maxmemory-policy noeviction"));
    assert!(os.expect("refused").contains("maxmemory-policy noeviction"));
    assert_eq!(none, None);
}

#[tokio::test]
async fn a_server_that_hides_its_settings_is_used_with_a_warning() {
    let server = Server::start(Kind::Redis, &[]);
    let client = redis::Client::open(server.url()).expect("the URL is right");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it connects");
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "hosted", "on", ">sec:ret@/", "~*", "&*", "+@all", "-config"]);
    let () = user.query_async(&mut connection).await.expect("the user is made");

    let url = server.url().replace("redis://", "redis://hosted:sec%3Aret%40%2F@");
    let store = RedisTasks::open(Config::new(&url).expect("the URL is right")).await;
    let store = store.expect("it opens");
    assert!(store.warnings()[0].0.contains("does not tell its settings"), "{:?}", store.warnings());
    assert!(!format!("{store:?}").contains("ret"), "{store:?}");

    let wrong = server.url().replace("redis://", "redis://hosted:wrong-secret@");
    let error = RedisTasks::open(Config::new(&wrong).expect("the URL is right")).await;
    let error = error.expect_err("the password is wrong");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong-secret"), "{error:?}");
}

#[tokio::test]
async fn a_copy_is_refused_by_the_name_of_its_primary() {
    let primary = Server::start(Kind::Redis, &[]);
    let copy = Server::start(Kind::Redis, &[]);
    let client = redis::Client::open(copy.url()).expect("the URL is right");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it connects");
    let mut follow = redis::cmd("REPLICAOF");
    follow.arg("127.0.0.1").arg(primary.address().port());
    let () = follow.query_async(&mut connection).await.expect("it follows");
    let error = open_as(&copy, Durability::Disk).await.expect_err("it takes nothing in");
    assert!(
        error.to_string().contains(&format!("a copy of `127.0.0.1:{}`", primary.address().port()))
    );
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let server = omniq_services::redis();
    let name = format!("setup-{}", fresh());
    open(server.url(), &name).await;
    let client = redis::Client::open(server.url()).expect("the URL is right");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it connects");
    let mut newer = redis::cmd("HSET");
    newer.arg(format!("{{{name}}}:meta")).arg(&["schema", "9", "min_writer", "9"]);
    let () = newer.query_async(&mut connection).await.expect("it is written");
    let mut config = Config::new(server.url()).expect("the URL is right");
    config.name = name;
    let error = RedisTasks::open(config).await.expect_err("it is newer");
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
}

#[tokio::test]
async fn calls_and_wake_ups_go_over_tls() {
    let server = Server::start(Kind::Redis, &[("tls", "on")]);
    let (here, there) = (open(server.url(), "tls").await, open(server.url(), "tls").await);
    let seen = there.changes(omniq_store::Interest::Work);
    here.enqueue(vec![task(10)]).await.expect("it is accepted");
    let woken = there.changed(omniq_store::Interest::Work, seen, support::PATIENCE).await;
    assert!(woken > seen);
}

/// All cases, one after the other; their names are in the report.
async fn keeps_all_promises(url: &str) {
    let report = omniq_conformance::run(&place::Redis { url: url.to_owned() }).await;
    println!("{report}");
    assert!(report.failed.is_empty(), "{report}");
    assert!(report.held.len() > 100, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_keeps_all_promises() {
    keeps_all_promises(omniq_services::valkey().url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_nodes_keeps_all_promises() {
    let cluster = Server::start(Kind::Redis, &[("cluster", "3")]);
    keeps_all_promises(cluster.url()).await;
}

/// A URL need not say that its one server is a cluster.
#[tokio::test]
async fn a_cluster_of_one_node_is_recognised() {
    let cluster = Server::start(Kind::Redis, &[("cluster", "1")]);
    let store = open(cluster.url(), "one").await;
    let session = session(&store).await;
    store.enqueue((0..500).map(|_| task(10)).collect()).await.expect("they are accepted");
    let leases = store.claim(&session, &[want(500)]).await.expect("they are leased");
    assert_eq!(leases.len(), 500);
    let ends = leases.iter().map(|lease| success(lease.id, lease.token)).collect();
    store.finish(&session, ends).await.expect("they end");
    assert!(store.is_idle().await.expect("it answers"));
}

/// The slot of a store goes to another node while the store is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_may_move_within_its_cluster() {
    let cluster = Server::start(Kind::Redis, &[("cluster", "3")]);
    let name = format!("moved-{}", fresh());
    let run = Run::begin(cluster.url(), &name, 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut nodes = Nodes::of(cluster.url()).await;
    let slot = nodes.slot(&format!("{{{name}}}:meta")).await;
    for _ in 0..3 {
        nodes.move_on(slot).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    run.end().await;
    // Whoever comes now finds it where it is.
    let store = open(cluster.url(), &name).await;
    assert!(repeat!(store.is_idle()));
    assert!(store.count(&Filter::default()).await.expect("it answers").values().sum::<u64>() > 100);
}

/// The nodes of a cluster, each spoken to by itself.
struct Nodes(Vec<(String, u16, redis::aio::MultiplexedConnection)>);

impl Nodes {
    async fn of(url: &str) -> Self {
        let mut nodes = Vec::new();
        for address in url.trim_start_matches("redis://").split(',') {
            let client =
                redis::Client::open(format!("redis://{address}")).expect("the URL is right");
            let mut connection =
                client.get_multiplexed_async_connection().await.expect("it connects");
            let id: String = redis::cmd("CLUSTER")
                .arg("MYID")
                .query_async(&mut connection)
                .await
                .expect("it has one");
            let port =
                address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
            nodes.push((id, port, connection));
        }
        Self(nodes)
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, node: usize, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query_async(&mut self.0[node].2).await.expect("the node does it")
    }

    async fn slot(&mut self, key: &str) -> u16 {
        self.ask(0, &["CLUSTER", "KEYSLOT", key]).await
    }

    /// Gives a slot to the node that comes after its owner.
    async fn move_on(&mut self, slot: u16) {
        let slots: Vec<(u16, u16, (String, u16, String))> = {
            let all: Vec<Vec<redis::Value>> = self.ask(0, &["CLUSTER", "SLOTS"]).await;
            let range = |row: &Vec<redis::Value>| {
                let number = |value: &redis::Value| {
                    redis::from_redis_value_ref::<u16>(value).expect("a number")
                };
                let redis::Value::Array(owner) = &row[2] else { panic!("an owner was expected") };
                let text = |value: &redis::Value| {
                    redis::from_redis_value_ref::<String>(value).expect("a text")
                };
                (
                    number(&row[0]),
                    number(&row[1]),
                    (text(&owner[0]), number(&owner[1]), text(&owner[2])),
                )
            };
            all.iter().map(range).collect()
        };
        let owner =
            slots.iter().find(|(from, to, _)| (*from..=*to).contains(&slot)).expect("it is served");
        let from = self.0.iter().position(|(id, ..)| *id == owner.2.2).expect("it is one of ours");
        let to = (from + 1) % self.0.len();
        let (ids, slot) =
            (self.0.iter().map(|node| node.0.clone()).collect::<Vec<_>>(), slot.to_string());
        let port = self.0[to].1.to_string();
        let () = self.ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]]).await;
        let () = self.ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]).await;
        loop {
            let keys: Vec<String> = self.ask(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "5"]).await;
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let () = self.ask(from, &["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).await;
            }
        }
        for node in [to, from, 0, 1, 2] {
            let () = self.ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]).await;
        }
    }
}
