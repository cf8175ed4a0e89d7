//! A place on this process's server, or on another one: a store of a name of its own.
#![allow(dead_code, reason = "each test uses another part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_model::TaskId;
use omniq_services::{Kind, Server};
use omniq_store::ManualClock;
use omniq_store::nats::{Config, NatsModules, NatsResults, NatsTasks};

/// Makes places on the server at `url`.
#[derive(Debug)]
pub struct Nats {
    /// Where the server is.
    pub url: String,
    /// Bytes above which values are kept beside the log.
    pub inline: usize,
    /// Bytes of log after which an image is taken.
    pub image_every: u64,
    /// On how many servers of a cluster all is kept.
    pub replicas: usize,
}

impl Nats {
    /// Places on a server of this process, with values outside and images as often as there is anything to learn from it.
    /// It waits for no disk: what survives a loss of power is not asked here, and thousands of commands are sent.
    pub fn here() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        let server = SERVER.get_or_init(|| Server::start(Kind::Nats, &[("sync_interval", "2m")]));
        Self { url: server.url().to_owned(), inline: 0, image_every: 2 << 10, replicas: 1 }
    }
}

#[async_trait]
impl Factory for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let servers = self.url.trim_start_matches("nats://").split(',').map(str::to_owned);
        let config = Config {
            clock: Some(Arc::new(clock)),
            inline: self.inline,
            image_every: self.image_every,
            grace: Duration::ZERO,
            replicas: self.replicas,
            ..Config::new(servers.collect(), name)
        };
        Arc::new(NatsPlace(config))
    }
}

#[derive(Debug)]
struct NatsPlace(Config);

#[async_trait]
impl Place for NatsPlace {
    async fn open(&self) -> Stores {
        let tasks = NatsTasks::open(self.0.clone()).await.expect("tasks open");
        Stores {
            results: Some(Arc::new(NatsResults::beside(&tasks))),
            modules: Some(Arc::new(NatsModules::beside(&tasks))),
            events: None,
            tasks: Arc::new(tasks),
        }
    }

    fn can_damage(&self) -> bool {
        self.0.inline == 0
    }

    async fn damage(&self, task: TaskId) {
        let client = async_nats::connect(self.0.servers[0].as_str()).await.expect("it connects");
        let stream = async_nats::jetstream::new(client)
            .get_stream(format!("KV_omniq_{}", self.0.name))
            .await
            .expect("the bucket is there");
        let subject = format!("$KV.omniq_{}.a.{task}.*", self.0.name);
        let purged = stream.purge().filter(subject).await.expect("the value is there");
        assert_eq!(purged.purged, 1);
    }
}
