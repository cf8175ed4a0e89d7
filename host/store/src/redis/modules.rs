//! The module store.

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name, record};

use super::fault::{Fault, NAME, Result as Answer};
use super::server::{Handle, Store};
use super::{Config, RedisTasks, batch, reply, script};
use crate::{ModuleStore, Pushed, Result};

/// Modules on a server: by themselves, or beside tasks.
#[derive(Debug, Clone)]
pub struct RedisModules {
    server: Handle,
}

impl RedisModules {
    /// Opens the store that is there, or begins one; see [`RedisTasks::open`].
    ///
    /// # Errors
    /// As [`RedisTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { server: Handle::open(config).await? })
    }

    /// Modules beside these tasks, by the same connection.
    pub fn beside(tasks: &RedisTasks) -> Self {
        Self { server: tasks.server.beside() }
    }

    /// The store, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { server: Handle::shared(config).await? })
    }
}

#[async_trait]
impl ModuleStore for RedisModules {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        let action = "push a module";
        self.server.run(action, |store| async move { store.push(module, bytes).await }).await
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        let (name, version) = (name.clone(), version.cloned());
        let action = "find a module";
        self.server.run(action, |store| async move { store.find(name, version).await }).await
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let digest = *digest;
        let action = "read a module";
        self.server.run(action, |store| async move { store.component(digest).await }).await
    }

    async fn list(&self) -> Result<Vec<Module>> {
        self.server.run("list modules", |store| async move { store.modules().await }).await
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        let (name, version) = (name.clone(), version.clone());
        let action = "remove a module";
        self.server.run(action, |store| async move { store.remove(name, version).await }).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close().await;
        Ok(())
    }
}

/// Where a version is kept among the modules.
fn field(name: &Name, version: &Name) -> Vec<u8> {
    [name.as_str().as_bytes(), &[1], version.as_str().as_bytes()].concat()
}

/// A version as it is kept: its place in the order of pushes, its digest, its record.
fn read(value: &[u8]) -> Answer<(u64, Module)> {
    let place = value.get(..7).unwrap_or_default();
    let place = place.iter().fold(0, |place, byte| place << 8 | u64::from(*byte));
    let module = record::decode("module", value.get(39..).unwrap_or_default());
    Ok((place, module.map_err(|error| Fault::Corrupt(error.to_string()))?))
}

impl Store {
    fn module_keys(&self) -> [Vec<u8>; 4] {
        ["modules", "components", "versions", "pushes"].map(|name| self.key(name))
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Answer<Pushed> {
        let record = record::encode(&module);
        let args: [&[u8]; 5] = [
            module.name.as_str().as_bytes(),
            module.version.as_str().as_bytes(),
            module.digest.as_bytes(),
            &record,
            &bytes,
        ];
        batch::hit("push_module", "before_call");
        let answer = self.link.run(&script::PUSH_MODULE, &self.module_keys(), args).await?;
        batch::hit("push_module", "after_call");
        let there = reply::bytes(answer)?;
        if there.is_empty() {
            return Ok(Pushed::Created);
        }
        let there: [u8; 32] = there
            .try_into()
            .map_err(|_| Fault::Corrupt("the digest of a module has not 32 bytes".to_owned()))?;
        let there = Digest::from_sha256(there);
        Ok(if there == module.digest { Pushed::Unchanged } else { Pushed::Conflict(there) })
    }

    async fn find(&self, name: Name, version: Option<Name>) -> Answer<Option<Module>> {
        let [modules, _, versions, _] = self.module_keys();
        let version = match version {
            Some(version) => version,
            None => {
                let begins = [name.as_str().as_bytes(), &[1]].concat();
                let mut last = redis::cmd("ZREVRANGEBYLEX");
                last.arg(versions).arg([b"[", &begins[..], b"\xff"].concat());
                last.arg([b"[", &begins[..]].concat()).arg("LIMIT").arg(0).arg(1);
                let found = reply::all_bytes(self.link.query(&last).await?)?;
                let Some(member) = found.first() else { return Ok(None) };
                let text = member.get(begins.len() + 7..).unwrap_or_default();
                let text = String::from_utf8_lossy(text);
                text.parse().map_err(|_| Fault::Corrupt(format!("`{text}` is no version")))?
            }
        };
        let mut get = redis::cmd("HGET");
        get.arg(modules).arg(field(&name, &version));
        let value = reply::maybe_bytes(self.link.query(&get).await?)?;
        value.map(|value| read(&value).map(|(_, module)| module)).transpose()
    }

    async fn component(&self, digest: Digest) -> Answer<Option<Vec<u8>>> {
        let [_, components, ..] = self.module_keys();
        let mut get = redis::cmd("HGET");
        get.arg(components).arg(&digest.as_bytes()[..]);
        reply::maybe_bytes(self.link.query(&get).await?)
    }

    async fn modules(&self) -> Answer<Vec<Module>> {
        let [modules, ..] = self.module_keys();
        let mut values = redis::cmd("HVALS");
        values.arg(modules);
        let values = reply::all_bytes(self.link.query(&values).await?)?;
        let mut all = values.iter().map(|value| read(value)).collect::<Answer<Vec<_>>>()?;
        all.sort_by(|(a_place, a), (b_place, b)| a.name.cmp(&b.name).then(b_place.cmp(a_place)));
        Ok(all.into_iter().map(|(_, module)| module).collect())
    }

    async fn remove(&self, name: Name, version: Name) -> Answer<bool> {
        let args = [name.as_str().as_bytes(), version.as_str().as_bytes()];
        let answer = self.link.run(&script::REMOVE_MODULE, &self.module_keys(), args).await?;
        Ok(reply::int(&answer)? > 0)
    }
}
