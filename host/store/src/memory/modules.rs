//! The module store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name};

use super::lock;
use crate::{ModuleStore, Pushed, Result};

/// Modules in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryModules(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The versions of each name in the order they were pushed.
    modules: BTreeMap<Name, Vec<Module>>,
    bytes: HashMap<Digest, Arc<Vec<u8>>>,
}

impl MemoryModules {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Kept {
    fn find(&self, name: &Name, version: Option<&Name>) -> Option<&Module> {
        let versions = self.modules.get(name)?;
        match version {
            Some(version) => versions.iter().find(|module| module.version == *version),
            None => versions.last(),
        }
    }

    fn push(&mut self, module: Module, bytes: Vec<u8>) -> Pushed {
        let there = self.find(&module.name, Some(&module.version)).map(|there| there.digest);
        if let Some(other) = there.filter(|there| *there != module.digest) {
            return Pushed::Conflict(other);
        }
        self.bytes.insert(module.digest, Arc::new(bytes));
        if there.is_some() {
            return Pushed::Unchanged;
        }
        self.modules.entry(module.name.clone()).or_default().push(module);
        Pushed::Created
    }

    fn remove(&mut self, name: &Name, version: &Name) -> bool {
        let Some(versions) = self.modules.get_mut(name) else { return false };
        let Some(index) = versions.iter().position(|module| module.version == *version) else {
            return false;
        };
        let digest = versions.remove(index).digest;
        if versions.is_empty() {
            self.modules.remove(name);
        }
        if !self.modules.values().flatten().any(|module| module.digest == digest) {
            self.bytes.remove(&digest);
        }
        true
    }
}

#[async_trait]
impl ModuleStore for MemoryModules {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        Ok(lock(&self.0)?.push(module, bytes))
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        Ok(lock(&self.0)?.find(name, version).cloned())
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let bytes = lock(&self.0)?.bytes.get(digest).cloned();
        Ok(bytes.map(|bytes| bytes.to_vec())) // megabytes are copied outside of the lock
    }

    async fn list(&self) -> Result<Vec<Module>> {
        let kept = lock(&self.0)?;
        Ok(kept.modules.values().flat_map(|versions| versions.iter().rev()).cloned().collect())
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        Ok(lock(&self.0)?.remove(name, version))
    }

    /// Does nothing: the modules live as long as somebody holds the store.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
