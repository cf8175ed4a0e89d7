//! The connection that listens, and the one who tells.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::config::{Config, Listen};
use super::database::{Database, jitter};
use super::watch::Watch;

/// Others are told at most so often.
const SPACING: Duration = Duration::from_millis(20);

/// Starts what listens, tells and looks. They end with the database's runtime.
pub(super) fn start(db: &Arc<Database>) {
    let channel = channel(&db.config.schema);
    if !matches!(db.config.listen, Listen::Off)
        && (!db.config.pooled || matches!(db.config.listen, Listen::At(_)))
    {
        let (config, watch) = (db.config.clone(), Arc::clone(&db.watch));
        let channel = channel.clone();
        db.runtime.spawn(async move { listen(&config, &watch, &channel).await });
    }
    let watch = Arc::clone(&db.watch);
    db.runtime.spawn(async move { watch.look().await });
    let (weak, watch) = (Arc::downgrade(db), Arc::clone(&db.watch));
    db.runtime.spawn(async move {
        loop {
            watch.tell.notified().await;
            let Some(db) = weak.upgrade() else { return };
            if let Some(what) = watch.take_untold() {
                tell(&db, &channel, what).await;
            }
            drop(db);
            tokio::time::sleep(SPACING).await;
        }
    });
}

/// The channel of a schema: nobody hears of others' tasks.
fn channel(schema: &str) -> String {
    format!("omniq:{schema}")
}

/// Tells other processes. What is lost is found by those who look, so that nobody waits for the disk.
async fn tell(db: &Database, channel: &str, what: &'static str) {
    const TELL: &str = "select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
    let told = db.fetch(|schema| schema.query(TELL).bind(channel.to_owned()).bind(what)).await;
    if let Err(fault) = told {
        tracing::debug!(%fault, "other processes were not told of a change");
    }
}

/// Listens for as long as the runtime lives.
async fn listen(config: &Config, watch: &Watch, channel: &str) {
    let options = match &config.listen {
        Listen::At(options) => (**options).clone(),
        Listen::Here | Listen::Off => config.connect.clone(),
    };
    let mut tries = 0;
    loop {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(config.patience)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options.clone());
        match hear(&pool, watch, channel).await {
            Ok(()) => tries = 0,
            Err(error) => {
                tries += 1;
                tracing::debug!(%error, "the connection that listens broke; others' changes are looked for meanwhile");
            }
        }
        watch.listens(false);
        tokio::time::sleep(jitter(Duration::from_millis(100), tries)).await;
    }
}

/// Hears until the connection breaks.
async fn hear(pool: &sqlx::PgPool, watch: &Watch, channel: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    watch.listens(true);
    while let Some(told) = listener.try_recv().await? {
        watch.heard(told.payload());
    }
    Ok(())
}
