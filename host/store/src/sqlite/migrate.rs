//! The layout of a file: numbered steps forward, and which versions of OmniQ may work with it.
//!
//! The number stands in `omniq_meta`, not in `PRAGMA user_version`: the file may belong to an application that counts its
//! own migrations there.

use std::path::Path;

use sqlx::{Row, SqliteConnection};

use super::fault::Fault;
use crate::{Error, Result};

/// A kind of file, and the steps to its newest layout. A step that was released is never changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// What is kept in it, as its meta table says.
    pub kind: &'static str,
    steps: &'static [&'static str],
}

/// Tasks, results and modules.
pub(super) const TASKS: Layout =
    Layout { kind: "tasks", steps: &[include_str!("schema/0001_tasks.sql")] };
/// Events.
pub(super) const EVENTS: Layout = Layout {
    kind: "events",
    steps: &[include_str!("schema/events_0001.sql"), include_str!("schema/events_0002.sql")],
};

/// What a file says about itself.
#[derive(Debug, Clone, Default)]
struct Found {
    kind: String,
    schema: u32,
    min_writer: u32,
    incarnation: String,
}

impl Layout {
    fn newest(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is nothing to bring up to date, as far as a look can tell.
    pub(super) async fn is_current(&self, conn: &mut SqliteConnection, path: &Path) -> bool {
        self.check(conn, path).await.is_ok_and(|found| found.schema >= self.newest())
    }

    /// Brings the file up to date, in the transaction that is open; whoever comes at the same time waits for that.
    pub(super) async fn migrate(&self, conn: &mut SqliteConnection, path: &Path) -> Result<()> {
        let fail = |fault: Fault| fault.into_error(path, "bring the file up to date");
        let found = self.check(conn, path).await?;
        let missing = self.steps.iter().zip(1..).skip(found.schema as usize);
        for (step, number) in missing {
            sqlx::raw_sql(*step).execute(&mut *conn).await.map_err(|error| fail(error.into()))?;
            self.note(conn, number).await.map_err(fail)?;
        }
        Ok(())
    }

    /// Checks that this version may write the file; a file without anything of OmniQ in it is as good as one of schema 0.
    async fn check(&self, conn: &mut SqliteConnection, path: &Path) -> Result<Found> {
        let fail = |fault: Fault| fault.into_error(path, "read its schema");
        let found = found(conn).await.map_err(fail)?;
        if !found.kind.is_empty() && found.kind != self.kind {
            return Err(Error::Config(format!(
                "`{}` holds {}, not {}; give each its own file",
                path.display(),
                found.kind,
                self.kind
            )));
        }
        if found.min_writer > self.newest() {
            return Err(Error::Schema {
                place: format!("`{}`", path.display()),
                found: found.schema,
                oldest: 1,
                newest: self.newest(),
                next: "start an omniq at least as new as the one that wrote it",
            });
        }
        Ok(found)
    }

    /// Checks that the file behind somebody else's connection is ready for tasks.
    pub(super) async fn expect(&self, conn: &mut SqliteConnection) -> Result<()> {
        let path = Path::new("the connection's database");
        let found = self.check(conn, path).await?;
        if found.schema == 0 {
            return Err(Error::Config(
                "the connection's database has no tables of omniq; open the same file as a store first".into(),
            ));
        }
        Ok(())
    }

    /// The layout that the file has.
    pub(super) async fn read(&self, conn: &mut SqliteConnection) -> Result<crate::Layout, Fault> {
        let Found { schema, min_writer, incarnation, .. } = found(conn).await?;
        Ok(crate::Layout { schema, min_writer, oldest: 1, newest: self.newest(), incarnation })
    }

    /// From now on only versions write the file that know its layout.
    pub(super) async fn finish(&self, conn: &mut SqliteConnection) -> Result<crate::Layout, Fault> {
        const FINISH: &str = "
            update omniq_meta set value = (select value from omniq_meta where key = 'schema')
             where key in ('min_reader', 'min_writer')";
        sqlx::query(FINISH).execute(&mut *conn).await?;
        self.read(conn).await
    }

    /// Gives the file another incarnation.
    pub(super) async fn renew(&self, conn: &mut SqliteConnection) -> Result<String, Fault> {
        const RENEW: &str = "
            update omniq_meta set value = lower(hex(randomblob(16))) where key = 'incarnation'";
        sqlx::query(RENEW).execute(&mut *conn).await?;
        Ok(self.read(conn).await?.incarnation)
    }

    /// Notes a step. A file that is new is for versions that know its layout; one that was there stays open to those that
    /// worked with it until [`Self::finish`].
    async fn note(&self, conn: &mut SqliteConnection, schema: u32) -> Result<(), Fault> {
        const NOTE: &str = "
            insert into omniq_meta(key, value)
            values('kind', ?1), ('schema', ?2), ('min_reader', ?2), ('min_writer', ?2),
                  ('incarnation', lower(hex(randomblob(16))))
            on conflict do update set value = excluded.value where key = 'schema'";
        sqlx::query(NOTE).bind(self.kind).bind(i64::from(schema)).execute(conn).await?;
        Ok(())
    }
}

async fn found(conn: &mut SqliteConnection) -> Result<Found, Fault> {
    const THERE: &str = "
        select exists(select 1 from sqlite_schema where type = 'table' and name = 'omniq_meta')";
    const META: &str = "
        select key, cast(value as text) from omniq_meta where key in ('kind', 'schema', 'min_writer', 'incarnation')";
    let there: i64 = sqlx::query_scalar(THERE).fetch_one(&mut *conn).await?;
    let mut found = Found::default();
    if there == 0 {
        return Ok(found);
    }
    for row in sqlx::query(META).fetch_all(conn).await? {
        let value: String = row.try_get(1)?;
        let number = value.parse().unwrap_or(0);
        match row.try_get::<&str, _>(0)? {
            "kind" => found.kind = value,
            "schema" => found.schema = number,
            "min_writer" => found.min_writer = number,
            "incarnation" => found.incarnation = value,
            _ => {}
        }
    }
    Ok(found)
}
