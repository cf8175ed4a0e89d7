//! An open store: the connection, a thread that serves it, and those who hold it.
//!
//! The thread has a runtime of its own, so that a store that several parts of a process share does not depend on the
//! runtime of the one that opened it first.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use omniq_model::Timestamp;
use redis::Value;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Mutex, oneshot};

use super::batch::{self, Batcher, Kind};
use super::check::Checked;
use super::config::Config;
use super::fault::{Fault, NAME, Result};
use super::link::{self, Link};
use super::migrate;
use super::reply;
use super::script::{self, Script};
use super::watch::Watch;
use crate::{Error, Interest};

tokio::task_local! {
    /// Whether the call that runs here has changed something.
    static CHANGED: Cell<bool>;
}

/// Notes that a script has changed something, in the call that ran it. What goes together with other calls keeps count itself.
pub(super) fn changed() {
    let _ = CHANGED.try_with(|changed| changed.set(true));
}

/// What calls work with.
#[derive(Debug)]
pub(super) struct Store {
    pub config: Config,
    pub link: Arc<Link>,
    pub watch: Arc<Watch>,
    /// The keys of the task store.
    pub keys: Vec<Vec<u8>>,
    /// What tells this process's messages from those of others.
    pub origin: [u8; 8],
}

impl Store {
    /// The time as scripts take it: nothing where they ask the server.
    pub(super) fn time(&self) -> Vec<u8> {
        let clock = self.config.clock.as_ref();
        clock.map(|clock| clock.now().as_millis().to_string().into_bytes()).unwrap_or_default()
    }

    /// One of the store's keys that is not of tasks.
    pub(super) fn key(&self, name: &str) -> Vec<u8> {
        script::key(&self.config.name, name)
    }

    /// Runs a script of the task store: after the time come `args`.
    pub(super) async fn look(&self, script: &Script, args: &[&[u8]]) -> Result<Value> {
        self.run(script, &[&self.time()], args).await
    }

    /// Runs a script that tells others what it changed: after the time and our name come `args`.
    pub(super) async fn change(&self, script: &Script, args: &[&[u8]]) -> Result<Value> {
        self.run(script, &[&self.time(), &self.origin], args).await
    }

    async fn run(&self, script: &Script, front: &[&[u8]], args: &[&[u8]]) -> Result<Value> {
        batch::hit(script.name, "before_call");
        let answer = self.link.run(script, &self.keys, &[front, args].concat()).await?;
        batch::hit(script.name, "after_call");
        Ok(answer)
    }

    /// Takes note of what a script said it changed, and pays what it owes. What cannot be paid now stays written down, and
    /// whoever comes next pays it: what the script did is done, and its call does not fail for it.
    pub(super) async fn committed(&self, said: &Value) -> Result<()> {
        let mut said = reply::int(said)?;
        loop {
            if said & 2 != 0 {
                self.watch.bump(Interest::Work);
            }
            if said & 4 != 0 {
                self.watch.bump(Interest::Ends);
            }
            if said & 1 == 0 {
                return Ok(());
            }
            said = match self.change(&script::SETTLE, &[]).await {
                Ok(answer) => reply::int(&answer)?,
                Err(fault) => {
                    tracing::debug!(error = %fault, "what waited for ended tasks is let go by a later call");
                    return Ok(());
                }
            };
        }
    }

    /// The time, by the clock that decides. It never goes back: what scripts have seen counts.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let now = reply::int(&self.look(&script::NOW, &[]).await?)?;
        Ok(Timestamp::from_millis(now))
    }
}

/// A store's hold on a server, which is let go when the last one does.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    server: Arc<Server>,
    released: AtomicBool,
}

impl Handle {
    pub(super) async fn open(config: Config) -> crate::Result<Self> {
        Ok(Self::on(&Server::open(config).await?))
    }

    /// The store as it is open in this process; opened if it is not.
    pub(super) async fn shared(config: Config) -> crate::Result<Self> {
        type Open = Mutex<HashMap<String, Weak<Server>>>;
        static OPEN: LazyLock<Open> = LazyLock::new(Mutex::default);
        let mut open = OPEN.lock().await;
        let key = config.identity();
        if let Some(server) = open.get(&key).and_then(Weak::upgrade)
            && !server.closed.load(Ordering::Acquire)
        {
            return Ok(Self::on(&server));
        }
        open.retain(|_, server| server.strong_count() > 0);
        let server = Server::open(config).await?;
        open.insert(key, Arc::downgrade(&server));
        Ok(Self::on(&server))
    }

    /// Another store's hold on the same server.
    pub(super) fn beside(&self) -> Self {
        Self::on(&self.0.server)
    }

    fn on(server: &Arc<Server>) -> Self {
        server.holds.fetch_add(1, Ordering::AcqRel);
        Self(Arc::new(Hold { server: Arc::clone(server), released: AtomicBool::new(false) }))
    }

