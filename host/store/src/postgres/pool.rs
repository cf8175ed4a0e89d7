//! The connections of a store: how each is made, which are not used any more, and which never are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{PgConnection, Row};

use super::config::Config;
use super::database::jitter;
use crate::Durability;

/// What `synchronous_commit` has to be.
pub(super) fn sync(durability: Durability) -> &'static str {
    match durability {
        // Also for the death of the server's process alone: what is not written is still in its memory.
        Durability::Disk | Durability::Os => "on",
        Durability::None => "off",
    }
}

/// How connections of the pool are made.
pub(super) fn connect_options(config: &Config) -> PgConnectOptions {
    let options = config.connect.clone();
    if config.pooled {
        // Nothing is said to a session, and no more at its start than a pooler knows.
        return options.statement_cache_capacity(0).extra_float_digits(None);
    }
    let millis = config.patience.as_millis().to_string();
    options.statement_cache_capacity(300).options([
        ("default_transaction_isolation", "read committed"),
        ("synchronous_commit", sync(config.durability)),
        ("statement_timeout", &millis),
        ("lock_timeout", "5000"),
        // A process that stands still in the midst of a transaction keeps its locks no longer than a call may take.
        ("idle_in_transaction_session_timeout", &millis),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        // With those there is one plan worth having, and to find it takes longer than to follow it.
        ("plan_cache_mode", "force_generic_plan"),
    ])
}

/// Why a server is left alone that was asked before.
pub(super) const STANDBY: &str = "the server is a standby by now, which may lag behind; name the primary, or wait for it to be found";

/// Whether a server only follows another one. What it shows may be over, so that it is not asked.
async fn is_standby(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In one step, so that a pooler may stand in between.
    sqlx::raw_sql("select pg_is_in_recovery()").fetch_one(conn).await?.try_get(0)
}

/// The connections, none of which is made yet.
pub(super) fn pool(config: &Config, breaks: &Arc<Breaks>) -> PgPool {
    let (breaks, connects) = (Arc::clone(breaks), Arc::clone(breaks));
    PgPoolOptions::new()
        .max_connections(config.connections)
        .acquire_timeout(config.patience)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(3600))
        .acquire_slow_threshold(config.patience)
        // A ping for each call would cost as much as the call: those made before the last break are thrown away instead.
        .test_before_acquire(false)
        .before_acquire(move |_, meta| {
            let fresh = breaks.is_after(meta.age);
            Box::pin(async move { Ok(fresh) })
        })
        .after_connect(move |conn, _| {
            let breaks = Arc::clone(&connects);
            Box::pin(async move {
                let standby = is_standby(conn).await?;
                breaks.note_standby(standby);
                match standby {
                    true => Err(sqlx::Error::Io(std::io::Error::other(STANDBY))),
                    false => Ok(()),
                }
            })
        })
        .connect_lazy_with(connect_options(config))
}

/// What happened to connections.
#[derive(Debug, Default)]
pub(super) struct Breaks {
    /// When one broke last, and how often in a row.
    state: Mutex<(Option<std::time::Instant>, u32)>,
    /// The last one that was made led to a standby.
    standby: AtomicBool,
}

impl Breaks {
    fn state(&self) -> std::sync::MutexGuard<'_, (Option<std::time::Instant>, u32)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn note(&self) {
        let mut state = self.state();
        *state = (Some(std::time::Instant::now()), state.1.saturating_add(1));
    }

    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.1 = 0;
    }

    fn note_standby(&self, standby: bool) {
        self.standby.store(standby, Ordering::Relaxed);
    }

    pub(super) fn met_standby(&self) -> bool {
        self.standby.load(Ordering::Relaxed)
    }

    /// Whether a connection of that age was made after the last break.
    fn is_after(&self, age: Duration) -> bool {
        self.state().0.is_none_or(|broke| broke.elapsed() >= age)
    }

    /// Waits up to a moment after breaks in a row, each time for another one: when a server comes back, not all are there at once.
    pub(super) async fn pause(&self) {
        let breaks = self.state().1;
        if breaks > 0 {
            tokio::time::sleep(jitter(Duration::from_millis(20), breaks)).await;
        }
    }
}
