//! The process that has the state machine: it writes down what was asked for, then does it, then answers.
//!
//! Two threads. The first takes the commands that queued while it was busy, makes them one entry and has the journal keep
//! it; the second applies entries that are kept, in order, and answers. So nothing is applied that is not durable, and the
//! next entry is written while the last one is applied. There is no timer: a lone caller's command is written at once, and
//! under load the batches make themselves.
//!
//! Where entries are kept, and whether this process may still write there, is the [`Journal`]'s.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use omniq_model::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::wire::Out;
use super::{Answer, Command, Entry, Query, State};
use crate::{Changes, Clock, Interest, failpoint};

/// Commands that wait at most; more callers wait to be let in.
const QUEUE: usize = 4096;
/// Entries that wait to be applied at most.
const AHEAD: usize = 2;

/// Why a command was not carried out, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no room. Nothing was done.
    Full(String),
    /// This process is the owner no more: somebody else is, or whether the entry was kept cannot be found out.
    Lost(String),
    /// The engine has been stopped. Nothing was done.
    Closed,
    /// It is more than one process can pass on to another. Nothing was done.
    Large(String),
}

/// Where entries are kept.
pub trait Journal: Send + 'static {
    /// Keeps the entry of that number; returns once it is durable.
    ///
    /// # Errors
    /// [`Fault::Full`]: nothing was kept, and others may follow. [`Fault::Lost`]: it may have been kept, and none may
    /// follow.
    fn append(&mut self, index: u64, entry: &[u8]) -> Result<(), Fault>;

    /// Why nothing that makes the store larger is to be kept now, if so.
    fn lacking(&self) -> Option<String>;

    /// Asked after each entry: when it is time for an image, what keeps the image of the state after that entry, and then
    /// lets go of what it replaces.
    ///
    /// # Errors
    /// [`Fault::Lost`]: none may follow.
    fn cut(&mut self, index: u64) -> Result<Option<Keep>, Fault>;
}

/// Whether this process may still speak for the store: a look must not show what is long over.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync {
    /// As far as it knows, or can find out soon.
    async fn opens(&self) -> bool;
}

/// Keeps an image; called on a thread of its own.
pub type Keep = Box<dyn FnOnce(Vec<u8>) + Send>;

/// How much goes into one entry.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Commands.
    pub commands: usize,
    /// Bytes after which none is added: large ones do not hold small ones up for long.
    pub bytes: usize,
    /// From here on an entry takes so long to be written down that sessions are spared it: their heartbeats stood behind it.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 1024, bytes: 4 << 20, stall: Duration::from_secs(5) }
    }
}

/// Wakes those who wait for changes; outlives the engines of a store.
#[derive(Debug, Default)]
pub struct Signals {
    work: watch::Sender<u64>,
    ends: watch::Sender<u64>,
}

impl Signals {
    /// Something changed.
    pub fn bump(&self, interest: Interest) {
        self.counter(interest).send_modify(|count| *count += 1);
    }

    /// What has changed so far.
    pub fn changes(&self, interest: Interest) -> Changes {
        Changes(*self.counter(interest).borrow())
    }

    /// Tells of later changes.
    pub fn subscribe(&self, interest: Interest) -> watch::Receiver<u64> {
        self.counter(interest).subscribe()
    }

    fn counter(&self, interest: Interest) -> &watch::Sender<u64> {
        match interest {
            Interest::Work => &self.work,
            Interest::Ends => &self.ends,
        }
    }
}

struct Ask {
    bytes: Vec<u8>,
    command: Command,
    reply: oneshot::Sender<Result<Answer, Fault>>,
}

/// An entry that is kept, to be applied.
struct Kept {
    now: Timestamp,
    /// How far the clock had leapt since the entry before.
    leapt: Duration,
    asks: Vec<Ask>,
    image: Option<Keep>,
}

