//! The module store.

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name};

use super::config::Config;
use super::engine::Handle;
use super::entry::{Answer, Entry};
use super::fault::NAME;
use super::tasks::NatsTasks;
use crate::{Error, ModuleStore, Pushed, Result};

/// Modules in NATS: which there are is in the log, their bytes are objects.
#[derive(Debug, Clone)]
pub struct NatsModules {
    store: Handle,
}

impl NatsModules {
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

    /// Modules beside tasks that are open.
    pub fn beside(tasks: &NatsTasks) -> Self {
        Self { store: tasks.store.beside() }
    }

    /// Sees to it that these are the bytes of that digest, which others had pushed before.
    async fn mend(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let action = "push a module";
        let object = self.store.read_all(action, |state, _| state.module_bytes(digest)).await?;
        let Some(object) = object else { return Ok(()) }; // removed since
        let values = self.store.values()?;
        // What cannot be read is written anew; whether the server is there at all, that shows.
        if !values.object(&object).await.is_ok_and(|there| there.as_deref() == Some(bytes)) {
            let put = values.put_large(&object, bytes).await;
            put.map_err(|fault| self.store.error(fault, action))?;
        }
        Ok(())
    }

    /// Removes an object that nothing points to. What fails is left over, and found by the sweep.
    async fn remove_object(&self, object: &str) {
        if let Ok(values) = self.store.values() {
            let _ = values.remove_object(object).await;
        }
    }
}

#[async_trait]
impl ModuleStore for NatsModules {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        let action = "push a module";
        // A name of its own for each push: nobody else removes the object before the module points to it.
        let object = format!("module.{:?}.{:016x}", module.digest, super::random());
        let put = self.store.values()?.put_large(&object, &bytes).await;
        let by = put.map_err(|fault| self.store.error(fault, action))?;
        let digest = module.digest;
        let entry = Entry::PushModule(Box::new(module), object.clone());
        match self.store.ask_by(entry, Some(by), action).await? {
            Answer::Pushed(pushed, kept) => {
                if !kept {
                    self.remove_object(&object).await;
                }
                if !kept && !matches!(pushed, Pushed::Conflict(_)) {
                    self.mend(&digest, &bytes).await?;
                }
                Ok(pushed)
            }
            other => Err(Error::unavailable(
                NAME,
                action,
                format!("the answer is another one: {other:?}"),
            )),
        }
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        let find = |state: &super::state::State, _| state.module(name, version).cloned();
        self.store.read_all("find a module", find).await
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let action = "read a module";
        let object = self.store.read_all(action, |state, _| state.module_bytes(digest)).await?;
        let Some(object) = object else { return Ok(None) };
        let bytes = self.store.values()?.object(&object).await;
        bytes.map_err(|fault| self.store.error(fault, action))
    }

    async fn list(&self) -> Result<Vec<Module>> {
        self.store.read_all("list modules", |state, _| state.modules()).await
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        let action = "remove a module";
        let entry = Entry::RemoveModule(name.clone(), version.clone());
        match self.store.ask(entry, action).await? {
            Answer::Removed(removed, object) => {
                if let Some(object) = object {
                    self.remove_object(&object).await;
                }
                Ok(removed)
            }
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
