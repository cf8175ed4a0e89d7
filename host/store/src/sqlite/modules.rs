//! The module store.

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name, record};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::command::{Command, digest};
use super::config::Config;
use super::database::Handle;
use super::fault::{Fault, Result as Answer};
use super::tx::Tx;
use super::{SqliteTasks, migrate};
use crate::{ModuleStore, Pushed, Result};

/// Modules in a SQLite file: their own, or that of tasks.
#[derive(Debug, Clone)]
pub struct SqliteModules {
    db: Handle,
}

impl SqliteModules {
    /// Opens a file of its own, or creates it; see [`SqliteTasks::open`].
    ///
    /// # Errors
    /// As [`SqliteTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config, migrate::TASKS).await? })
    }

    /// Modules in the file of these tasks, by the same writer.
    pub fn beside(tasks: &SqliteTasks) -> Self {
        Self { db: tasks.db.beside() }
    }

    /// The file, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config, migrate::TASKS).await? })
    }
}

#[async_trait]
impl ModuleStore for SqliteModules {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        self.db.ask(Command::PushModule(Box::new(module), bytes), "push a module").await
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        let mut reader = self.db.reader().await?;
        let found = find(reader.conn(), name, version).await;
        found.map_err(|fault| self.db.error(fault, "find a module"))
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        const BYTES: &str = "select bytes from omniq_component where digest = ?1";
        let mut reader = self.db.reader().await?;
        let query = sqlx::query_scalar(BYTES).bind(digest.as_bytes().to_vec());
        let bytes = query.fetch_optional(reader.conn()).await;
        bytes.map_err(|error| self.db.error(error.into(), "read a module"))
    }

    async fn list(&self) -> Result<Vec<Module>> {
        const LIST: &str = "select record from omniq_module order by name, seq desc";
        let mut reader = self.db.reader().await?;
        let rows = sqlx::query(LIST).fetch_all(reader.conn()).await.map_err(Fault::from);
        let modules = rows.and_then(|rows| rows.iter().map(module).collect());
        modules.map_err(|fault| self.db.error(fault, "list modules"))
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        let remove = Command::RemoveModule(name.clone(), version.clone());
        self.db.ask(remove, "remove a module").await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

async fn find(
    conn: &mut SqliteConnection,
    name: &Name,
    version: Option<&Name>,
) -> Answer<Option<Module>> {
    const FIND: &str = "
        select record from omniq_module where name = ?1 and (?2 is null or version = ?2)
         order by seq desc limit 1";
    let row = sqlx::query(FIND)
        .bind(name.as_str().to_owned())
        .bind(version.map(|version| version.as_str().to_owned()))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(module).transpose()
}

fn module(row: &SqliteRow) -> Answer<Module> {
    record::decode("module", row.try_get(0)?).map_err(|error| Fault::Corrupt(error.to_string()))
}

impl Tx<'_> {
    /// See [`ModuleStore::push`].
    pub(super) async fn push_module(&mut self, module: &Module, bytes: &[u8]) -> Answer<Pushed> {
        const THERE: &str = "select digest from omniq_module where name = ?1 and version = ?2";
        // What is there may be damaged, and this is not.
        const COMPONENT: &str = "
            insert into omniq_component(digest, bytes) values(?1, ?2)
            on conflict do update set bytes = excluded.bytes where bytes <> excluded.bytes";
        const MODULE: &str = "
            insert into omniq_module(name, version, digest, record) values(?1, ?2, ?3, ?4)";
        let there: Option<Vec<u8>> = sqlx::query_scalar(THERE)
            .bind(module.name.as_str().to_owned())
            .bind(module.version.as_str().to_owned())
            .fetch_optional(&mut *self.conn)
            .await?;
        let there = there.as_deref().map(digest).transpose()?;
        if let Some(other) = there.filter(|there| *there != module.digest) {
            return Ok(Pushed::Conflict(other));
        }
        let hash = module.digest.as_bytes().to_vec();
        sqlx::query(COMPONENT)
            .bind(hash.clone())
            .bind(bytes.to_vec())
            .execute(&mut *self.conn)
            .await?;
        if there.is_some() {
            return Ok(Pushed::Unchanged);
        }
        sqlx::query(MODULE)
            .bind(module.name.as_str().to_owned())
            .bind(module.version.as_str().to_owned())
            .bind(hash)
            .bind(record::encode(module))
            .execute(&mut *self.conn)
            .await?;
        Ok(Pushed::Created)
    }

    /// See [`ModuleStore::remove`].
    pub(super) async fn remove_module(&mut self, name: &Name, version: &Name) -> Answer<bool> {
        const REMOVE: &str =
            "delete from omniq_module where name = ?1 and version = ?2 returning digest";
        const ORPHAN: &str = "
            delete from omniq_component where digest = ?1
               and not exists(select 1 from omniq_module m where m.digest = ?1)";
        let hash: Option<Vec<u8>> = sqlx::query_scalar(REMOVE)
            .bind(name.as_str().to_owned())
            .bind(version.as_str().to_owned())
            .fetch_optional(&mut *self.conn)
            .await?;
        let Some(hash) = hash else { return Ok(false) };
        sqlx::query(ORPHAN).bind(hash).execute(&mut *self.conn).await?;
        Ok(true)
    }
}
