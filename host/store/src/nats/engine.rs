//! One process's part in a store: a thread that sends what is asked for to the log, applies the log as it comes back, and
//! answers what it finds there that this process had sent.
//!
//! Everybody applies every command, in the order of the log. So nobody owns the store, no command is ever in conflict with
//! another, and a command that is in the log has been carried out, whoever sent it and whatever became of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use omniq_model::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::config::Config;
use super::connect::{self, Connection};
use super::entry::{Answer, Entry, Sender};
use super::fault::{Fault, NAME, Result};
use super::state::{Place, State};
use super::values::{Put, Values};
use super::{follow, send};
use crate::watch::Watch;
use crate::{Clock as _, Error, SystemClock};

/// Commands that wait at most; more callers wait to be let in.
const QUEUE: usize = 4096;
/// Messages that are known again after they were applied.
const RECENT: usize = 1024;
/// Looks at whether opening goes on, within the patience.
const STEPS: u32 = 20;

/// How far the sweep of values has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where it goes on: among small ones and among large ones.
    pub cursors: [u64; 2],
    pub latest: Option<tokio::time::Instant>,
}

/// A command, its bytes, and where its answer goes.
pub(super) struct Ask {
    pub entry: Entry,
    pub bytes: Vec<u8>,
    /// The last instant at which it may come to stand in the log: what it names may be gone after that.
    pub by: Option<Timestamp>,
    /// How long its caller waits for the answer.
    pub waits_until: Instant,
    pub reply: oneshot::Sender<Result<Answer>>,
}

/// What is on its way in one message.
pub(super) struct Sent {
    pub asks: Vec<Ask>,
    /// Leaps of this machine's clock that the log is told of with it.
    pub leaps: Duration,
}

/// Who waits until this process has applied all that is in the log by now, and is told up to which message that is.
pub(super) type Look = oneshot::Sender<Result<u64>>;

/// What the thread and the callers share.
pub(super) struct Shared {
    pub config: Config,
    /// What people call the place.
    pub shown: String,
    /// Tells our messages from those of others.
    pub process: u64,
    sent: AtomicU64,
    pub state: Mutex<State>,
    pub watch: Watch,
    /// The last message that was applied.
    pub applied: watch::Sender<u64>,
    /// What was sent and has not come back.
    pub pending: Mutex<HashMap<u64, Sent>>,
    /// The messages applied last.
    recent: Mutex<VecDeque<Place>>,
    /// Whether what was applied is still in the log is to be looked at.
    pub doubt: Notify,
    /// Why nothing can be done any more.
    pub broken: Mutex<Option<Fault>>,
    /// An instant of the server's clock, and when it was told.
    heard: Mutex<Option<(Timestamp, Instant)>>,
    /// The server's clock less ours, in milliseconds.
    pub offset: AtomicI64,
    pub clock: SystemClock,
    /// Leaps of this machine's clock that the log was told of.
    pub leapt: Mutex<Duration>,
    /// Whether an image or an object of the log is being read.
    reads: AtomicBool,
    /// Whether this process is taking an image.
    pub imaging: AtomicBool,
    /// The sweep of values that belong to nothing.
    pub sweep: tokio::sync::Mutex<Sweep>,
    pub connection: std::sync::OnceLock<Connection>,
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
    looks: Mutex<Option<mpsc::Sender<Look>>>,
    closed: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
    holds: AtomicUsize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.shown).finish()
    }
}

/// A store's hold on the engine, which stops when the last one lets go.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    shared: Arc<Shared>,
    released: AtomicBool,
}

type Open = tokio::sync::Mutex<HashMap<String, Weak<Shared>>>;

impl Handle {
    pub(super) async fn open(config: Config) -> crate::Result<Self> {
        Ok(Self::on(&start(config).await?))
    }

    /// The store as it is open in this process; opened if it is not.
    pub(super) async fn shared(config: Config) -> crate::Result<Self> {
        static OPEN: LazyLock<Open> = LazyLock::new(Open::default);
        let mut open = OPEN.lock().await;
        let key = config.identity();
        if let Some(shared) = open.get(&key).and_then(Weak::upgrade)
            && shared.check().is_ok()
        {
            return Ok(Self::on(&shared));
        }
        open.retain(|_, shared| shared.strong_count() > 0);
        let shared = start(config).await?;
        open.insert(key, Arc::downgrade(&shared));
        Ok(Self::on(&shared))
    }

    /// Another store's hold on the same engine.
    pub(super) fn beside(&self) -> Self {
        Self::on(&self.0.shared)
    }

