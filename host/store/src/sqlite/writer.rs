//! The one who writes: a thread with one connection, which commits whatever was asked for while it was busy.
//!
//! There is no timer in it: a lone caller's command is committed at once, and under load the batches make themselves. What
//! is answered `Ok` is committed. A command whose own data is at fault fails alone: when a batch fails, its commands are
//! run again one by one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::command::{Answer, Ask, Command, run};
use super::config::Config;
use super::fault::{Fault, Result};
use super::migrate::Layout;
use super::names::Names;
use super::pack::Pack;
use super::session;
use super::space::{self, Identity};
use super::stir::Stir;
use super::tx::{self, Tx};
use crate::watch::Watch;
use crate::{Error, Interest, failpoint};

/// Commands that wait at most; more callers wait to be let in.
pub(super) const QUEUE: usize = 1024;
/// Commands in one commit at most, and bytes after which none is added: large ones do not hold small ones up for long.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// The writing end of a file.
pub(super) struct Writer {
    config: Config,
    conn: SqliteConnection,
    names: Names,
    watch: Arc<Watch>,
    /// The file's version as this connection last saw it: it changes with every commit of somebody else.
    version: i64,
    stir: Stir,
    folder: PathBuf,
    /// `None` until it is open.
    identity: Option<Identity>,
    /// Whether there are sessions in the file, and leaps of the clock that they were spared.
    has_sessions: bool,
    leapt: Duration,
}

/// Starts a writer in a thread of its own; returns once the file is open and up to date.
pub(super) async fn start(
    config: Config,
    layout: Layout,
    watch: Arc<Watch>,
) -> crate::Result<(mpsc::Sender<Ask>, oneshot::Receiver<()>)> {
    let (asks, queue) = mpsc::channel(QUEUE);
    let (opened, opening) = oneshot::channel();
    let (closed, closing) = oneshot::channel();
    let thread = move || {
        let runtime =
            match tokio::runtime::Builder::new_current_thread().enable_time().enable_io().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let error =
                        Error::Config(format!("the writer's runtime did not start: {error}"));
                    let _ = opened.send(Err(error)); // nobody waits any more
                    return;
                }
            };
        runtime.block_on(async move {
            match Writer::open(config, layout, watch).await {
                Ok(writer) => {
                    if opened.send(Ok(())).is_ok() {
                        writer.serve(queue).await;
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error)); // nobody waits any more
                }
            }
            let _ = closed.send(()); // nobody waits for it when the store was dropped
        });
    };
    std::thread::Builder::new()
        .name("omniq-sqlite".into())
        .spawn(thread)
        .map_err(|error| Error::Config(format!("the writer's thread did not start: {error}")))?;
    opening.await.map_err(|_| Error::Closed("sqlite"))??;
    Ok((asks, closing))
}

impl Writer {
    async fn open(config: Config, layout: Layout, watch: Arc<Watch>) -> crate::Result<Self> {
        let folder = space::prepare(&config.path)?;
        let fail = |fault: Fault| fault.into_error(&config.path, "open it");
        let deadline = Instant::now() + config.patience;
        let mut wait = Backoff::default();
        let conn = loop {
            // Switching to WAL needs the file for a moment, and SQLite does not wait for that by itself.
            match config.writer().connect().await.map_err(Fault::from) {
                Ok(conn) => break conn,
                Err(Fault::Busy) if Instant::now() < deadline => wait.pause().await,
                Err(fault) => return Err(fail(fault)),
            }
        };
        let mut writer = Self {
            config: config.clone(),
            conn,
            names: Names::default(),
            watch,
            version: 0,
            stir: Stir::new(),
            folder,
            identity: None,
            has_sessions: layout.kind == super::migrate::TASKS.kind,
            leapt: config.clock.leapt(),
        };
        // Who only reads does not wait for whoever writes, nor for room on the disk.
        if !layout.is_current(&mut writer.conn, &config.path).await {
            writer.begin().await.map_err(fail)?;
            let migrated = layout.migrate(&mut writer.conn, &config.path).await;
            let end = if migrated.is_ok() { "commit" } else { "rollback" };
            let ended = sqlx::query(end).execute(&mut writer.conn).await;
            migrated?;
            ended.map_err(|error| fail(error.into()))?;
        }
        writer.version = writer.read_version().await.map_err(fail)?;
        writer.identity = Identity::of(&config.path);
        // A clock that was set back since then must not take those for dead who have not noticed.
        if writer.has_sessions
            && let Some(seen) = session::seen(&mut writer.conn).await.map_err(fail)?
        {
            config.clock.at_least(seen);
        }
        writer.stir.watch(&config.path);
        Ok(writer)
    }

