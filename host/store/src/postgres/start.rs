//! What is checked and done before a database is used: that it can be reached, that it is as durable as promised, that its
//! schema is up to date.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row};
use tokio::time::Instant;

use super::config::{Config, TLS};
use super::database::jitter;
use super::fault::{Fault, Result};
use super::migrate::migrate;
use super::pool::connect_options;
use super::sql::Schema;
use crate::{Durability, Error, tls};

/// Makes a place ready to be used.
pub(super) async fn prepare(config: &Config, schema: &Schema) -> crate::Result<()> {
    let place = config.place();
    let fail = |fault: Fault| fault.into_error(&place, "open it");
    // The client reads them itself, for each connection, and says less about what is wrong with them.
    config.tls.read(&TLS).map_err(|error| fail(Fault::Config(error.to_string())))?;
    let mut conn = connect(config, &connect_options(config)).await.map_err(fail)?;
    check_durability(&mut conn, config).await.map_err(fail)??;
    let mut tries = 0;
    loop {
        match bring_up(&mut conn, config, schema).await {
            // Others change it, or use what is to be changed.
            Err(Fault::Again(_)) if tries < 20 => {
                tries += 1;
                tokio::time::sleep(jitter(std::time::Duration::from_millis(20), tries)).await;
            }
            Err(fault) => {
                return Err(
                    explained(fault, config).into_error(&place, "bring its schema up to date")
                );
            }
            Ok(done) => {
                done?;
                break;
            }
        }
    }
    let _ = conn.close().await; // it has done its work
    Ok(())
}

/// Connects, as often as the time allows while the server is not there yet; each pause is another one.
pub(super) async fn connect(config: &Config, options: &PgConnectOptions) -> Result<PgConnection> {
    let deadline = Instant::now() + config.patience;
    let mut tries = 0;
    loop {
        let connected = tokio::time::timeout_at(deadline, options.connect()).await;
        let fault = match connected {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(error)) => refused(error),
            Err(_) => Fault::NotReached("it did not answer".into()),
        };
        tries += 1;
        let pause = jitter(std::time::Duration::from_millis(20), tries);
        if !matches!(fault, Fault::NotReached(_)) || Instant::now() + pause >= deadline {
            return Err(fault);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Why a connection was not made.
fn refused(error: sqlx::Error) -> Fault {
    if let Some(reason) = tls::explain(&error, &TLS) {
        return Fault::Config(reason);
    }
    match error {
        sqlx::Error::Tls(reason) => Fault::Config(format!(
            "no encrypted connection can be made: {reason}; let the server have `ssl = on`, or {}",
            TLS.plain
        )),
        other => Fault::on_connect(other),
    }
}

async fn bring_up(
    conn: &mut PgConnection,
    config: &Config,
    schema: &Schema,
) -> Result<Result<(), Error>> {
    sqlx::raw_sql("begin isolation level read committed; set local lock_timeout = 2000; set local statement_timeout = 60000")
        .execute(&mut *conn)
        .await?;
    let done = migrate(conn, schema, &config.schema).await;
    let end = if matches!(done, Ok(Ok(()))) { "commit" } else { "rollback" };
    let ended = sqlx::raw_sql(end).execute(conn).await;
    let done = done?;
    ended?;
    Ok(done)
}

/// Says what to do about a lack of rights.
fn explained(fault: Fault, config: &Config) -> Fault {
    match fault {
        Fault::Config(reason) if reason.contains("42501") => Fault::Config(format!(
            "{reason}; let an administrator run `create schema {} authorization {}`",
            config.schema,
            config.connect.get_username()
        )),
        other => other,
    }
}

/// What a server is set up to lose is refused, or told, by what was promised.
async fn check_durability(conn: &mut PgConnection, config: &Config) -> Result<Result<(), Error>> {
    const SETTINGS: &str = "
        select current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')";
    // In one step, so that a pooler may stand in between.
    let row = sqlx::raw_sql(SETTINGS).fetch_one(conn).await?;
    let [fsync, pages, commit] = [row.try_get::<String, _>(0)?, row.try_get(1)?, row.try_get(2)?];
    if config.durability != Durability::Disk {
        return Ok(Ok(()));
    }
    if fsync == "off" {
        return Ok(Err(Error::Config(format!(
            "{} runs with `fsync = off`, so that a loss of power may damage everything; turn it on, or ask for less with `?durability=os`",
            config.place()
        ))));
    }
    if commit == "off" && !config.pooled {
        return Ok(Err(Error::Config(format!(
            "{} does not let `synchronous_commit` be turned on, so that answers may be lost; ask for less with `?durability=none`",
            config.place()
        ))));
    }
    if pages == "off" {
        tracing::warn!(
            place = config.place(),
            "the server runs with `full_page_writes = off`: a loss of power may damage it unless its file system prevents that"
        );
    }
    Ok(Ok(()))
}
