//! An open file: the writer's thread, and connections that only read.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use super::command::{Answer, Ask, Command};
use super::config::Config;
use super::fault::Fault;
use super::migrate::Layout;
use super::space::Identity;
use super::writer;
use crate::watch::Watch;
use crate::{Durability, Error, Result};

/// A store's hold on an open file, which is closed when the last one lets go.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    db: Arc<Database>,
    released: AtomicBool,
}

type Open = Mutex<HashMap<(PathBuf, &'static str), Weak<Database>>>;

impl Handle {
    pub(super) async fn open(config: Config, layout: Layout) -> Result<Self> {
        Ok(Self::first(Database::open(config, layout).await?))
    }

    /// The file as it is open in this process, so that it has one writer here; opened if it is not.
    pub(super) async fn shared(config: Config, layout: Layout) -> Result<Self> {
        static OPEN: LazyLock<Open> = LazyLock::new(Mutex::default);
        let mut open = OPEN.lock().await;
        let path = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone());
        let key = (path.canonicalize().unwrap_or(path), layout.kind);
        if let Some(db) = open.get(&key).and_then(Weak::upgrade)
            && db.is_usable()
        {
            db.check_durability(config.durability)?;
            if let Some(handle) = Self::on(&db) {
                return Ok(handle);
            }
        }
        open.retain(|_, db| db.strong_count() > 0);
        let db = Database::open(config, layout).await?;
        // It exists by now, so that links to it lead to the same name.
        let key = (key.0.canonicalize().unwrap_or(key.0), layout.kind);
        open.insert(key, Arc::downgrade(&db));
        Ok(Self::first(db))
    }

    /// Another store's hold on the same file; of one that is closed it is closed as well.
    pub(super) fn beside(&self) -> Self {
        Self::on(&self.0.db).unwrap_or_else(|| self.clone())
    }

    /// The hold that an open file begins with.
    fn first(db: Arc<Database>) -> Self {
        Self(Arc::new(Hold { db, released: AtomicBool::new(false) }))
    }

    /// One more hold; `None` once the last one was let go of: then the file is being closed, however long that takes.
    fn on(db: &Arc<Database>) -> Option<Self> {
        let more = |holds| if holds == 0 { None } else { Some(holds + 1) };
        db.holds.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self::first(Arc::clone(db)))
    }

    /// Lets go. The file is closed if nobody else holds it.
    pub(super) async fn close(&self) -> Result<()> {
        if self.0.release() {
            self.0.db.close().await?;
        }
        Ok(())
    }

    /// What was asked for while it was held; see [`Database::ask`].
    pub(super) async fn ask<T>(&self, command: Command, action: &'static str) -> Result<T>
    where
        T: TryFrom<Answer, Error = Fault>,
    {
        self.check()?;
        self.0.db.ask(command, action).await
    }

    /// See [`Database::reader`].
    pub(super) async fn reader(&self) -> Result<Reader<'_>> {
        self.check()?;
        self.0.db.reader().await
    }

    fn check(&self) -> Result<()> {
        let released = self.0.released.load(Ordering::Acquire);
        if released { Err(Error::Closed("sqlite")) } else { Ok(()) }
    }
}

impl Deref for Handle {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.0.db
    }
}

impl Hold {
    /// Tells whether nobody holds the file any more.
    fn release(&self) -> bool {
        !self.released.swap(true, Ordering::AcqRel)
            && self.db.holds.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.release() {
            self.db.let_go();
        }
    }
}

/// As it is written in settings.
fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Disk => "disk",
        Durability::Os => "os",
        Durability::None => "none",
    }
}

/// An open file. What is in it is seen through the stores made of it.
#[derive(Debug)]
pub(super) struct Database {
    pub config: Config,
    pub watch: Arc<Watch>,
    asks: std::sync::Mutex<Option<mpsc::Sender<Ask>>>,
    closed: Mutex<Option<oneshot::Receiver<()>>>,
    readers: [Mutex<Option<SqliteConnection>>; 2],
    turn: AtomicUsize,
    holds: AtomicUsize,
    identity: Option<Identity>,
}

impl Database {
    async fn open(config: Config, layout: Layout) -> Result<Arc<Self>> {
        let watch = Arc::new(Watch::default());
        let (asks, closed) = writer::start(config.clone(), layout, Arc::clone(&watch)).await?;
        Ok(Arc::new(Self {
            identity: Identity::of(&config.path),
            config,
            watch,
            asks: std::sync::Mutex::new(Some(asks)),
            closed: Mutex::new(Some(closed)),
            readers: [Mutex::new(None), Mutex::new(None)],
            turn: AtomicUsize::new(0),
            holds: AtomicUsize::new(1),
        }))
    }

