//! The module store.

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name, record};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresTasks;
use super::command::Command;
use super::config::Config;
use super::database::Handle;
use super::fault::{Fault, Result as Answer};
use super::tx::Tx;
use crate::{ModuleStore, Pushed, Result};

/// Modules in a PostgreSQL database: their own, or that of tasks.
#[derive(Debug, Clone)]
pub struct PostgresModules {
    db: Handle,
}

impl PostgresModules {
    /// Opens a place of its own; see [`PostgresTasks::open`].
    ///
    /// # Errors
    /// As [`PostgresTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config).await? })
    }

    /// Modules beside these tasks, by the same connections.
    pub fn beside(tasks: &PostgresTasks) -> Self {
        Self { db: tasks.db.beside() }
    }

    /// The place, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config).await? })
    }
}

#[async_trait]
impl ModuleStore for PostgresModules {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        self.db.ask(Command::PushModule(Box::new(module), bytes), "push a module").await
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        const FIND: &str = "
            select record from $S.module where name = $1 and ($2::text is null or version = $2)
             order by seq desc limit 1";
        let (name, version) =
            (name.as_str().to_owned(), version.map(|version| version.as_str().to_owned()));
        let found = self.db.run("find a module", move |db| async move {
            let rows = db
                .fetch(|schema| schema.query(FIND).bind(name.clone()).bind(version.clone()))
                .await?;
            rows.first().map(module).transpose()
        });
        found.await
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        const BYTES: &str = "select bytes from $S.component where digest = $1";
        let digest = digest.as_bytes().to_vec();
        let bytes = self.db.run("read a module", move |db| async move {
            let rows = db.fetch(|schema| schema.query(BYTES).bind(digest.clone())).await?;
            Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
        });
        bytes.await
    }

    async fn list(&self) -> Result<Vec<Module>> {
        const LIST: &str = "select record from $S.module order by name, seq desc";
        let modules = self.db.run("list modules", |db| async move {
            db.fetch(|schema| schema.query(LIST)).await?.iter().map(module).collect()
        });
        modules.await
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        let remove = Command::RemoveModule(name.clone(), version.clone());
        self.db.ask(remove, "remove a module").await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

fn module(row: &PgRow) -> Answer<Module> {
    record::decode("module", row.try_get(0)?).map_err(|error| Fault::Corrupt(error.to_string()))
}

/// What the digest of other bytes is told as.
fn digest(bytes: &[u8]) -> Answer<Digest> {
    let hash = bytes
        .try_into()
        .map_err(|_| Fault::Corrupt(format!("a digest has {} bytes, not 32", bytes.len())))?;
    Ok(Digest::from_sha256(hash))
}

impl Tx<'_> {
    /// See [`ModuleStore::push`].
    pub(super) async fn push_module(&mut self, module: &Module, bytes: &[u8]) -> Answer<Pushed> {
        // What is there may be damaged, and this is not.
        const COMPONENT: &str = "
            insert into $S.component as c(digest, bytes) values($1, $2)
            on conflict (digest) do update set bytes = excluded.bytes where c.bytes <> excluded.bytes";
        const MODULE: &str = "
            insert into $S.module(name, version, digest, command, record) values($1, $2, $3, $4, $5)
            on conflict do nothing returning seq";
        const THERE: &str = "select digest from $S.module where name = $1 and version = $2";
        const FUNCTIONS: &str = "
            insert into $S.function(module, short, name)
            select $1, u.short, u.name from unnest($2::text[], $3::text[]) as u(short, name) on conflict do nothing";
        self.lock_modules().await?;
        let (name, version) = (module.name.as_str(), module.version.as_str());
        let hash = module.digest.as_bytes().to_vec();
        let query =
            self.query(MODULE).bind(name.to_owned()).bind(version.to_owned()).bind(hash.clone());
        let made = query
            .bind(module.command)
            .bind(record::encode(module))
            .fetch_optional(&mut *self.conn)
            .await?;
        if made.is_none() {
            let query = self.query(THERE).bind(name.to_owned()).bind(version.to_owned());
            let there = digest(query.fetch_one(&mut *self.conn).await?.try_get(0)?)?;
            if there != module.digest {
                return Ok(Pushed::Conflict(there));
            }
        }
        self.query(COMPONENT).bind(hash).bind(bytes.to_vec()).execute(&mut *self.conn).await?;
        let Some(made) = made else { return Ok(Pushed::Unchanged) };
        let names =
            module.functions.iter().map(|function| (clean(&function.short), clean(&function.name)));
        let (shorts, names): (Vec<String>, Vec<String>) = names.unzip();
        let query = self.query(FUNCTIONS).bind(made.try_get::<i64, _>(0)?).bind(shorts).bind(names);
        query.execute(&mut *self.conn).await?;
        Ok(Pushed::Created)
    }

    /// See [`ModuleStore::remove`].
    pub(super) async fn remove_module(&mut self, name: &Name, version: &Name) -> Answer<bool> {
        const REMOVE: &str =
            "delete from $S.module where name = $1 and version = $2 returning digest, seq";
        const FUNCTIONS: &str = "delete from $S.function where module = $1";
        const ORPHAN: &str = "
            delete from $S.component where digest = $1
               and not exists (select 1 from $S.module m where m.digest = $1)";
        self.lock_modules().await?;
        let query =
            self.query(REMOVE).bind(name.as_str().to_owned()).bind(version.as_str().to_owned());
        let Some(row) = query.fetch_optional(&mut *self.conn).await? else { return Ok(false) };
        let (hash, seq): (Vec<u8>, i64) = (row.try_get(0)?, row.try_get(1)?);
        self.query(FUNCTIONS).bind(seq).execute(&mut *self.conn).await?;
        self.query(ORPHAN).bind(hash).execute(&mut *self.conn).await?;
        Ok(true)
    }

    /// One at a time, so that the bytes of a module that is pushed again do not go with an older version of it.
    async fn lock_modules(&mut self) -> Answer<()> {
        const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('omniq modules $S', 0))";
        self.query(LOCK).execute(&mut *self.conn).await?;
        Ok(())
    }
}

/// Text as a column may hold it.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