    fn on(shared: &Arc<Shared>) -> Self {
        shared.holds.fetch_add(1, Ordering::AcqRel);
        Self(Arc::new(Hold { shared: Arc::clone(shared), released: AtomicBool::new(false) }))
    }

    /// Lets go. The engine stops if nobody else holds it.
    pub(super) async fn close(&self) -> crate::Result<()> {
        if self.0.release() {
            self.0.shared.let_go();
            if let Some(closed) = self.0.shared.closed.lock().await.take() {
                let _ = closed.await; // it is gone either way
            }
        }
        Ok(())
    }

    /// An error about this store.
    pub(super) fn error(&self, fault: Fault, action: &'static str) -> Error {
        fault.into_error(&self.0.shared.shown, action)
    }

    /// Has a command put into the log, and waits until it was applied. When the call is dropped it may still be.
    pub(super) async fn ask(&self, entry: Entry, action: &'static str) -> crate::Result<Answer> {
        self.ask_by(entry, None, action).await
    }

    /// The same for a command that is of use only until that instant.
    pub(super) async fn ask_by(
        &self,
        entry: Entry,
        by: Option<Timestamp>,
        action: &'static str,
    ) -> crate::Result<Answer> {
        self.check().map_err(|fault| self.error(fault, action))?;
        self.0.shared.ask(entry, by).await.map_err(|fault| self.error(fault, action))
    }

    /// Keeps values beside the log; returns until when a command may come to stand in it that names them.
    pub(super) async fn keep(
        &self,
        puts: Vec<Put>,
        action: &'static str,
    ) -> crate::Result<Option<Timestamp>> {
        if puts.is_empty() {
            return Ok(None);
        }
        let kept = self.values()?.put(puts, || self.0.shared.heard()).await;
        kept.map_err(|fault| self.error(fault, action))
    }

    /// Waits until this process has applied all that is in the log by now: what others were told is committed is seen.
    pub(super) async fn look(&self, action: &'static str) -> crate::Result<()> {
        self.see_all().await.map_err(|fault| self.error(fault, action))?;
        Ok(())
    }

    /// The same, for who says himself what for; returns the message up to which that is.
    pub(super) async fn see_all(&self) -> Result<u64> {
        self.check()?;
        self.0.shared.look().await
    }

    /// Reads what this process knows by now.
    pub(super) fn read<T>(
        &self,
        action: &'static str,
        read: impl FnOnce(&State, Timestamp) -> T,
    ) -> crate::Result<T> {
        let now = self.now();
        let state = self.0.shared.state().map_err(|fault| self.error(fault, action))?;
        Ok(read(&state, now.max(state.now)))
    }

    /// Waits until all that is in the log is known, and reads.
    pub(super) async fn read_all<T>(
        &self,
        action: &'static str,
        read: impl FnOnce(&State, Timestamp) -> T,
    ) -> crate::Result<T> {
        loop {
            let seen = self.see_all().await.map_err(|fault| self.error(fault, action))?;
            let now = self.now();
            let state = self.0.shared.state().map_err(|fault| self.error(fault, action))?;
            // It may have been started anew from an image since.
            if state.applied.seq >= seen {
                return Ok(read(&state, now.max(state.now)));
            }
        }
    }

    /// Where values are kept.
    pub(super) fn values(&self) -> crate::Result<&Values> {
        Ok(&self.connection()?.values)
    }

    /// The connection, while the store is open.
    pub(super) fn connection(&self) -> crate::Result<&Connection> {
        self.check().map_err(|fault| self.error(fault, "use it"))?;
        self.0.shared.connection.get().ok_or(Error::Closed(NAME))
    }

    fn check(&self) -> Result<()> {
        if self.0.released.load(Ordering::Acquire) {
            Err(Fault::Closed)
        } else {
            self.0.shared.check()
        }
    }
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0.shared
    }
}

impl Hold {
    /// Tells whether nobody holds the engine any more.
    fn release(&self) -> bool {
        !self.released.swap(true, Ordering::AcqRel)
            && self.shared.holds.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.release() {
            self.shared.let_go();
        }
    }
}