    /// Serves until all who could ask are gone.
    async fn serve(mut self, mut queue: mpsc::Receiver<Ask>) {
        let watch = Arc::clone(&self.watch);
        loop {
            let first = tokio::select! {
                first = queue.recv() => first,
                () = watch.begun.notified() => {
                    self.stir.soon();
                    continue;
                }
                () = self.stir.is_due(), if watch.is_awaited() => {
                    self.look().await;
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut bytes = first.command.size();
            let mut asks = vec![first];
            while asks.len() < BATCH
                && bytes < BATCH_BYTES
                && let Ok(next) = queue.try_recv()
            {
                bytes += next.command.size();
                asks.push(next);
            }
            self.answer(asks).await;
            if watch.is_awaited() && self.stir.is_overdue() {
                self.look().await;
            }
        }
        self.close().await;
    }

    /// Commits what was asked for, and answers.
    async fn answer(&mut self, asks: Vec<Ask>) {
        let asks = self.refuse_growth(asks);
        if asks.is_empty() {
            return;
        }
        let shrinks = asks.iter().any(|ask| ask.command.shrinks());
        match self.commit(&asks).await {
            Ok(answers) => {
                for (ask, answer) in asks.into_iter().zip(answers) {
                    let _ = ask.reply.send(Ok(answer)); // a caller that went away does not want to know
                }
            }
            Err(fault)
                if asks.len() == 1
                    || matches!(
                        fault,
                        Fault::Busy | Fault::Closed | Fault::Moved(_) | Fault::Deprived(..)
                    ) =>
            {
                for ask in asks {
                    let _ = ask.reply.send(Err(fault.clone()));
                }
            }
            Err(_) => {
                for ask in asks {
                    let answer = self.commit(std::slice::from_ref(&ask)).await;
                    let answer = answer.map(|mut answers| answers.pop().unwrap_or(Answer::Nothing));
                    let _ = ask.reply.send(answer);
                }
            }
        }
        if shrinks {
            self.shrink().await;
        }
        self.stir.wrote();
    }

    /// Refuses what makes the store larger when the disk is nearly full, so that what runs can still end.
    fn refuse_growth(&self, asks: Vec<Ask>) -> Vec<Ask> {
        if !asks.iter().any(|ask| ask.command.grows()) {
            return asks;
        }
        let Some(reason) = space::lacking(&self.folder, self.config.reserve) else { return asks };
        let (refused, asks): (Vec<_>, _) = asks.into_iter().partition(|ask| ask.command.grows());
        for ask in refused {
            let _ = ask.reply.send(Err(Fault::Full(reason.clone())));
        }
        asks
    }

    async fn commit(&mut self, asks: &[Ask]) -> Result<Vec<Answer>> {
        self.begin().await?;
        // Looked at only now: to begin may have taken long.
        let commands: Vec<&Command> = asks.iter().map(Ask::wanted).collect();
        let now = self.config.clock.now();
        let leaps = self.config.clock.leapt();
        let mut tx = Tx::new(&mut self.conn, &mut self.names, now);
        let leapt = if self.has_sessions { leaps - self.leapt } else { Duration::ZERO };
        let spared = if leapt.is_zero() { Ok(()) } else { tx.spare(leapt).await };
        let answers = match spared {
            Ok(()) => run(&mut tx, &commands).await,
            Err(fault) => Err(fault),
        };
        let (work, ends, counts) = (tx.work, tx.ends, tx.take_counts());
        let answers = match answers {
            Ok(answers) => self.end(&commands, counts).await.map(|()| answers),
            Err(fault) => Err(fault),
        };
        if answers.is_err() {
            self.rollback().await;
            return answers;
        }
        self.leapt = leaps;
        for (changed, interest) in [(work, Interest::Work), (ends, Interest::Ends)] {
            if changed {
                self.watch.bump(interest);
            }
        }
        answers
    }

    /// Checks that what is open is what others find there. A log that is gone is worked into the database, as long as
    /// nobody has come who knows nothing of it: what is in it was accepted.
    async fn check_identity(&mut self) -> Result<()> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let checked = identity.check();
        if checked.is_err() && identity.has_no_log() {
            // Where it fails the next call tries again.
            let _ = sqlx::raw_sql("pragma wal_checkpoint(full)").execute(&mut self.conn).await;
        }
        checked
    }

    /// Begins to write; waits for other processes that do.
    async fn begin(&mut self) -> Result<()> {
        self.check_identity().await?;
        let deadline = Instant::now() + self.config.patience;
        let mut wait = Backoff::default();
        loop {
            match sqlx::query("begin immediate").execute(&mut self.conn).await.map_err(Fault::from)
            {
                Ok(_) => return Ok(()),
                Err(Fault::Busy) if Instant::now() < deadline => wait.pause().await,
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn end(&mut self, commands: &[&Command], counts: Pack) -> Result<()> {
        for command in commands {
            hit(command.kind(), "before_commit");
        }
        tx::commit(&mut self.conn, counts).await?;
        for command in commands {
            hit(command.kind(), "after_commit");
        }
        Ok(())
    }

    async fn rollback(&mut self) {
        // SQLite itself rolls back after some errors, and then there is nothing left to roll back.
        let _ = sqlx::query("rollback").execute(&mut self.conn).await;
        self.names.forget();
    }

    /// Looks whether other processes have committed something.
    async fn look(&mut self) {
        let version = self.read_version().await.unwrap_or(self.version);
        let found = version != self.version;
        self.stir.looked(found);
        if found {
            self.version = version;
            self.watch.bump(Interest::Work);
            self.watch.bump(Interest::Ends);
        }
    }

    async fn read_version(&mut self) -> Result<i64> {
        Ok(sqlx::query_scalar("pragma data_version").fetch_one(&mut self.conn).await?)
    }

    /// Gives space back to the operating system when much of the file is unused, a bit at a time.
    async fn shrink(&mut self) {
        const STEP: i64 = 1024;
        let count = |name| sqlx::query_scalar::<_, i64>(name);
        let Ok(free) = count("pragma freelist_count").fetch_one(&mut self.conn).await else {
            return;
        };
        let Ok(all) = count("pragma page_count").fetch_one(&mut self.conn).await else { return };
        if free > STEP && free > all / 4 {
            // A failure leaves the file as large as it was; the next purge tries again.
            let _ = sqlx::raw_sql("pragma incremental_vacuum(1024)").execute(&mut self.conn).await;
        }
    }

    /// Moves the log into the file, so that the next start is quick.
    async fn close(mut self) {
        if let Err(Fault::Deprived(..)) = self.check_identity().await {
            // SQLite would take what it has for the log, and remove that of those who came after.
            std::mem::forget(self.conn);
            return;
        }
        // A reader of another process may hold it up; SQLite does it at the next start then.
        let _ = sqlx::raw_sql("pragma wal_checkpoint(truncate)").execute(&mut self.conn).await;
        let _ = self.conn.close().await;
    }
}

fn hit(kind: &str, place: &str) {
    if cfg!(any(debug_assertions, feature = "failpoints")) {
        failpoint::hit(&format!("sqlite.{kind}.{place}"));
    }
}

/// Pauses that grow, and differ between processes by their own rhythm.
#[derive(Debug, Default)]
struct Backoff(u32);

impl Backoff {
    async fn pause(&mut self) {
        const MOST: Duration = Duration::from_millis(20);
        tokio::time::sleep(Duration::from_millis(1 << self.0.min(5)).min(MOST)).await;
        self.0 += 1;
    }
}
