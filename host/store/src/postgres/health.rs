//! What makes a server slow, and who has to act: snapshots that are held.
//!
//! As long as some transaction holds a snapshot, nothing that was removed since can be cleaned up, and a queue removes all
//! the time. Nothing is lost by that, but everything gets slower.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use sqlx::Row;

use super::command::Command;
use super::database::Database;
use super::events::DAY;
use super::fault::Result;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);
/// How often partitions of days that are over are looked at.
const DAYS: Duration = Duration::from_secs(600);
/// A snapshot held for so long changes how claims walk.
const HELD: Duration = Duration::from_secs(4);
/// A snapshot held for so long is told of, and again after as long.
const ALARM: Duration = Duration::from_secs(30);

/// Who holds the oldest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSnapshot {
    /// The process of the server; 0 for a replication slot.
    pub pid: i32,
    /// For how long.
    pub age: Duration,
    /// For people: the user, the application and what it does, or the name of the slot.
    pub who: String,
}

impl HeldSnapshot {
    /// Who holds it, for people.
    pub(super) fn holder(&self) -> String {
        match self.pid {
            0 => self.who.clone(),
            pid => format!("process {pid} ({})", self.who),
        }
    }

    /// What to do about it.
    pub(super) fn next(&self) -> String {
        match self.pid {
            0 => "let its reader catch up, or drop it with `select pg_drop_replication_slot(…)`"
                .into(),
            pid => format!(
                "end that transaction, or its connection with `select pg_terminate_backend({pid})`"
            ),
        }
    }
}

/// When it was looked last, and what was told.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Looked>);

#[derive(Debug, Default)]
struct Looked {
    at: Option<Instant>,
    told: Option<Instant>,
    days: Option<Instant>,
}

impl Trouble {
    fn state(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_due(&self) -> bool {
        let mut state = self.state();
        let due = state.at.is_none_or(|at| at.elapsed() >= EVERY);
        if due {
            state.at = Some(Instant::now());
        }
        due
    }

    fn are_days_due(&self) -> bool {
        let mut state = self.state();
        let due = state.days.is_none_or(|at| at.elapsed() >= DAYS);
        if due {
            state.days = Some(Instant::now());
        }
        due
    }

    fn is_to_be_told(&self) -> bool {
        let mut state = self.state();
        let due = state.told.is_none_or(|at| at.elapsed() >= ALARM);
        if due {
            state.told = Some(Instant::now());
        }
        due
    }
}

impl Database {
    /// What is to be done now and then; whoever keeps the queue calls it as often as it likes.
    pub(super) async fn keep(&self) {
        if !self.trouble.is_due() {
            return;
        }
        self.look_after().await;
        // A transaction that began before midnight may still bring something: the day before is left alone.
        let yesterday = self.clock().await.map_or(i64::MIN, |now| now.saturating_sub(DAY));
        let chores = [Command::AddUp, Command::DropDays("done", yesterday, None)];
        for (chore, is_due) in chores.iter().zip([true, self.trouble.are_days_due()]) {
            if is_due && let Err(fault) = self.command(chore).await {
                tracing::debug!(%fault, chore = chore.kind(), "a chore was not done; it comes again");
            }
        }
        if let Err(fault) = self.make_days().await {
            tracing::debug!(%fault, "tomorrow has no partition yet");
        }
    }

    /// Looks for what makes the server slow.
    async fn look_after(&self) {
        match self.held_snapshot().await {
            Ok(held) => {
                self.cursors.hold(held.as_ref().is_some_and(|held| held.age >= HELD));
                if let Some(held) =
                    held.filter(|held| held.age >= ALARM && self.trouble.is_to_be_told())
                {
                    tracing::warn!(
                        place = self.place,
                        pid = held.pid,
                        seconds = held.age.as_secs(),
                        who = held.who,
                        "a snapshot is held, so that what tasks leave behind cannot be cleaned up and everything gets slower; \
                         end it with `select pg_terminate_backend(pid)`, or drop the replication slot"
                    );
                }
            }
            Err(fault) => tracing::debug!(%fault, "nobody knows whether a snapshot is held"),
        }
    }

    /// Who holds the oldest snapshot, as far as this user may see it.
    pub(super) async fn held_snapshot(&self) -> Result<Option<HeldSnapshot>> {
        // A slot has no time: it counts once it is many transactions behind.
        const OLDEST: &str = "
            select pid, extract(epoch from clock_timestamp() - xact_start)::float8,
                   coalesce(usename, '?') || ', `' || coalesce(application_name, '') || '`, ' || coalesce(state, '?')
              from pg_stat_activity
             where backend_xmin is not null and xact_start is not null and pid <> pg_backend_pid()
               and backend_type in ('client backend', 'walsender', 'parallel worker', 'background worker')
             order by xact_start limit 1";
        const SLOTS: &str = "
            select slot_name::text from pg_replication_slots
             where greatest(age(xmin), age(catalog_xmin)) > 1000000 order by age(xmin) desc nulls last limit 1";
        let rows = self.fetch(|schema| schema.query(OLDEST)).await?;
        if let Some(row) = rows.first() {
            let age = Duration::try_from_secs_f64(row.try_get(1)?).unwrap_or_default();
            if age >= HELD {
                return Ok(Some(HeldSnapshot { pid: row.try_get(0)?, age, who: row.try_get(2)? }));
            }
        }
        let rows = self.fetch(|schema| schema.query(SLOTS)).await?;
        let slot = rows.first().map(|row| row.try_get::<String, _>(0)).transpose()?;
        Ok(slot.map(|name| HeldSnapshot {
            pid: 0,
            age: ALARM,
            who: format!("replication slot `{name}`"),
        }))
    }
}