/// Locks what no panic leaves half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The state. A panic in the middle of a change may have left it half done, so nobody is let in after one.
    pub(super) fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.state
            .lock()
            .map_err(|_| Fault::Unknown("a panic interrupted a change of the state".into()))
    }

    /// The server's clock, as well as it is known here.
    pub(super) fn now(&self) -> Timestamp {
        match &self.config.clock {
            Some(clock) => clock.now(),
            None => {
                let here = self.clock.now().as_millis();
                Timestamp::from_millis(here.saturating_add(self.offset.load(Ordering::Relaxed)))
            }
        }
    }

    /// How far this machine's clock has leapt so far.
    pub(super) fn leaps(&self) -> Duration {
        leaps(&self.config)
    }

    /// The server's clock, or a little before it: never after, whatever becomes of this machine's. `None` before the server
    /// has told any instant.
    pub(super) fn heard(&self) -> Option<Timestamp> {
        lock(&self.heard).map(|(instant, at)| {
            // Clocks that count time differ by less than that.
            let passed = at.elapsed();
            instant + (passed - passed / 1000)
        })
    }

    /// The server's clock has shown that.
    pub(super) fn hear(&self, instant: Timestamp) {
        if self.heard().is_none_or(|heard| heard < instant) {
            self.hear_anew(instant);
        }
    }

    /// The same, whatever it has shown before: it may have been set back, or be another server's.
    pub(super) fn hear_anew(&self, instant: Timestamp) {
        *lock(&self.heard) = Some((instant, Instant::now()));
    }

    /// Notes that this message was applied, or, `anew`, that all that was applied before is not.
    pub(super) fn note(&self, place: Place, anew: bool) {
        {
            let mut recent = lock(&self.recent);
            if anew {
                recent.clear();
            } else if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(place);
        }
        self.applied.send_replace(place.seq);
    }

    /// Reads something that may be large. That ends by itself where nothing comes any more.
    pub(super) async fn reading<T>(&self, read: impl Future<Output = T>) -> T {
        self.reads.store(true, Ordering::Relaxed);
        let done = read.await;
        self.reads.store(false, Ordering::Relaxed);
        done
    }

    /// The message that was noted last; `None` before there is a state.
    pub(super) fn noted(&self) -> Option<Place> {
        lock(&self.recent).back().copied()
    }

    /// Whether this message was applied; not for certain when that is long ago.
    pub(super) fn recalls(&self, place: Place) -> bool {
        let recent = lock(&self.recent);
        let known = recent.iter().rev().find(|known| known.seq == place.seq);
        known.is_some_and(|known| known.stamp == place.stamp || known.stamp == 0)
    }

    pub(super) async fn ask(&self, entry: Entry, by: Option<Timestamp>) -> Result<Answer> {
        let bytes = entry.to_bytes();
        let (reply, answer) = oneshot::channel();
        let asks = lock(&self.asks).clone().ok_or(Fault::Closed)?;
        // The engine answers before that, unless the log does not come back.
        let waits_until = Instant::now() + self.config.patience * 2;
        let ask = Ask { entry, bytes, by, waits_until, reply };
        let asked = async {
            asks.send(ask).await.map_err(|_| Fault::Closed)?;
            answer.await.map_err(|_| Fault::unknown("the engine stopped before it answered"))?
        };
        match tokio::time::timeout_at(waits_until, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    /// Has commands put into the log once more: their message came too late, so that nobody has carried them out.
    pub(super) fn ask_again(&self, asks: Vec<Ask>) {
        let to = lock(&self.asks).clone();
        for ask in asks {
            let refused = match &to {
                _ if ask.reply.is_closed() => continue, // nobody wants it any more
                Some(to) => to.try_send(ask).err().map(mpsc::error::TrySendError::into_inner),
                None => Some(ask),
            };
            if let Some(ask) = refused {
                let late = Fault::unknown("it came too late and was not carried out");
                let _ = ask.reply.send(Err(late)); // a caller that went away does not want to know
            }
        }
    }

    pub(super) async fn look(&self) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        let looks = lock(&self.looks).clone().ok_or(Fault::Closed)?;
        let looked = async {
            looks.send(reply).await.map_err(|_| Fault::Closed)?;
            answer.await.map_err(|_| Fault::unknown("the engine stopped before it answered"))?
        };
        match tokio::time::timeout(self.config.patience, looked).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> Fault {
        Fault::Unknown(format!("the server did not answer within {:?}", self.config.patience))
    }

    /// Whether anything can still be done.
    pub(super) fn check(&self) -> Result<()> {
        self.check_broken()?;
        if lock(&self.asks).is_some() { Ok(()) } else { Err(Fault::Closed) }
    }

    pub(super) fn check_broken(&self) -> Result<()> {
        lock(&self.broken).clone().map_or(Ok(()), Err)
    }

    /// Nothing can be done any more.
    pub(super) fn fail(&self, fault: &Fault) {
        lock(&self.broken).get_or_insert_with(|| fault.clone());
        self.drop_pending(fault);
    }

    /// Tells all whose commands were sent that nobody knows what became of them.
    pub(super) fn drop_pending(&self, fault: &Fault) {
        let pending = std::mem::take(&mut *lock(&self.pending));
        for ask in pending.into_values().flat_map(|sent| sent.asks) {
            let _ = ask.reply.send(Err(fault.clone())); // a caller that went away does not want to know
        }
    }

    /// The next of our messages.
    pub(super) fn next_sender(&self) -> Sender {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        Sender { process: self.process, number }
    }

    /// Takes no more commands; the engine ends after those it has.
    fn let_go(&self) {
        lock(&self.asks).take();
        lock(&self.looks).take();
    }
}

fn leaps(config: &Config) -> Duration {
    config.clock.as_ref().map_or_else(|| SystemClock::default().leapt(), |clock| clock.leapt())
}

/// Starts an engine in a thread of its own; returns once it has applied all that is in the log.
async fn start(config: Config) -> crate::Result<Arc<Shared>> {
    config.check()?;
    let (asks, asked) = mpsc::channel(QUEUE);
    let (looks, looked) = mpsc::channel(QUEUE);
    let (closed, closing) = oneshot::channel();
    let leapt = leaps(&config);
    let shared = Arc::new(Shared {
        shown: config.shown(),
        config,
        process: super::random(),
        sent: AtomicU64::new(0),
        state: Mutex::default(),
        watch: Watch::default(),
        applied: watch::Sender::new(0),
        pending: Mutex::default(),
        recent: Mutex::default(),
        doubt: Notify::new(),
        heard: Mutex::default(),
        broken: Mutex::default(),
        offset: AtomicI64::new(0),
        clock: SystemClock::default(),
        leapt: Mutex::new(leapt),
        reads: AtomicBool::new(false),
        imaging: AtomicBool::new(false),
        sweep: tokio::sync::Mutex::default(),
        connection: std::sync::OnceLock::new(),
        asks: Mutex::new(Some(asks)),
        looks: Mutex::new(Some(looks)),
        closed: tokio::sync::Mutex::new(Some(closing)),
        holds: AtomicUsize::new(0),
    });
    let (opened, opening) = oneshot::channel();
    let of_thread = Arc::clone(&shared);
    let thread = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let reason = format!("the engine's runtime did not start: {error}");
                let _ = opened.send(Err(Fault::Config(reason))); // nobody waits any more
                return;
            }
        };
        runtime.block_on(run(of_thread, asked, looked, opened));
        let _ = closed.send(()); // nobody waits for it when the store was dropped
    };
    std::thread::Builder::new()
        .name("omniq-nats".into())
        .spawn(thread)
        .map_err(|error| Error::Config(format!("the engine's thread did not start: {error}")))?;
    let opening = opening.await.unwrap_or(Err(Fault::Closed));
    opening.map_err(|fault| fault.into_error(&shared.shown, "open it"))?;
    Ok(shared)
}