    fn server(&self) -> crate::Result<&Server> {
        let released = self.0.released.load(Ordering::Acquire);
        if released { Err(Error::Closed(NAME)) } else { Ok(&self.0.server) }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.0.server.store
    }

    /// What was found when the store was opened.
    pub(super) fn checked(&self) -> &Checked {
        &self.0.server.checked
    }

    /// Does `work` in the store's thread. When the call is dropped the work goes on.
    pub(super) async fn run<T, F>(
        &self,
        action: &'static str,
        work: impl FnOnce(Arc<Store>) -> F,
    ) -> crate::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let server = self.server()?;
        let work = work(Arc::clone(&server.store));
        let work = CHANGED.scope(Cell::new(false), async {
            let answer = work.await;
            answer.map_err(|fault| fault.after(CHANGED.with(Cell::get)))
        });
        let answer = server.runtime.spawn(work).await;
        let answer = answer.unwrap_or(Err(Fault::Closed));
        answer.map_err(|fault| fault.into_error(server.store.config.place(), action))
    }

    /// Has items go together with those of other calls; their answers in order.
    pub(super) async fn batch(
        &self,
        action: &'static str,
        kind: Kind,
        items: Vec<batch::Item>,
    ) -> crate::Result<Vec<batch::Answer>> {
        let server = self.server()?;
        let answers = server.batchers[kind as usize].ask(items).await;
        answers.map_err(|fault| fault.into_error(server.store.config.place(), action))
    }

    /// Lets go. The connection is closed if nobody else holds it.
    pub(super) async fn close(&self) {
        if self.0.release() {
            self.0.server.close().await;
        }
    }
}

impl Hold {
    /// Tells whether nobody holds the server any more.
    fn release(&self) -> bool {
        !self.released.swap(true, Ordering::AcqRel)
            && self.server.holds.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.release() {
            self.server.closed.store(true, Ordering::Release);
        }
    }
}

/// An open store; its thread ends when this is dropped.
#[derive(Debug)]
struct Server {
    store: Arc<Store>,
    checked: Checked,
    batchers: [Batcher; 2],
    runtime: Runtime,
    /// Ends the thread when it is dropped.
    _alive: oneshot::Sender<()>,
    holds: AtomicUsize,
    closed: AtomicBool,
}

impl Server {
    async fn open(config: Config) -> crate::Result<Arc<Self>> {
        let (alive, gone) = oneshot::channel();
        let runtime = start(gone).await?;
        let link = Arc::new(Link::new(config.clone())?);
        let opening = {
            let (link, config) = (Arc::clone(&link), config.clone());
            runtime.spawn(async move { prepare(&link, &config).await })
        };
        let checked = opening.await.map_err(|_| Error::Closed(NAME))??;
        let store = Arc::new(Store {
            keys: script::task_keys(&config.name),
            watch: Arc::new(Watch::default()),
            origin: link::random(),
            link,
            config,
        });
        let batchers = [Kind::Enqueue, Kind::Finish]
            .map(|kind| Batcher::start(kind, Arc::clone(&store), &runtime));
        let watch = &store.watch;
        let (link, channel) = (&store.link, store.keys[0].clone());
        let listening = Arc::clone(watch).listen(Arc::clone(link), channel.clone(), store.origin);
        runtime.spawn(listening);
        runtime.spawn(Arc::clone(watch).poll(Arc::clone(link), channel));
        Ok(Arc::new(Self {
            store,
            checked,
            batchers,
            runtime,
            _alive: alive,
            holds: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }))
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.store.link.close().await;
    }
}

/// Checks the server, makes sure of the layout, and teaches it the scripts.
async fn prepare(link: &Link, config: &Config) -> crate::Result<Checked> {
    let checked = super::check::check(link, config).await?;
    migrate::migrate(link, config).await?;
    for script in script::all() {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(&script.text);
        // A server that does not take them now is taught by the first call.
        if link.query(&load).await.is_err() {
            break;
        }
    }
    Ok(checked)
}

/// Starts the thread; it ends with `gone`.
async fn start(gone: oneshot::Receiver<()>) -> crate::Result<Runtime> {
    let failed = |error: std::io::Error| {
        Error::Config(format!("the thread of a Redis store did not start: {error}"))
    };
    let (started, starting) = oneshot::channel();
    let thread = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            if started.send(Ok(runtime.handle().clone())).is_ok() {
                let _ = runtime.block_on(gone); // ends either way when its other end is dropped
            }
        }
        Err(error) => {
            let _ = started.send(Err(error)); // nobody waits any more
        }
    };
    std::thread::Builder::new().name("omniq-redis".into()).spawn(thread).map_err(failed)?;
    starting.await.map_err(|_| Error::Closed(NAME))?.map_err(failed)
}
