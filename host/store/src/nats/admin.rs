//! What is done to the store as a whole.

use async_nats::jetstream::stream::{Config as StreamConfig, Info as StreamInfo};
use async_trait::async_trait;

use super::connect::{Layout as Stream, SCHEMA};
use super::tasks::NatsTasks;
use super::values::{Of, Put, Values};
use crate::log::Command;
use crate::log::outside::OUTSIDE;
use crate::*;
use omniq_model::Value;

impl NatsTasks {
    fn layout(stream: &Stream) -> Layout {
        Layout {
            schema: stream.schema,
            min_writer: stream.min_writer,
            oldest: SCHEMA,
            newest: SCHEMA,
            incarnation: stream.incarnation.clone(),
        }
    }

    async fn stream(&self, action: &'static str) -> Result<Stream> {
        let stream = self.store.connection()?.layout().await;
        stream.map_err(|fault| self.store.error(fault, action))
    }

    /// The log, the values and the objects: what is lost of one of them is lost for the store.
    async fn streams(&self, action: &'static str) -> Result<Vec<(&'static str, StreamInfo)>> {
        let streams = self.store.connection()?.streams().await;
        streams.map_err(|fault| self.store.error(fault, action))
    }

    fn weaker(&self, streams: &[(&'static str, StreamInfo)]) -> Vec<Weakness> {
        let wanted = self.store.config.replicas;
        let mut weaker = Vec::new();
        if self.store.config.durability != Durability::Disk {
            weaker.push(Weakness {
                what: "the server answers before its disk has a message, unless it is told otherwise: \
                       a loss of power may lose what was acknowledged in the last two minutes"
                    .into(),
                next: "set `sync_interval: always` in the server's `jetstream` block and say so with `?sync=always` \
                       in the URL, or use a cluster and `?replicas=3`"
                    .into(),
            });
        }
        let configs = streams.iter().map(|(_, info)| &info.config);
        let fewer: Vec<_> = configs.filter(|config| config.num_replicas < wanted).collect();
        if !fewer.is_empty() {
            let has = |of: &&StreamConfig| format!("`{}` has {}", of.name, of.num_replicas);
            let edit =
                |of: &&StreamConfig| format!("`nats stream edit {} --replicas {wanted}`", of.name);
            weaker.push(Weakness {
                what: format!(
                    "the URL says {wanted} replicas, and {}",
                    fewer.iter().map(has).collect::<Vec<_>>().join(", ")
                ),
                next: format!(
                    "change that with {}",
                    fewer.iter().map(edit).collect::<Vec<_>>().join(", ")
                ),
            });
        }
        weaker
    }

    /// Takes values out of tasks that come from another store.
    fn take_copies_out(&self, tasks: &mut [TaskCopy]) -> Vec<Put> {
        let inline = self.store.config.inline;
        let mut puts = Vec::new();
        for TaskCopy { info, .. } in tasks {
            if let Ok(shared) = &mut info.task
                && (shared.args.bytes.len() > inline || shared.args.format == OUTSIDE)
            {
                let task = std::sync::Arc::make_mut(shared);
                let whole = task.encoded_len();
                puts.extend(Values::take_out(
                    Of::Arguments(task.id),
                    &mut task.args,
                    inline,
                    whole,
                ));
            }
            let result = info.head.result.as_mut().and_then(|result| result.value.as_mut());
            if let Some(Value::Inline(payload)) = result {
                let whole = payload.bytes.len();
                puts.extend(Values::take_out(Of::Outcome(info.id), payload, inline, whole));
            }
        }
        puts
    }
}

#[async_trait]
impl Admin for NatsTasks {
    async fn check(&self) -> Result<Report> {
        let action = "look the store over";
        let stream = self.stream(action).await?;
        let streams = self.streams(action).await?;
        Ok(Report {
            version: format!("NATS {}", stream.server),
            durability: self.store.config.durability,
            layout: Some(Self::layout(&stream)),
            weaker: self.weaker(&streams),
        })
    }

    /// Does nothing: there is one layout only.
    async fn finish_migration(&self) -> Result<Layout> {
        Ok(Self::layout(&self.stream("finish the migration").await?))
    }

    async fn restored(&self) -> Result<Restored> {
        let action = "note that it was restored";
        let moved = self.ask(Command::Restored, action).await?;
        // Afterwards: a new one always means that every older lease is void.
        let renewed = self.store.values()?.renew_incarnation().await;
        renewed.map_err(|fault| self.store.error(fault, action))?;
        let incarnation = self.stream(action).await?.incarnation;
        Ok(Restored { incarnation: Some(incarnation), moved })
    }

    async fn stats(&self) -> Result<Stats> {
        let action = "count what there is";
        let mut stats = self.peek(action, |core, now| core.stats(now)).await?;
        let streams = self.streams(action).await?.into_iter();
        stats.bytes = streams.map(|(what, info)| (what, info.state.bytes)).collect();
        Ok(stats)
    }

    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage> {
        let action = "read tasks to copy";
        let mut page = self.peek(action, |core, now| core.export(now, after, max)).await?;
        self.complete(page.items.iter_mut().map(|copy| &mut copy.info), action).await?;
        Ok(page)
    }

    async fn import(&self, mut tasks: Vec<TaskCopy>) -> Result<Vec<Imported>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let action = "take in copied tasks";
        let puts = self.take_copies_out(&mut tasks);
        self.keep_and_ask(puts, Command::Import(tasks), action).await
    }
}