async fn run(
    shared: Arc<Shared>,
    asks: mpsc::Receiver<Ask>,
    looks: mpsc::Receiver<Look>,
    mut opened: oneshot::Sender<Result<()>>,
) {
    let connection = match connect::connect(&shared.config).await {
        Ok(connection) => connection,
        Err(fault) => {
            let _ = opened.send(Err(fault)); // nobody waits any more
            return;
        }
    };
    let _ = shared.connection.set(connection.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(follow::follow(Arc::clone(&shared), connection.clone()));
    tasks.spawn(follow::look(Arc::clone(&shared), connection.clone(), looks));
    let current = tokio::select! {
        current = catch_up(&shared, &connection) => current,
        () = opened.closed() => return,
    };
    // Nobody has a store that did not open: thread, connection and state go with the answer.
    let failed = current.is_err();
    if opened.send(current).is_err() || failed {
        return;
    }
    send::send(&shared, &connection, asks).await;
}

/// Waits until all that is in the log is known here, which may be much: it is given up where it does not go on.
async fn catch_up(shared: &Shared, connection: &Connection) -> Result<()> {
    let looked = async {
        loop {
            match follow::look_once(shared, connection).await {
                // The server may be busy with sending us the log.
                Err(Fault::Unknown(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                looked => return looked.map(|_| ()),
            }
        }
    };
    tokio::select! {
        biased; // that it is done counts more than how long it took
        looked = looked => looked,
        () = stuck(shared) => Err(shared.silent()),
    }
}

/// Waits until nothing was applied for as long as there is patience, other than while something large was read.
async fn stuck(shared: &Shared) {
    let (mut idle, mut last) = (0, shared.noted());
    // In steps: one in which this thread had no time to look counts once, however long it was.
    while idle < STEPS {
        tokio::time::sleep(shared.config.patience / STEPS).await;
        let noted = shared.noted();
        if noted != last {
            (idle, last) = (0, noted);
        } else if !shared.reads.load(Ordering::Relaxed) {
            idle += 1;
        }
    }
}
