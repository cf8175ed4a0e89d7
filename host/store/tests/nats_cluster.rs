//! Three servers of NATS that keep each message on two of them at least before they answer: many clients at once, and a
//! leader that dies while producers and workers run.
#![cfg(feature = "nats")]

#[path = "support/nats.rs"]
mod crowd;
#[path = "place/nats.rs"]
mod place;

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use omniq_conformance::{Stress, stress};
use omniq_services::{Kind, Server};
use omniq_store::nats::Config;
use omniq_store::{Options, TaskStore as _};

/// Longer than a cluster is without a leader.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_keeps_its_promises_under_stress() {
    let server = Server::start(Kind::Nats, &[("cluster", "3"), ("sync_interval", "2m")]);
    let url = server.url().to_owned();
    let nats = place::Nats { url, inline: 64, image_every: 8 << 10, replicas: 3 };
    let run = Stress { seed: 1, clients: 8, steps: 250, faults: 50 };
    stress(&nats, run).await.assert_clean();
}

/// Whoever has the log on three servers and the rest on one has lost the store with that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_the_log_alone_are_not_enough() {
    let server = Server::start(Kind::Nats, &[("cluster", "3")]);
    let config = Config::of_url(&format!("{}/edited", server.url()), &Options::default());
    let config = Config { patience: PATIENCE, ..config.expect("the URL is right") };
    let open = async |config: &Config| {
        crowd::again(|| omniq_store::nats::NatsTasks::open(config.clone())).await
    };
    open(&config).await.close().await.expect("it closes");
    let client = async_nats::connect(config.servers.clone()).await.expect("it connects");
    let context = jetstream::new(client);
    let store = open(&Config { replicas: 3, ..config }).await;
    let missing = async || {
        let report = crowd::again(|| store.admin().expect("it has one").check()).await;
        let weaker = report.weaker.into_iter().filter(|weaker| weaker.what.contains("replicas"));
        weaker.map(|weaker| format!("{} {}", weaker.what, weaker.next)).collect::<String>()
    };
    let streams = ["OMNIQ_edited", "KV_omniq_edited", "OBJ_omniq_edited"];
    for edited in 0..=streams.len() {
        let said = missing().await;
        for (index, name) in streams.iter().enumerate() {
            assert_eq!(said.contains(name), index >= edited, "{name} of {edited} edited: {said}");
        }
        if let Some(next) = streams.get(edited) {
            let stream = context.get_stream(next).await.expect("it is there");
            let wider = stream::Config { num_replicas: 3, ..stream.cached_info().config.clone() };
            context.update_stream(&wider).await.expect("it changes");
        }
    }
    store.close().await.expect("it closes");
}

/// What the cluster says of the log, once it says anything.
async fn log(config: &Config) -> stream::Info {
    let asked = async {
        loop {
            // Nobody answers where nobody leads, or who stands still.
            let short = Duration::from_millis(500);
            let options = async_nats::ConnectOptions::new().connection_timeout(short);
            let context = jetstream::ContextBuilder::new().timeout(short);
            if let Ok(client) = options.connect(config.servers.clone()).await
                && let Ok(log) = context.build(client).get_stream("OMNIQ_cluster").await
            {
                return log.cached_info().clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("somebody leads")
}

/// Waits until so many more messages are in the log.
async fn goes_on(config: &Config, since: &stream::Info) -> stream::Info {
    let begun = std::time::Instant::now();
    loop {
        let now = log(config).await;
        if now.state.last_sequence > since.state.last_sequence + 50 {
            println!("it went on after {:?}", begun.elapsed());
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not go on: {:?}", now.cluster);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Which node leads.
fn leader(info: &stream::Info) -> usize {
    let leader = info.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
    let number = leader.and_then(|name| name.strip_prefix("omniq-")).expect("it has a leader");
    number.parse().expect("they are called by their numbers")
}

/// Runs two processes on a cluster, one of them connected to who leads, and does something to that one.
async fn survives(disturb: impl FnOnce(&Server, usize)) {
    let server = Server::start(Kind::Nats, &[("cluster", "3")]);
    let url = format!("{}/cluster?replicas=3&sync=always", server.url());
    let config = Config::of_url(&url, &Options::default()).expect("the URL is right");
    let config = Config { image_every: 20 << 10, patience: Duration::from_secs(5), ..config };
    crowd::open(&config).await.close().await.expect("it closes");
    let begun = log(&config).await;
    assert_eq!(begun.config.num_replicas, 3);
    // The servers tell each other's addresses.
    let servers = vec![config.servers[leader(&begun)].clone()];
    let beside = Config { servers, ..config.clone() };
    crowd::survives([&config, &beside], async || {
        let before = goes_on(&config, &begun).await;
        disturb(&server, leader(&before));
        let after = goes_on(&config, &before).await;
        assert_ne!(leader(&before), leader(&after));
        server.resume();
        goes_on(&config, &after).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_loses_nothing() {
    survives(|server, leader| tokio::task::block_in_place(|| server.kill_node(leader))).await;
}

/// Connections to it stand, and when it goes on it does not know that another one leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stands_still_loses_nothing() {
    survives(|server, leader| server.pause_node(leader)).await;
}
