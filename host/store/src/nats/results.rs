//! The result store.

use async_trait::async_trait;
use omniq_model::{Payload, TaskId};

use super::config::Config;
use super::engine::Handle;
use super::entry::{Answer, Entry, Staged};
use super::fault::NAME;
use super::tasks::NatsTasks;
use super::values::{Of, Values};
use crate::log::outside::Outside;
use crate::{Error, Result, ResultKey, ResultStore, StagedResult};

/// Results in NATS: which there are is in the log, their values are beside it.
#[derive(Debug, Clone)]
pub struct NatsResults {
    store: Handle,
}

impl NatsResults {
    /// Opens the store, or creates it.
    ///
    /// # Errors
    /// As [`NatsTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { store: Handle::open(config).await? })
    }

    /// The store, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { store: Handle::shared(config).await? })
    }

    /// Results beside tasks that are open.
    pub fn beside(tasks: &NatsTasks) -> Self {
        Self { store: tasks.store.beside() }
    }
}

#[async_trait]
impl ResultStore for NatsResults {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        let action = "keep results";
        if results.is_empty() {
            return Ok(());
        }
        let (mut puts, mut staged) = (Vec::new(), Vec::new());
        for StagedResult { key, mut value, ttl } in results {
            let whole = value.bytes.len();
            // However small: the log holds only where they are.
            puts.push(Values::take_out_always(Of::Staged(key.task), &mut value, whole));
            let outside = Outside::of(&value).ok().flatten();
            let value = outside.ok_or(Error::Unsupported { backend: NAME, action })?;
            staged.push(Staged { key, value, ttl: ttl.get() });
        }
        let by = self.store.keep(puts, action).await?;
        self.store.ask_by(Entry::PutResults(staged), by, action).await?;
        Ok(())
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        let action = "read results";
        let known = |state: &super::state::State, _| {
            keys.iter().map(|key| state.result(key)).collect::<Vec<_>>()
        };
        let outside = self.store.read_all(action, known).await?;
        let wanted = keys.iter().zip(&outside);
        let wanted = wanted
            .filter_map(|(key, outside)| Some((Of::Staged(key.task), outside.as_ref()?.payload())));
        let fetched = self.store.values()?.fetch(wanted.collect()).await;
        let fetched = fetched.map_err(|fault| self.store.error(fault, action))?;
        let mut fetched = fetched.into_iter();
        // A value that is gone although it should be there is `None` too: whoever asks knows whether its time is over.
        let value = |outside: &Option<Outside>| outside.and_then(|_| fetched.next()?.ok());
        Ok(outside.iter().map(value).collect())
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        self.store.ask(Entry::RemoveResults(tasks.to_vec()), "forget results").await?;
        Ok(())
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        let action = "forget old results";
        if !self.store.read_all(action, |state, now| state.may_purge_results(now)).await? {
            return Ok(0);
        }
        match self.store.ask(Entry::PurgeResults(max), action).await? {
            Answer::Count(count) => Ok(count),
            other => Err(Error::unavailable(
                NAME,
                action,
                format!("the answer is another one: {other:?}"),
            )),
        }
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}