/// The store's time: the clock's, or where the log is ahead of that, at half its pace until the clock has caught up. It
/// must not go back, and if it stood still nothing would become due and no lease would end.
#[derive(Debug, Clone)]
struct Time {
    clock: Arc<dyn Clock>,
    /// What the clock showed when this engine started.
    begun: Timestamp,
    /// What the log had come to then.
    logged: Timestamp,
}

impl Time {
    fn new(clock: Arc<dyn Clock>, logged: Timestamp) -> Self {
        // The process's other stores are to agree. A clock does not follow where the log is a day ahead.
        clock.at_least(logged);
        let begun = clock.now();
        Self { clock, begun, logged }
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        now.max(self.logged + now.since(self.begun) / 2)
    }
}

/// The state machine at work.
pub struct Engine {
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
    state: Arc<Mutex<State>>,
    time: Time,
    lost: watch::Receiver<Option<Fault>>,
    gate: Option<Arc<dyn Gate>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts it at that state, whose next entry the journal expects.
    ///
    /// # Errors
    /// The threads do not start.
    pub fn start(
        state: State,
        journal: impl Journal,
        clock: Arc<dyn Clock>,
        signals: Arc<Signals>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let (asks, queue) = mpsc::channel(QUEUE);
        let (kept, to_apply) = sync_channel(AHEAD);
        let (lose, lost) = watch::channel(None);
        let (index, last) = (state.applied, state.now);
        let time = Time::new(clock, last);
        let state = Arc::new(Mutex::new(state));
        let applier = Applier { state: Arc::clone(&state), signals, image: None };
        let applier = std::thread::Builder::new()
            .name("omniq-log-apply".into())
            .spawn(move || applier.serve(&to_apply))?;
        let leapt = time.clock.leapt();
        let writer = Writer {
            journal,
            time: time.clone(),
            index,
            last,
            leapt,
            stalled: Duration::ZERO,
            limits,
            kept,
        };
        std::thread::Builder::new().name("omniq-log-write".into()).spawn(move || {
            let fault = writer.serve(queue);
            let _ = applier.join(); // a panic in it has shown by the answers that are missing
            lose.send_replace(Some(fault));
        })?;
        Ok(Self { asks: Mutex::new(Some(asks)), state, time, lost, gate: None })
    }

