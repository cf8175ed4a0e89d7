//! The one place in this process through which a store's tasks are reached: here, or in the process that has them.
//!
//! A thread of its own tries to become the owner. If another process is, it sends our requests there, and tries again when
//! that one goes away. So of any number of processes one is the owner as long as one lives, and a call that comes while
//! nobody is waits for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::frame::Request;
use super::guest::Call;
use super::objects::{NAME, Objects};
use super::tasks::Config;
use super::{bucket, folder, seat, segment};
use crate::guard::LONG;
use crate::log::{Answer, Engine, Fault, Query, Signals};
use crate::{Error, Result};

/// Who has the tasks.
#[derive(Debug, Clone)]
pub(super) enum Seat {
    /// We do.
    Owner(Arc<Engine>),
    /// Another process, which is asked through this.
    Guest(mpsc::Sender<Call>),
    /// We will: all there is is being read.
    Loading,
    /// Nobody yet, or nobody any more.
    Vacant,
    /// Nobody can have them, for that reason.
    Broken(Arc<Error>),
    /// The store was closed here.
    Closed,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Hub {
    pub config: Config,
    pub signals: Arc<Signals>,
    seat: watch::Sender<Seat>,
    closing: watch::Sender<bool>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    /// How many stores of this process have it open.
    pub holds: AtomicUsize,
}

impl Hub {
    /// Opens the store: returns once this process is the owner, or has found it.
    pub(super) async fn open(config: Config) -> Result<Arc<Self>> {
        let (opened, opening) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let hub = Arc::new(Self {
            config,
            signals: Arc::default(),
            seat: watch::Sender::new(Seat::Vacant),
            closing: watch::Sender::new(false),
            ended: Mutex::new(Some(ended)),
            holds: AtomicUsize::new(0),
        });
        let keeper = Keeper {
            config: hub.config.clone(),
            signals: Arc::clone(&hub.signals),
            seat: hub.seat.clone(),
            closing: hub.closing.subscribe(),
            opened: Some(opened),
        };
        std::thread::Builder::new()
            .name("omniq-tasks".into())
            .spawn(move || {
                keeper.run();
                let _ = end.send(()); // nobody waits for it when the store was dropped
            })
            .map_err(|error| Error::Config(format!("a thread did not start: {error}")))?;
        // A bucket whose owner has died is somebody else's only after a lease.
        let lease =
            if hub.config.root.folder.is_some() { Duration::ZERO } else { hub.config.lease };
        let patience = hub.config.patience + lease;
        let mut opening = opening;
        let at_most = Instant::now() + hub.config.patience * LONG;
        let opened = loop {
            match tokio::time::timeout(patience, &mut opening).await {
                Ok(opened) => break opened,
                // It takes as long as there is much, here as in another process.
                Err(_) if matches!(*hub.seat.borrow(), Seat::Loading) => {}
                Err(_)
                    if Instant::now() < at_most && hub.owner().is_some_and(|o| !o.is_stopped) => {}
                Err(_) => return Err(hub.nobody("open the store")),
            }
        };
        opened.map_err(|_| Error::Closed(NAME))??;
        Ok(hub)
    }

