//! What the server itself does on this machine, with the same durability and the same sizes of batches as the store and
//! nothing of what the store does beyond it: the floor that `omniq bench` holds the store against.
//!
//! A message for each task in a work queue, fetched, answered by a message in another stream and acknowledged; a batch is
//! on its way at the same time. No ids are checked for repetition, no lanes, no time, no sessions, no state of a task.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{Context, stream};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream as streams};

use super::config::Config;
use super::connect;
use super::fault::{self, Fault};
use crate::Result;

/// Bytes of a body: about those of a task with two small arguments.
const BODY: &[u8] = &[7; 160];
const RESULT: &[u8] = &[0xf6];

/// A bare server.
pub struct Floor {
    context: Context,
    consumer: PullConsumer,
    prefix: String,
    shown: String,
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Floor").field(&self.shown).finish()
    }
}

impl Floor {
    /// New streams beside the store's.
    ///
    /// # Errors
    /// The server cannot be used.
    pub async fn open(config: &Config) -> Result<Self> {
        let shown = config.shown();
        let opened = Self::begin(config).await;
        opened.map_err(|fault| fault.into_error(&shown, "measure its floor"))
    }

    async fn begin(config: &Config) -> std::result::Result<Self, Fault> {
        let connection = connect::connect(config).await?;
        let context = connection.context;
        let prefix = format!("omniq.{}.floor", config.name);
        let names = [
            ("work", stream::RetentionPolicy::WorkQueue),
            ("done", stream::RetentionPolicy::Limits),
        ];
        for (part, retention) in names {
            let name = format!("OMNIQ_{}_floor_{part}", config.name);
            let _ = context.delete_stream(&name).await; // of an earlier run
            let config = stream::Config {
                name,
                subjects: vec![format!("{prefix}.{part}")],
                retention,
                storage: stream::StorageType::File,
                num_replicas: config.replicas,
                ..Default::default()
            };
            context.create_stream(config).await.map_err(|error| fault::of(&error))?;
        }
        let consumer = pull::Config {
            durable_name: Some("floor".into()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: 100_000,
            ..Default::default()
        };
        let name = format!("OMNIQ_{}_floor_work", config.name);
        let consumer = context.create_consumer_on_stream(consumer, name).await;
        let consumer = consumer.map_err(|error| fault::of(&error))?;
        Ok(Self { context, consumer, prefix, shown: config.shown() })
    }

    /// Publishes `count` messages, all on their way at the same time, and waits until the server has them.
    async fn publish(
        &self,
        part: &str,
        body: &'static [u8],
        count: usize,
    ) -> std::result::Result<(), Fault> {
        let subject = format!("{}.{part}", self.prefix);
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            let sent = self.context.publish(subject.clone(), Bytes::from_static(body)).await;
            answers.push(sent.map_err(|error| fault::of(&error))?);
        }
        let waiting = streams::iter(answers).map(std::future::IntoFuture::into_future);
        waiting
            .buffer_unordered(count.max(1))
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(|error| fault::of(&error))
    }

    /// Inserts `rows` rows, `batch` on their way at a time; returns how long it took.
    ///
    /// # Errors
    /// The server fails.
    pub async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut left = rows;
        while left > 0 {
            let count = left.min(batch.max(1));
            left -= count;
            let sent = self.publish("work", BODY, count).await;
            sent.map_err(|fault| fault.into_error(&self.shown, "measure its floor"))?;
        }
        Ok(started.elapsed())
    }

    /// Claims and finishes all rows, `batch` at a time; returns how many and how long it took.
    ///
    /// # Errors
    /// The server fails.
    pub async fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
        let drained = self.drain_all(batch.max(1)).await;
        drained.map_err(|fault| fault.into_error(&self.shown, "measure its floor"))
    }

    async fn drain_all(&self, batch: usize) -> std::result::Result<(usize, Duration), Fault> {
        let started = Instant::now();
        let mut drained = 0;
        loop {
            let fetched = self.consumer.fetch().max_messages(batch).messages().await;
            let messages = fetched.map_err(|error| fault::of(&error))?;
            let messages: Vec<_> = messages.try_collect().await.map_err(Fault::unknown)?;
            if messages.is_empty() {
                return Ok((drained, started.elapsed()));
            }
            self.publish("done", RESULT, messages.len()).await?;
            for message in &messages {
                message.ack().await.map_err(Fault::unknown)?;
            }
            drained += messages.len();
        }
    }
}