    /// One writer serves all who open a file in a process, so that they must want the same of it.
    fn check_durability(&self, wanted: Durability) -> Result<()> {
        let (path, has) = (self.config.path.display(), self.config.durability);
        if wanted == has {
            return Ok(());
        }
        Err(Error::Config(format!(
            "`{path}` is open in this process with the durability `{}`, and cannot be opened with `{}` beside that: ask for \
             the same, or close it first",
            word(has),
            word(wanted)
        )))
    }

    /// What a fault of this file is told as.
    pub(super) fn error(&self, fault: Fault, action: &'static str) -> Error {
        fault.into_error(&self.config.path, action)
    }

    /// Has a command written, and waits until it is committed. When the call is dropped the command may still be.
    async fn ask<T>(&self, command: Command, action: &'static str) -> Result<T>
    where
        T: TryFrom<Answer, Error = Fault>,
    {
        let (reply, answer) = oneshot::channel();
        let asks = self.asks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let asks = asks.ok_or(Error::Closed("sqlite"))?;
        asks.send(Ask { command, reply }).await.map_err(|_| Error::Closed("sqlite"))?;
        drop(asks);
        let answer = answer.await.map_err(|_| {
            Error::unavailable("sqlite", action, "the writer went away before it answered")
        })?;
        answer.and_then(T::try_from).map_err(|fault| self.error(fault, action))
    }

    /// A connection that reads, once one is free.
    async fn reader(&self) -> Result<Reader<'_>> {
        if self.is_closed() {
            return Err(Error::Closed("sqlite"));
        }
        if let Some(identity) = &self.identity {
            identity.check().map_err(|fault| self.error(fault, "read it"))?;
        }
        let free = self.readers.iter().find_map(|reader| reader.try_lock().ok());
        let mut guard = match free {
            Some(guard) => guard,
            None => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.readers.len();
                self.readers[turn].lock().await
            }
        };
        if guard.is_none() {
            let conn = self.config.reader().connect().await;
            *guard = Some(conn.map_err(|error| self.error(error.into(), "open it to read"))?);
        }
        Ok(Reader(guard))
    }

    /// Whether it is open, and still what its name leads to.
    fn is_usable(&self) -> bool {
        !self.is_closed() && self.identity.as_ref().is_none_or(|identity| identity.check().is_ok())
    }

    fn is_closed(&self) -> bool {
        self.asks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_none()
    }

    /// Takes no more commands; the writer ends after those it has.
    fn let_go(&self) {
        self.asks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }

    /// Lets what was asked for be committed, moves the log into the file, and lets go of it.
    async fn close(&self) -> Result<()> {
        for reader in &self.readers {
            if let Some(reader) = reader.lock().await.take() {
                // Waited for, so that the writer is the last, who removes the log.
                let _ = reader.close().await;
            }
        }
        self.let_go();
        if let Some(closed) = self.closed.lock().await.take() {
            let _ = closed.await; // it is gone either way
        }
        Ok(())
    }
}

/// A connection that reads, until it is dropped.
pub(super) struct Reader<'a>(MutexGuard<'a, Option<SqliteConnection>>);

impl Reader<'_> {
    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        self.0.as_mut().expect("a reader is handed out with a connection in it")
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::Poll;

    use super::super::migrate::TASKS;
    use super::*;

    #[tokio::test]
    async fn who_opens_a_file_while_it_is_being_closed_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().join("omniq.db"));
        let first = Handle::shared(config.clone(), TASKS).await.unwrap();
        let reader = first.reader().await.unwrap();
        let mut closing = std::pin::pin!(first.close());
        // It waits for the reader.
        assert!(
            std::future::poll_fn(|context| Poll::Ready(
                closing.as_mut().poll(context).is_pending()
            ))
            .await
        );
        let second = Handle::shared(config, TASKS).await.unwrap();
        drop(reader);
        closing.await.unwrap();
        second.reader().await.map(drop).unwrap();
        second.ask::<usize>(Command::Purge(1), "forget").await.unwrap();
        assert!(first.reader().await.is_err());
        assert!(first.beside().reader().await.is_err());
    }
}
