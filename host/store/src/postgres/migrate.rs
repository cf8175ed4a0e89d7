//! The layout of a schema: numbered steps forward, and which versions of OmniQ may work with it.
//!
//! Two releases may share a schema: a step only adds, and functions that are called keep what they take and give; one that
//! has to change gets a new name. `min_writer` is raised by a step that older releases could not live with.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::fault::{Fault, Result};
use super::sql::Schema;
use crate::Error;

/// The steps to the newest layout. A step that was released is never changed.
const STEPS: [&str; 5] = [
    include_str!("schema/0001_tables.sql"),
    include_str!("schema/0002_functions.sql"),
    include_str!("schema/0003_enqueue.sql"),
    include_str!("schema/0004_days.sql"),
    include_str!("schema/0005_expiry.sql"),
];
/// The oldest version of OmniQ that may write what a new schema holds.
const MIN_WRITER: u32 = 3;
/// The oldest server: partitions that are attached beside readers, and `octet_length` of values that are not read.
const OLDEST_SERVER: i32 = 130_000;

/// What a schema says about itself.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    schema: u32,
    min_writer: u32,
}

pub(super) fn newest() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Brings the schema up to date, in the transaction that is open; whoever comes at the same time waits for that.
pub(super) async fn migrate(
    conn: &mut PgConnection,
    schema: &Schema,
    name: &str,
) -> Result<Result<(), Error>> {
    if let Err(error) = check_server(conn).await? {
        return Ok(Err(error));
    }
    let found = found(conn, schema, name).await?;
    if let Err(error) = check(found, name) {
        return Ok(Err(error));
    }
    if found.schema >= newest() {
        return Ok(Ok(()));
    }
    lock(conn, name).await?;
    // Another process may have done it while this one waited.
    let found = self::found(conn, schema, name).await?;
    if found.schema == 0 {
        if !exists(conn, name).await? {
            run(conn, &schema.fill("create schema $S")).await?;
        }
        run(conn, &schema.fill("create table $S.meta(key text primary key, value text not null)"))
            .await?;
    }
    for (step, number) in STEPS.iter().zip(1_u32..).skip(found.schema as usize) {
        run(conn, &schema.fill(step)).await?;
        note(conn, schema, number).await?;
    }
    Ok(Ok(()))
}

/// One process at a time changes what a schema consists of, until its transaction is over.
pub(super) async fn lock(conn: &mut PgConnection, name: &str) -> Result<()> {
    const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('omniq ' || $1, 0))";
    sqlx::query(LOCK).persistent(false).bind(name.to_owned()).execute(conn).await?;
    Ok(())
}

async fn run(conn: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await?;
    Ok(())
}

async fn check_server(conn: &mut PgConnection) -> Result<Result<(), Error>> {
    const SERVER: &str = "
        select current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery()";
    let row = sqlx::query(SERVER).persistent(false).fetch_one(conn).await?;
    if row.try_get::<i32, _>(0)? < OLDEST_SERVER {
        let version: String = row.try_get(1)?;
        return Ok(Err(Error::Config(format!(
            "the server is PostgreSQL {version}, and 13 is the oldest that will do; upgrade it"
        ))));
    }
    if row.try_get(2)? {
        return Ok(Err(Error::Config(
            "the server is a standby, which only lets itself be read; name the primary".into(),
        )));
    }
    Ok(Ok(()))
}

async fn exists(conn: &mut PgConnection, name: &str) -> Result<bool> {
    const EXISTS: &str = "select to_regnamespace($1) is not null";
    Ok(sqlx::query(EXISTS)
        .persistent(false)
        .bind(name.to_owned())
        .fetch_one(conn)
        .await?
        .try_get(0)?)
}

async fn found(conn: &mut PgConnection, schema: &Schema, name: &str) -> Result<Found> {
    const THERE: &str = "select to_regclass($1) is not null";
    const META: &str = "select key, value from $S.meta where key in ('schema', 'min_writer')";
    let mut found = Found::default();
    let table = format!("{name}.meta");
    let there: bool =
        sqlx::query(THERE).persistent(false).bind(table).fetch_one(&mut *conn).await?.try_get(0)?;
    if !there {
        return Ok(found);
    }
    let query = sqlx::query(AssertSqlSafe(schema.fill(META))).persistent(false);
    for row in query.fetch_all(conn).await? {
        let number = row.try_get::<String, _>(1)?.parse().unwrap_or(0);
        match row.try_get::<&str, _>(0)? {
            "schema" => found.schema = number,
            "min_writer" => found.min_writer = number,
            _ => {}
        }
    }
    Ok(found)
}

/// Checks that this version may write the schema; one without anything of OmniQ in it is as good as one of number 0.
fn check(found: Found, name: &str) -> Result<(), Error> {
    if found.min_writer > newest() {
        return Err(Error::Schema {
            place: format!("the schema `{name}`"),
            found: found.schema,
            oldest: 1,
            newest: newest(),
            next: "start an omniq at least as new as the one that wrote it",
        });
    }
    Ok(())
}

/// Checks that the database behind somebody else's connection is ready for tasks.
pub(super) async fn expect(
    conn: &mut PgConnection,
    schema: &Schema,
    name: &str,
) -> Result<(), Error> {
    let place = "the transaction's database";
    let fail = |fault: Fault| fault.into_error(place, "enqueue tasks in a transaction");
    let found = found(conn, schema, name).await.map_err(fail)?;
    check(found, name)?;
    if found.schema == 0 {
        return Err(Error::Config(format!(
            "the transaction's database has no schema `{name}` of omniq; open the same database as a store first"
        )));
    }
    Ok(())
}

/// Gives the schema another incarnation.
pub(super) async fn renew(conn: &mut PgConnection, schema: &Schema) -> Result<String> {
    const RENEW: &str = "
        update $S.meta set value = gen_random_uuid()::text where key = 'incarnation' returning value";
    let row = schema.query(RENEW).fetch_one(conn).await?;
    Ok(row.try_get(0)?)
}

async fn note(conn: &mut PgConnection, schema: &Schema, number: u32) -> Result<()> {
    const NOTE: &str = "
        insert into $S.meta(key, value)
        values('kind', 'tasks'), ('schema', $1), ('min_reader', $2), ('min_writer', $2), ('incarnation', gen_random_uuid()::text)
        on conflict (key) do update set value = excluded.value where meta.key <> 'incarnation'";
    let sql = AssertSqlSafe(schema.fill(NOTE));
    let query = sqlx::query(sql)
        .persistent(false)
        .bind(number.to_string())
        .bind(number.min(MIN_WRITER).to_string());
    query.execute(conn).await?;
    Ok(())
}