    /// Has every look at the state pass this gate first.
    #[must_use]
    pub fn behind(self, gate: Arc<dyn Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Carries a command out; returns once it is durable. When the call is dropped the command may still be carried out.
    ///
    /// # Errors
    /// The command, when it was not taken: nothing was done.
    pub async fn ask(&self, command: Command) -> Result<Result<Answer, Fault>, Command> {
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(asks) = asks else { return Err(command) };
        // Whatever was answered before has been applied, so that a caller sees its own effects here.
        if let Err(fault) = self.pass().await {
            return Ok(Err(fault));
        }
        match self.locked(|state, now| command.without_effect(&state.core, now)) {
            Ok(None) => {}
            Ok(Some(answer)) => return Ok(Ok(answer)),
            Err(fault) => return Ok(Err(fault)),
        }
        let Ok(place) = asks.reserve_owned().await else { return Err(command) };
        let mut out = Out::with_capacity(256);
        command.write(&mut out);
        let (reply, answer) = oneshot::channel();
        drop(place.send(Ask { bytes: out.into_bytes(), command, reply }));
        Ok(answer.await.unwrap_or_else(|_| Err(Fault::Lost("it ended before it answered".into()))))
    }

    /// Looks at the state machine as the last durable entry left it.
    ///
    /// # Errors
    /// A panic in the middle of a change has left it half done, or somebody else may have taken over.
    pub async fn look(&self, query: &Query) -> Result<Answer, Fault> {
        self.pass().await?;
        self.locked(|state, now| query.look(&state.core, now))
    }

    async fn pass(&self) -> Result<(), Fault> {
        match &self.gate {
            Some(gate) if !gate.opens().await => {
                let why = "this process has not reached the others for so long that one may have taken over";
                Err(Fault::Lost(why.into()))
            }
            _ => Ok(()),
        }
    }

    fn locked<T>(&self, look: impl FnOnce(&State, Timestamp) -> T) -> Result<T, Fault> {
        let broken = |_| Fault::Lost("a panic interrupted a change of it".into());
        let state = self.state.lock().map_err(broken)?;
        let now = self.time.now().max(state.now);
        Ok(look(&state, now))
    }

    /// Takes no more commands; those it has are carried out.
    pub fn let_go(&self) {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until it has ended, and tells why.
    pub async fn ended(&self) -> Fault {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(fault) => fault.clone().unwrap_or(Fault::Closed),
            Err(_) => Fault::Lost("its thread panicked".into()),
        }
    }
}

/// The thread that writes entries down.
struct Writer<J> {
    journal: J,
    time: Time,
    /// The number of the last entry.
    index: u64,
    /// The instant of the last entry.
    last: Timestamp,
    /// Leaps of the clock that the sessions were spared.
    leapt: Duration,
    /// How long the last entry took to be written down, if that was long: nobody could report meanwhile.
    stalled: Duration,
    limits: Limits,
    kept: SyncSender<Kept>,
}

impl<J: Journal> Writer<J> {
    /// Serves until all who could ask are gone, or the journal is lost; tells why it ended.
    fn serve(mut self, mut queue: mpsc::Receiver<Ask>) -> Fault {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes.len();
            let mut asks = vec![first];
            while asks.len() < self.limits.commands
                && bytes < self.limits.bytes
                && let Ok(next) = queue.try_recv()
            {
                bytes += next.bytes.len();
                asks.push(next);
            }
            let asks = self.refuse_growth(asks);
            if let Err(fault) = self.write(asks) {
                queue.close();
                while let Ok(ask) = queue.try_recv() {
                    answer(ask, Err(Fault::Closed));
                }
                return fault;
            }
        }
        Fault::Closed
    }

    /// Refuses what makes the store larger when room runs out, so that what runs can still end.
    fn refuse_growth(&self, asks: Vec<Ask>) -> Vec<Ask> {
        if !asks.iter().any(|ask| ask.command.grows()) {
            return asks;
        }
        let Some(reason) = self.journal.lacking() else { return asks };
        let (refused, asks): (Vec<_>, _) = asks.into_iter().partition(|ask| ask.command.grows());
        for ask in refused {
            answer(ask, Err(Fault::Full(reason.clone())));
        }
        asks
    }

    /// Writes one entry, and passes it on to be applied. What does not fit together is tried one by one.
    fn write(&mut self, asks: Vec<Ask>) -> Result<(), Fault> {
        if asks.is_empty() {
            return Ok(());
        }
        let now = self.time.now().max(self.last);
        let leaps = self.time.clock.leapt();
        let stalled = std::mem::take(&mut self.stalled);
        let leapt = leaps.saturating_sub(self.leapt) + stalled;
        let mut entry = Entry::new(now, asks.iter().map(|ask| ask.bytes.len() + 4).sum());
        if !leapt.is_zero() {
            let mut out = Out::default();
            Command::Spare(leapt).write(&mut out);
            entry.add(&out.into_bytes());
        }
        for ask in &asks {
            entry.add(&ask.bytes);
            hit(ask.command.kind(), "before_append");
        }
        let began = Instant::now();
        match self.journal.append(self.index + 1, &entry.into_bytes()) {
            // Not twice in a row: where every entry takes so long, the dead are to be found all the same.
            Ok(()) if began.elapsed() >= self.limits.stall && stalled.is_zero() => {
                self.stalled = began.elapsed();
            }
            Ok(()) => {}
            Err(Fault::Full(_)) if asks.len() > 1 => {
                return asks.into_iter().try_for_each(|ask| self.write(vec![ask]));
            }
            Err(fault) => {
                let full = matches!(fault, Fault::Full(_));
                for ask in asks {
                    answer(ask, Err(fault.clone()));
                }
                return if full { Ok(()) } else { Err(fault) };
            }
        }
        for ask in &asks {
            hit(ask.command.kind(), "after_append");
        }
        self.index += 1;
        self.last = now;
        self.leapt = leaps;
        let cut = self.journal.cut(self.index);
        let (image, cut) = match cut {
            Ok(image) => (image, Ok(())),
            Err(fault) => (None, Err(fault)),
        };
        let kept = self.kept.send(Kept { now, leapt, asks, image });
        kept.map_err(|_| Fault::Lost("a panic interrupted a change of it".into()))?;
        cut
    }
}

