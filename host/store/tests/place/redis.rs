//! A place on the Redis or Valkey server of the test process: tasks, results and modules under a name of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_model::TaskId;
use omniq_store::ManualClock;
use omniq_store::redis::{Config, RedisModules, RedisResults, RedisTasks};

/// Makes places on a server or in a cluster.
#[derive(Debug)]
pub struct Redis {
    /// Where it is.
    pub url: String,
}

#[async_trait]
impl Factory for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("test-{}", MADE.fetch_add(1, Ordering::Relaxed));
        Arc::new(RedisPlace { url: self.url.clone(), name, clock })
    }
}

#[derive(Debug)]
struct RedisPlace {
    url: String,
    name: String,
    clock: ManualClock,
}

#[async_trait]
impl Place for RedisPlace {
    async fn open(&self) -> Stores {
        let mut config = Config::new(&self.url).expect("the URL is right");
        config.name = self.name.clone();
        config.clock = Some(Arc::new(self.clock.clone()));
        let tasks = RedisTasks::open(config).await.expect("tasks open");
        Stores {
            results: Some(Arc::new(RedisResults::beside(&tasks))),
            modules: Some(Arc::new(RedisModules::beside(&tasks))),
            events: None,
            tasks: Arc::new(tasks),
        }
    }

    fn can_damage(&self) -> bool {
        true
    }

    async fn damage(&self, task: TaskId) {
        // The head that the stored form begins with stays: what was asked for is what gets unreadable.
        const DAMAGE: &str = "
            local value = redis.call('HGET', KEYS[1], ARGV[1])
            local fields = {struct.unpack('>BI4I7I7I7I7BBI7I7I4s', value)}
            local at = fields[#fields] + (fields[8] % 2 == 1 and 23 or 0)
            return redis.call('HSET', KEYS[1], ARGV[1], string.sub(value, 1, at - 1) .. '\\255\\0')";
        let first = self.url.split(',').next().unwrap_or_default();
        let key = format!("{{{}}}:body", self.name);
        let client = redis::cluster::ClusterClient::new(vec![first]);
        let id = &task.as_bytes()[..];
        let script = redis::Script::new(DAMAGE);
        let mut call = script.key(&key);
        let changed: i64 = if self.url.contains(',') {
            let client = client.expect("the URL is right");
            let mut connection = client.get_async_connection().await.expect("it connects");
            call.arg(id).invoke_async(&mut connection).await.expect("the body is there")
        } else {
            let client = redis::Client::open(first).expect("the URL is right");
            let connection = client.get_multiplexed_async_connection().await;
            let mut connection = connection.expect("it connects");
            call.arg(id).invoke_async(&mut connection).await.expect("the body is there")
        };
        assert_eq!(changed, 0, "it was there");
    }
}