    /// Has a request answered, by whoever has the tasks.
    pub(super) async fn call(&self, mut request: Request, action: &'static str) -> Result<Answer> {
        let patience = self.config.patience * if request.is_long() { LONG } else { 1 };
        let deadline = Instant::now() + patience;
        let is_bucket = self.config.root.folder.is_none();
        let mut seats = self.seat.subscribe();
        loop {
            let seat = seats.borrow_and_update().clone();
            // What is to be asked again: nothing was done, and whoever comes next does it.
            request = match (seat, request) {
                (Seat::Owner(engine), Request::Command(command)) => {
                    match timeout_at(deadline, engine.ask(command)).await {
                        Ok(Ok(outcome)) => return self.told(outcome, action),
                        Ok(Err(command)) => Request::Command(command),
                        Err(_) => return Err(self.late(action, patience)),
                    }
                }
                (Seat::Owner(engine), Request::Query(query)) => {
                    return self.told(engine.look(&query).await, action);
                }
                (Seat::Guest(calls), request) => {
                    let outcome = timeout_at(deadline, ask_guest(&calls, &request, patience)).await;
                    match (outcome, request) {
                        (Ok(Err(Fault::Closed)), request) => request,
                        (Ok(Err(Fault::Full(_))), Request::Query(query)) if is_bucket => {
                            return self.read(&query, action, deadline).await;
                        }
                        (Ok(Err(Fault::Lost(_))), request @ Request::Query(_)) => request,
                        (Ok(outcome), _) => return self.told(outcome, action),
                        (Err(_), _) => return Err(self.late(action, patience)),
                    }
                }
                (Seat::Vacant | Seat::Loading, request) => request,
                (Seat::Broken(error), request) => match (&*error, request) {
                    (Error::Full { .. }, Request::Query(query)) if is_bucket => {
                        return self.read(&query, action, deadline).await;
                    }
                    (Error::Full { place, reason }, _) => {
                        return Err(Error::Full { place: place.clone(), reason: reason.clone() });
                    }
                    (error, _) => {
                        return Err(Error::not_applied(NAME, action, error.to_string()));
                    }
                },
                (Seat::Closed, _) => return Err(Error::Closed(NAME)),
            };
            if !matches!(timeout_at(deadline, seats.changed()).await, Ok(Ok(()))) {
                return Err(self.nobody(action));
            }
        }
    }

    /// Answers a question from what is in the bucket, where there is no room for putting it to the process that has the tasks.
    /// What was committed before is seen, as ever.
    async fn read(&self, query: &Query, action: &'static str, deadline: Instant) -> Result<Answer> {
        let objects = Objects::new(self.config.root.clone());
        let Ok(read) = timeout_at(deadline, segment::read_all(&objects)).await else {
            return Err(self.late(action, self.config.patience));
        };
        let state = read?.state;
        let now = self.config.clock.now().max(state.now);
        Ok(query.look(&state.core, now))
    }

    fn told(&self, outcome: Result<Answer, Fault>, action: &'static str) -> Result<Answer> {
        outcome.map_err(|fault| match fault {
            Fault::Full(reason) => Error::Full { place: self.name().to_owned(), reason },
            Fault::Lost(reason) => {
                Error::unavailable(NAME, action, format!("{}: {reason}", self.name()))
            }
            Fault::Large(reason) => Error::Config(format!(
                "{}: could not {action}: {reason}; ask for less at once",
                self.name()
            )),
            Fault::Closed => {
                let why = format!("{}: it passes to another process", self.name());
                Error::not_applied(NAME, action, why)
            }
        })
    }

    fn name(&self) -> &str {
        &self.config.root.shown
    }

    fn nobody(&self, action: &'static str) -> Error {
        let why = match self.owner() {
            Some(owner) => format!("{}: {owner}", self.name()),
            None => format!("{}: another process has it and does not answer", self.name()),
        };
        Error::not_applied(NAME, action, why)
    }

    fn late(&self, action: &'static str, patience: Duration) -> Error {
        let owner = self.owner().map(|owner| format!("; {owner}")).unwrap_or_default();
        let name = self.name();
        let why = format!("{name}: there was no answer within {} s{owner}", patience.as_secs());
        Error::unavailable(NAME, action, why)
    }

    /// The other process that has the folder, as far as can be told.
    fn owner(&self) -> Option<folder::Owner> {
        folder::owner(&self.config.root.folder.as_ref()?.join("tasks"))
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }

    /// Begins to close: what was asked for is still done.
    pub(super) fn let_go(&self) {
        self.closing.send_replace(true);
        self.seat.send_modify(|seat| {
            if let Seat::Owner(engine) = seat {
                engine.let_go();
            }
            *seat = Seat::Closed;
        });
    }