/// The thread that applies entries.
struct Applier {
    state: Arc<Mutex<State>>,
    signals: Arc<Signals>,
    image: Option<JoinHandle<()>>,
}

impl Applier {
    fn serve(mut self, kept: &Receiver<Kept>) {
        while let Ok(entry) = kept.recv() {
            self.apply(entry);
        }
        if let Some(image) = self.image.take() {
            let _ = image.join(); // what it would have let go of is still there then
        }
    }

    fn apply(&mut self, entry: Kept) {
        let mut answers = Vec::with_capacity(entry.asks.len());
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        state.now = entry.now;
        if !entry.leapt.is_zero() {
            state.core.spare(entry.now, entry.leapt);
        }
        for ask in entry.asks {
            let kind = ask.command.kind();
            answers.push((kind, ask.reply, ask.command.apply(&mut state.core, entry.now)));
        }
        state.applied += 1;
        let changed = state.core.take_changed();
        let image = entry.image.map(|keep| (keep, state.applied, state.now, state.core.image()));
        drop(state);
        if changed.work {
            self.signals.bump(Interest::Work);
        }
        if changed.ends {
            self.signals.bump(Interest::Ends);
        }
        for (kind, reply, answer) in answers {
            hit(kind, "before_answer");
            let _ = reply.send(Ok(answer)); // a caller that went away does not want to know
        }
        if let Some((keep, applied, now, image)) = image {
            self.keep(move || {
                let mut out = Out::with_capacity(image.tasks() * 256);
                out.number(applied);
                out.instant(now);
                image.write(&mut out);
                drop(image);
                keep(out.into_bytes());
            });
        }
    }

    fn keep(&mut self, work: impl FnOnce() + Send + 'static) {
        if let Some(last) = self.image.take() {
            let _ = last.join(); // the journal asks for the next one only after the last
        }
        let thread = std::thread::Builder::new().name("omniq-log-image".into()).spawn(work);
        if let Err(error) = &thread {
            let error = error.to_string();
            tracing::warn!(error, "no thread started for an image; the log grows until one does");
        }
        self.image = thread.ok();
    }
}

fn answer(ask: Ask, answer: Result<Answer, Fault>) {
    let _ = ask.reply.send(answer); // a caller that went away does not want to know
}

