//! The guard in front of a store of modules.

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name};

use super::{Guarded, eager, long};
use crate::{ModuleStore, Pushed, Result};

#[async_trait]
impl ModuleStore for Guarded<dyn ModuleStore> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        self.guard.call(long("keep a module"), self.inner.push(module, bytes)).await
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        self.guard.call(eager("find a module"), self.inner.find(name, version)).await
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.guard.call(long("read a module"), self.inner.bytes(digest)).await
    }

    async fn list(&self) -> Result<Vec<Module>> {
        self.guard.call(long("list modules"), self.inner.list()).await
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        self.guard.call(eager("forget a module"), self.inner.remove(name, version)).await
    }

    async fn close(&self) -> Result<()> {
        self.guard.close(self.inner.close()).await
    }
}
