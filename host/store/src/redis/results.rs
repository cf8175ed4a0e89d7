//! The result store: the values of one task are one hash, which the server forgets by itself when its time is over.

use async_trait::async_trait;
use omniq_model::{Format, Payload, TaskId};

use super::fault::{NAME, Result as Answer};
use super::server::{Handle, Store};
use super::wire::{self, Bytes};
use super::{Config, RedisTasks, batch, reply, script};
use crate::{Result, ResultKey, ResultStore, StagedResult};

/// Values of one script at most, and bytes after which none is added.
const MOST: usize = 100;
const MOST_BYTES: usize = 4 << 20;

/// Results on a server: by themselves, or beside tasks.
#[derive(Debug, Clone)]
pub struct RedisResults {
    server: Handle,
}

impl RedisResults {
    /// Opens the store that is there, or begins one; see [`RedisTasks::open`].
    ///
    /// # Errors
    /// As [`RedisTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { server: Handle::open(config).await? })
    }

    /// Results beside these tasks, by the same connection.
    pub fn beside(tasks: &RedisTasks) -> Self {
        Self { server: tasks.server.beside() }
    }

    /// The store, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { server: Handle::shared(config).await? })
    }
}

#[async_trait]
impl ResultStore for RedisResults {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        let action = "keep results";
        self.server.run(action, |store| async move { store.put_results(results).await }).await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        let keys = keys.to_vec();
        self.server.run("read results", |store| async move { store.results(keys).await }).await
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        let tasks = tasks.to_vec();
        let action = "remove results";
        self.server.run(action, |store| async move { store.remove_results(tasks).await }).await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        let action = "forget results";
        self.server.run(action, |store| async move { store.purge_results(max).await }).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close().await;
        Ok(())
    }
}

/// Fence and nonce, as fields of a task's hash end.
fn token(key: &ResultKey) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.token.fence.to_be_bytes());
    bytes[8..].copy_from_slice(&key.token.nonce.to_be_bytes());
    bytes
}

impl Store {
    fn of_task(&self, task: TaskId) -> Vec<u8> {
        self.key(&format!("result:{task}"))
    }

    async fn put_results(&self, results: Vec<StagedResult>) -> Answer<()> {
        let mut rest = &results[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(MOST).take_while(|staged| {
                let fits = bytes < MOST_BYTES;
                bytes += staged.value.bytes.len();
                fits
            });
            let (part, left) = rest.split_at(fits.count());
            rest = left;
            let mut keys = vec![self.key("results"), self.key("meta")];
            let mut args = vec![self.time()];
            for staged in part {
                keys.push(self.of_task(staged.key.task));
                args.push(token(&staged.key).to_vec());
                args.push(wire::span(staged.ttl).to_string().into_bytes());
                args.push(staged.key.task.as_bytes().to_vec());
                args.push([&[staged.value.format.number()], &staged.value.bytes[..]].concat());
            }
            batch::hit("put_results", "before_call");
            self.link.run(&script::PUT_RESULTS, &keys, &args).await?;
            batch::hit("put_results", "after_call");
        }
        Ok(())
    }

    /// One after the other: values may be large, and more than one is seldom asked for.
    async fn results(&self, keys: Vec<ResultKey>) -> Answer<Vec<Option<Payload>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let mut command = redis::cmd("HGET");
            command.arg(self.of_task(key.task)).arg([b"v", &token(&key)[..]].concat());
            let value = reply::maybe_bytes(self.link.query(&command).await?)?;
            found.push(value.map(|value| payload(&value)).transpose()?);
        }
        Ok(found)
    }

    async fn remove_results(&self, tasks: Vec<TaskId>) -> Answer<()> {
        for part in tasks.chunks(MOST) {
            let mut keys = vec![self.key("results")];
            keys.extend(part.iter().map(|task| self.of_task(*task)));
            let args = part.iter().map(|task| task.as_bytes());
            self.link.run(&script::REMOVE_RESULTS, &keys, args).await?;
        }
        Ok(())
    }

    async fn purge_results(&self, max: usize) -> Answer<usize> {
        let now = wire::seven(wire::instant(self.now().await?));
        let mut purged = 0;
        while purged < max {
            let most = (max - purged).min(MOST);
            let mut over = redis::cmd("ZRANGEBYLEX");
            over.arg(self.key("results")).arg("-").arg([b"[", &now[..], b"\xff"].concat());
            over.arg("LIMIT").arg(0).arg(most);
            let members = reply::all_bytes(self.link.query(&over).await?)?;
            if members.is_empty() {
                break;
            }
            let mut keys = vec![self.key("results")];
            for member in &members {
                let mut bytes = Bytes(member);
                bytes.take(7)?;
                keys.push(self.of_task(bytes.id()?));
            }
            let gone = self.link.run(&script::PURGE_RESULTS, &keys, &members).await?;
            purged += reply::size(&gone)?;
        }
        Ok(purged)
    }
}

fn payload(value: &[u8]) -> Answer<Payload> {
    let mut bytes = Bytes(value);
    let format = Format::from_number(bytes.byte()?);
    Ok(Payload { format, bytes: bytes.0.to_vec() })
}