fn hit(kind: &str, place: &str) {
    if cfg!(any(debug_assertions, feature = "failpoints")) {
        failpoint::hit(&format!("log.{kind}.{place}"));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use omniq_model::SessionId;

    use super::*;
    use crate::{Beat, Held, ManualClock, Session};

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    /// A journal that has nothing to lose.
    pub(crate) struct Nowhere;

    impl Journal for Nowhere {
        fn append(&mut self, _: u64, _: &[u8]) -> Result<(), Fault> {
            Ok(())
        }

        fn lacking(&self) -> Option<String> {
            None
        }

        fn cut(&mut self, _: u64) -> Result<Option<Keep>, Fault> {
            Ok(None)
        }
    }

    /// A clock that does not follow what others have seen.
    #[derive(Debug)]
    struct Stubborn(ManualClock);

    impl Clock for Stubborn {
        fn now(&self) -> Timestamp {
            self.0.now()
        }
    }

    fn at(span: Duration) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + span
    }

    fn engine(clock: Arc<dyn Clock>, logged: Timestamp) -> Engine {
        let state = State { now: logged, ..State::default() };
        Engine::start(state, Nowhere, clock, Arc::default(), Limits::default()).unwrap()
    }

    async fn now(engine: &Engine) -> Timestamp {
        engine.look(&Query::Now).await.unwrap().try_into().unwrap()
    }

    #[tokio::test]
    async fn a_clock_that_is_behind_the_log_does_not_stop_its_time() {
        let clock = ManualClock::new(at(Duration::ZERO));
        let engine = engine(Arc::new(clock.clone()), at(HOUR));
        assert_eq!((now(&engine).await, clock.now()), (at(HOUR), at(HOUR)));
        clock.advance(SECOND);
        assert_eq!(now(&engine).await, at(HOUR + SECOND));
    }

    #[tokio::test]
    async fn where_the_clock_does_not_follow_time_goes_on_at_half_its_pace_until_both_are_the_same()
    {
        let clock = ManualClock::new(at(Duration::ZERO));
        let engine = engine(Arc::new(Stubborn(clock.clone())), at(48 * HOUR));
        for (passed, shown) in [
            (Duration::ZERO, 48 * HOUR),
            (2 * SECOND, 48 * HOUR + SECOND),
            (48 * HOUR, 72 * HOUR),
            (96 * HOUR, 96 * HOUR),
            (97 * HOUR, 97 * HOUR),
        ] {
            clock.advance(at(passed).since(clock.now()));
            assert_eq!(now(&engine).await, at(shown), "{passed:?}");
        }
    }

    /// A journal whose second entry takes long.
    struct Stuck(ManualClock);

    impl Journal for Stuck {
        fn append(&mut self, index: u64, _: &[u8]) -> Result<(), Fault> {
            if index == 2 {
                std::thread::sleep(SECOND);
                self.0.advance(SECOND);
            }
            Ok(())
        }

        fn lacking(&self) -> Option<String> {
            None
        }

        fn cut(&mut self, _: u64) -> Result<Option<Keep>, Fault> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn who_waits_behind_an_entry_that_takes_long_is_not_taken_for_dead() {
        let clock = ManualClock::new(at(Duration::ZERO));
        let state = State { now: at(Duration::ZERO), ..State::default() };
        let (journal, shared) = (Stuck(clock.clone()), Arc::new(clock.clone()));
        let limits = Limits { stall: SECOND, ..Limits::default() };
        let engine = Engine::start(state, journal, shared, Arc::default(), limits).unwrap();
        let ask = async |command| engine.ask(command).await.unwrap().unwrap();
        let open = Command::OpenSession(SessionId::new(1), SECOND / 2);
        let session: Session = ask(open).await.try_into().unwrap();
        ask(Command::Pause(omniq_model::Lane::default(), true)).await;
        let beat = ask(Command::Heartbeat(session, Held::default())).await;
        assert!(matches!(beat, Answer::Beat(Beat::Alive { .. })), "{beat:?}");
        // Nothing else is forgiven.
        clock.advance(SECOND);
        let beat = ask(Command::Heartbeat(session, Held::default())).await;
        assert!(matches!(beat, Answer::Beat(Beat::Dead)), "{beat:?}");
    }

    #[tokio::test]
    async fn a_lease_ends_although_the_clock_is_far_behind_the_log() {
        let clock = ManualClock::new(at(Duration::ZERO));
        let engine = engine(Arc::new(Stubborn(clock.clone())), at(48 * HOUR));
        let ask = async |command| engine.ask(command).await.unwrap().unwrap();
        let open = Command::OpenSession(SessionId::new(1), SECOND);
        let session: Session = ask(open).await.try_into().unwrap();
        clock.advance(4 * SECOND);
        let beat = ask(Command::Heartbeat(session, Held::default())).await;
        assert!(matches!(beat, Answer::Beat(Beat::Dead)), "{beat:?}");
    }
}