    /// Closes, and waits until another process can take over.
    pub(super) async fn close(&self) {
        self.let_go();
        if let Some(ended) = self.ended.lock().await.take() {
            let _ = ended.await; // it is gone either way
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.let_go();
    }
}

pub(super) async fn ask_guest(
    calls: &mpsc::Sender<Call>,
    request: &Request,
    patience: Duration,
) -> Result<Answer, Fault> {
    let (reply, answer) = oneshot::channel();
    let call = Call { request: request.encode(), patience, reply };
    calls.send(call).await.map_err(|_| Fault::Closed)?;
    let gone = |_| Err(Fault::Lost("the store was closed before the answer came".into()));
    answer.await.unwrap_or_else(gone)
}

/// The thread that finds out who has the tasks.
pub(super) struct Keeper {
    pub config: Config,
    pub signals: Arc<Signals>,
    seat: watch::Sender<Seat>,
    pub closing: watch::Receiver<bool>,
    opened: Option<oneshot::Sender<Result<()>>>,
}

impl Keeper {
    fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                self.fail(Error::Config(format!("a runtime did not start: {error}")));
                return;
            }
        };
        let mut closing = self.closing.clone();
        runtime.block_on(async {
            match self.config.root.folder.clone() {
                Some(folder) => seat::keep(&mut self, &folder.join("tasks")).await,
                None => bucket::keep(&mut self).await,
            }
            let _ = closing.wait_for(|closing| *closing).await; // its sender lives as long as anybody asks
        });
    }

    /// Says who has the tasks from now on; all who wait for that go on.
    pub(super) fn sit(&mut self, seat: Seat) {
        if matches!(seat, Seat::Owner(_)) {
            let store = &self.config.root.shown;
            tracing::info!(store, "this process has the tasks now, and others ask it");
        }
        if matches!(seat, Seat::Owner(_) | Seat::Guest(_))
            && let Some(opened) = self.opened.take()
        {
            let _ = opened.send(Ok(())); // nobody waits any more
        }
        self.seat.send_modify(|current| {
            if !matches!(current, Seat::Closed) {
                *current = seat;
            }
        });
        self.signals.bump(crate::Interest::Work);
        self.signals.bump(crate::Interest::Ends);
    }

    /// Says that nobody can have them. `false`: it failed to open, and nothing is to be tried again.
    pub(super) fn fail(&mut self, error: Error) -> bool {
        match self.opened.take() {
            Some(opened) => {
                let _ = opened.send(Err(error)); // nobody waits any more
                false
            }
            None => {
                self.sit(Seat::Broken(Arc::new(error)));
                true
            }
        }
    }

    /// Whether somebody has had the tasks since the store was opened here.
    pub(super) fn has_opened(&self) -> bool {
        self.opened.is_none()
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits, but not when the store is being closed.
    pub(super) async fn pause(&mut self, span: Duration) {
        let closing = self.closing.wait_for(|closing| *closing);
        let _ = tokio::time::timeout(span, closing).await; // both ends are an end
    }

    /// Until the store is being closed.
    pub(super) async fn closed(&mut self) {
        let _ = self.closing.wait_for(|closing| *closing).await; // gone is closed
    }
}

/// A hold of one store of this process on the hub, which closes when the last one lets go.
#[derive(Debug)]
pub(super) struct Hold {
    pub hub: Arc<Hub>,
    released: std::sync::atomic::AtomicBool,
}

impl Hold {
    pub(super) fn on(hub: &Arc<Hub>) -> Self {
        hub.holds.fetch_add(1, Ordering::AcqRel);
        Self { hub: Arc::clone(hub), released: Default::default() }
    }

    /// Tells whether nobody holds the hub any more.
    fn release(&self) -> bool {
        !self.released.swap(true, Ordering::AcqRel)
            && self.hub.holds.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn check(&self) -> Result<()> {
        let released = self.released.load(Ordering::Acquire);
        if released { Err(Error::Closed(NAME)) } else { Ok(()) }
    }

    pub(super) async fn close(&self) {
        if self.release() {
            self.hub.close().await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.release() {
            self.hub.let_go();
        }
    }
}
