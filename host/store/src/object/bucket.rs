//! Who owns a bucket: whoever's entry is the last of the log.
//!
//! An owner writes down that it lives (`beat/EPOCH`), and when it closes that it has gone. Another process takes over when
//! it has seen no sign of life for a lease on its own clock, and first leaves a mark (`epoch/EPOCH`). That two never write
//! is the log's doing ([`super::segment`]), whatever clocks say. Who is asked what there is does not ask the log: see
//! [`Pulse`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::frame::Request;
use super::hub::{Keeper, Seat, ask_guest};
use super::inbox::Late;
use super::objects::{Objects, random};
use super::segment::{All, BucketJournal, take_over};
use super::{inbox, meta};
use crate::guard::LONG;
use crate::log::wire::{In, Out, Read};
use crate::log::{Engine, Fault, Gate, Limits, Query, Signals};
use crate::{Clock, Error, ErrorKind, Interest, Result};

/// Requests to the owner that wait at most; more callers wait to be let in.
const QUEUE: usize = 1024;
const ACTION: &str = "find out which process has the tasks";

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Beat {
    count: u64,
    work: u64,
    ends: u64,
    gone: bool,
    /// How long its owner may be silent.
    lease: Duration,
}

impl Beat {
    fn write(self) -> Vec<u8> {
        let mut out = Out::default();
        for number in [self.count, self.work, self.ends] {
            out.number(number);
        }
        out.flag(self.gone);
        out.span(self.lease);
        out.into_bytes()
    }

    fn read(bytes: &[u8]) -> Read<Self> {
        let mut input = In::new(bytes);
        let (count, work, ends) = (input.number()?, input.number()?, input.number()?);
        Ok(Self { count, work, ends, gone: input.flag()?, lease: input.span()? })
    }
}

fn beat_name(epoch: u64) -> String {
    format!("tasks/beat/{epoch:020}")
}

fn epoch_name(epoch: u64) -> String {
    format!("tasks/epoch/{epoch:020}")
}

async fn beat_of(objects: &Objects, epoch: u64) -> Result<Option<Beat>> {
    let bytes = objects.get(&beat_name(epoch), ACTION).await?;
    Ok(bytes.and_then(|bytes| Beat::read(&bytes).ok()))
}

/// The last epoch there is; 0: none yet.
async fn last_epoch(objects: &Objects, known: u64) -> Result<u64> {
    let names = objects.list("tasks/epoch", ACTION).await?;
    let numbers = names.iter().filter_map(|name| name.rsplit('/').next()?.parse().ok());
    let mut last = numbers.max().unwrap_or(0).max(known);
    // A list may be old; an object is not.
    while objects.get(&epoch_name(last + 1), ACTION).await?.is_some() {
        last += 1;
    }
    Ok(last)
}

/// Owns the bucket when nobody does, and is a guest of who does, until the store is closed.
pub(super) async fn keep(keeper: &mut Keeper) {
    let objects = Objects::new(keeper.config.root.clone());
    let mut known = 0;
    while !keeper.is_closing() {
        if let Err(error) = turn(keeper, &objects, &mut known).await {
            // A bucket that does not answer may answer later; whoever opens it first is to know at once.
            let passes = error.kind() == ErrorKind::Unavailable && keeper.has_opened();
            if passes {
                let store = &keeper.config.root.shown;
                let error = crate::error::chain(&error);
                tracing::warn!(store, error, "nobody who has the tasks can be found; trying again");
                keeper.sit(Seat::Vacant);
            } else if !keeper.fail(error) {
                return;
            }
            keeper.pause(Duration::from_secs(1)).await;
        }
    }
}

async fn turn(keeper: &mut Keeper, objects: &Objects, known: &mut u64) -> Result<()> {
    meta::obtain(&keeper.config.root).await?;
    let last = last_epoch(objects, *known).await?;
    let has_gone = match last {
        0 => true,
        last => beat_of(objects, last).await?.is_some_and(|beat| beat.gone),
    };
    let before = if has_gone {
        Before { epoch: last, beat: None }
    } else {
        visit(keeper, objects, last).await?
    };
    *known = before.epoch;
    if keeper.is_closing() { Ok(()) } else { own(keeper, objects, before).await }
}

/// The owner that was, and its last sign of life as far as it was seen.
#[derive(Debug, Clone, Copy)]
struct Before {
    epoch: u64,
    beat: Option<Beat>,
}

/// Is the owner until the store is closed, or another process has taken over; nothing if another was faster.
async fn own(keeper: &mut Keeper, objects: &Objects, before: Before) -> Result<()> {
    let (owner, epoch) = (random()?, before.epoch + 1);
    let pulse = Arc::new(Pulse::new(keeper.config.lease, Arc::clone(&keeper.config.clock)));
    let mark = epoch_name(epoch);
    let left = objects.create(&mark, owner.to_vec().into(), ACTION).await;
    if !matches!(left, Ok(true)) {
        // It may be there all the same, where only the answer was lost: else all would wait a lease for nobody.
        let there = objects.get(&mark, ACTION).await?;
        if there.as_deref() != Some(owner.as_slice()) {
            return left.map(drop);
        }
    }
    let first = Beat { lease: keeper.config.lease, ..Beat::default() };
    objects.replace(&beat_name(epoch), first.write().into(), ACTION).await?;
    keeper.sit(Seat::Loading);
    let signals = Arc::clone(&keeper.signals);
    let taking = async {
        outlast(objects, before, keeper.config.lease).await;
        take_over(objects, &owner).await
    };
    // Reading may take longer than a lease, and is a sign of life.
    let taken = tokio::select! {
        taken = taking => taken,
        never = pulse.keep_beating(objects, epoch, &signals) => match never {},
    };
    let All { state, image_bytes, since, damaged } = match taken {
        Ok(taken) => taken,
        Err(error) => {
            leave(objects, epoch).await;
            return Err(error);
        }
    };
    let gate = Watch { pulse: Arc::clone(&pulse), objects: objects.clone(), epoch };
    let journal = BucketJournal {
        objects: objects.clone(),
        owner,
        handle: tokio::runtime::Handle::current(),
        closing: keeper.closing.clone(),
        since,
        damaged,
        every: keeper.config.image_every,
        image_bytes: Arc::new(AtomicU64::new(image_bytes)),
        busy: Arc::default(),
        full: None,
    };
    let clock = Arc::clone(&keeper.config.clock);
    let engine = Engine::start(state, journal, clock, Arc::clone(&signals), Limits::default())
        .map_err(|error| Error::Config(format!("a thread did not start: {error}")))?
        .behind(Arc::new(gate));
    let engine = Arc::new(engine);
    // The first sign of life does, as long as there cannot be another one.
    if Duration::from_millis(pulse.age()) >= objects.root.pace {
        pulse.beat(objects, epoch, &signals).await;
    }
    pulse.look(objects, epoch).await;
    keeper.sit(Seat::Owner(Arc::clone(&engine)));
    let poll = keeper.config.poll;
    // What a guest asks for is waited for so long at most.
    let patience = keeper.config.patience * LONG;
    let beat = beat_name(epoch);
    tokio::select! {
        () = inbox::serve(objects, &engine, poll, Late { patience, beat }) => {}
        () = live(objects, epoch, &pulse, &signals, poll) => {}
        never = tidy(objects, epoch, pulse.lease) => match never {},
        _ = engine.ended() => {}
        () = keeper.closed() => {}
    }
    keeper.sit(Seat::Vacant);
    engine.let_go();
    engine.ended().await;
    leave(objects, epoch).await;
    Ok(())
}

/// Tells that the owner has gone, so that nobody waits for a lease to be over.
async fn leave(objects: &Objects, epoch: u64) {
    let gone = Beat { gone: true, ..Beat::default() };
    let _ = objects.replace(&beat_name(epoch), gone.write().into(), ACTION).await; // or after a lease
}

/// Waits until an owner that came back after all speaks no more: one that gave a sign of life after it was taken for dead
/// may not see the mark of who takes over before it looks again.
async fn outlast(objects: &Objects, before: Before, lease: Duration) {
    let marked = Instant::now();
    let lease = before.beat.map_or(lease, |beat| beat.lease.max(lease));
    while marked.elapsed() < lease {
        match beat_of(objects, before.epoch).await {
            Ok(beat) if beat == before.beat || beat.is_none_or(|beat| beat.gone) => return,
            _ => tokio::time::sleep(lease / 10).await,
        }
    }
}

/// Whether an owner may speak for the store: for part of a lease after a sign of life, and after it looked for the mark of
/// somebody who takes over and found none. Who takes over has either seen no such sign for longer than that, or waits for
/// as long after its mark ([`outlast`]).
#[derive(Debug)]
struct Pulse {
    begun: Instant,
    /// What tells of time in which this machine slept, and others may have taken over.
    clock: Arc<dyn Clock>,
    /// Until what [`age`](Self::age) in milliseconds the last sign of life that arrived does.
    alive: AtomicU64,
    /// The same for the last look at the mark, which came after a sign of life that does.
    alone: AtomicU64,
    lease: Duration,
    /// Signs of life so far.
    count: AtomicU64,
    /// The bucket had no room for the last one.
    has_no_room: AtomicBool,
}

impl Pulse {
    fn new(lease: Duration, clock: Arc<dyn Clock>) -> Self {
        let begun = Instant::now();
        let (alive, alone, count, has_no_room) = (0.into(), 0.into(), 0.into(), false.into());
        let pulse = Self { begun, clock, alive, alone, lease, count, has_no_room };
        pulse.alive.store(pulse.until(pulse.age()), Ordering::Release);
        pulse.alone.store(pulse.until(pulse.age()), Ordering::Release);
        pulse
    }

    /// How long it has been there, in milliseconds. Only grows.
    fn age(&self) -> u64 {
        let age = self.begun.elapsed() + self.clock.leapt();
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    /// Until when what was sent or asked at that age does: long before another process may take over, whose clock may run
    /// a little faster than ours.
    fn until(&self, age: u64) -> u64 {
        let span = self.lease.mul_f64(0.6).as_millis();
        age.saturating_add(u64::try_from(span).unwrap_or(u64::MAX))
    }

    fn is_alive(&self) -> bool {
        self.age() < self.alive.load(Ordering::Acquire)
    }

    fn is_fresh(&self) -> bool {
        self.is_alive() && self.age() < self.alone.load(Ordering::Acquire)
    }

    /// Some signs of life in each lease, for ever.
    async fn keep_beating(&self, objects: &Objects, epoch: u64, signals: &Signals) -> Infallible {
        loop {
            tokio::time::sleep(self.lease / 5).await;
            self.beat(objects, epoch, signals).await;
        }
    }

    /// Looks whether somebody takes over: `true` if so.
    async fn look(&self, objects: &Objects, epoch: u64) -> bool {
        let (asked, is_alive) = (self.age(), self.is_alive());
        match objects.get(&epoch_name(epoch + 1), ACTION).await {
            Ok(None) if is_alive => self.alone.store(self.until(asked), Ordering::Release),
            Ok(None) | Err(_) => {}
            Ok(Some(_)) => {
                self.alone.store(0, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// Gives a sign of life.
    async fn beat(&self, objects: &Objects, epoch: u64, signals: &Signals) {
        objects.turn(&beat_name(epoch)).await;
        let (sent, was_alive) = (self.age(), self.is_alive());
        let beat = Beat {
            count: self.count.fetch_add(1, Ordering::Relaxed) + 1,
            work: signals.changes(Interest::Work).0,
            ends: signals.changes(Interest::Ends).0,
            gone: false,
            lease: self.lease,
        };
        let arrived = objects.replace(&beat_name(epoch), beat.write().into(), ACTION).await;
        if arrived.is_ok() {
            if !was_alive {
                self.alone.store(0, Ordering::Release); // somebody may have taken over meanwhile
            }
            self.alive.store(self.until(sent), Ordering::Release);
        }
        let has_no_room = arrived.is_err_and(|error| error.kind() == ErrorKind::Full);
        self.has_no_room.store(has_no_room, Ordering::Release);
    }
}

/// Lets looks pass as long as nobody can have taken over.
#[derive(Debug)]
struct Watch {
    pulse: Arc<Pulse>,
    objects: Objects,
    epoch: u64,
}

#[async_trait]
impl Gate for Watch {
    /// A full bucket takes no signs of life, but it can be read: whoever takes over leaves something there, before anything
    /// else. One that does not answer is not asked, for that would take long.
    async fn opens(&self) -> bool {
        if self.pulse.is_fresh() {
            return true;
        }
        self.pulse.has_no_room.load(Ordering::Acquire)
            && matches!(self.objects.get(&epoch_name(self.epoch + 1), ACTION).await, Ok(None))
    }
}

/// Gives signs of life until another process has taken over: some in each lease, and one when something has changed.
async fn live(objects: &Objects, epoch: u64, pulse: &Pulse, signals: &Signals, poll: Duration) {
    let period = pulse.lease / 5;
    let (mut work, mut ends) =
        (signals.subscribe(Interest::Work), signals.subscribe(Interest::Ends));
    let mut left = period;
    loop {
        let waited = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            _ = work.changed() => {}
            _ = ends.changed() => {}
        }
        // What changes at once is told at once.
        tokio::time::sleep(poll).await;
        work.mark_unchanged();
        ends.mark_unchanged();
        pulse.beat(objects, epoch, signals).await;
        left = left.saturating_sub(waited.elapsed());
        if (left.is_zero() || !pulse.is_fresh()) && pulse.look(objects, epoch).await {
            return;
        }
        if left.is_zero() {
            left = period;
        }
    }
}

/// Deletes what others have left, for ever. Beside the signs of life, which no slow list may delay.
async fn tidy(objects: &Objects, epoch: u64, lease: Duration) -> Infallible {
    let mut seen = HashMap::new();
    loop {
        tokio::time::sleep(lease / 5).await;
        inbox::tidy(objects, &mut seen, lease * 20).await;
        // Epochs stay: by them a process that was stopped for long finds out that it is the owner no more.
        let _ = objects.delete(&beat_name(epoch.saturating_sub(3)), ACTION).await; // or next time
    }
}

/// Is a guest until the store is closed and all is answered, or the owner has given no sign of life for a lease, or has
/// gone. Returns which owner is no more.
async fn visit(keeper: &mut Keeper, objects: &Objects, epoch: u64) -> Result<Before> {
    let (calls, to_send) = mpsc::channel(QUEUE);
    let (config, signals) = (keeper.config.clone(), Arc::clone(&keeper.signals));
    // On its own: what is in the bucket when the owner dies is answered by whoever comes after it.
    let mut pumping = tokio::spawn(inbox::pump(objects.clone(), to_send, config.poll));
    let watched = watch(objects, epoch, &signals, config.lease, config.poll);
    tokio::pin!(watched);
    if !keeper.has_opened() {
        // Who opens the store is to find somebody who answers, and an owner that has just died is still one for a lease.
        let now = Request::Query(Query::Now);
        let greeted = async {
            // Who cannot ask, because there is no room for a question, reads what is there.
            while !matches!(
                ask_guest(&calls, &now, config.patience).await,
                Ok(_) | Err(Fault::Full(_))
            ) {
                tokio::time::sleep(config.poll).await;
            }
        };
        tokio::select! {
            () = greeted => {}
            over = &mut watched => return Ok(over),
            () = keeper.closed() => return Ok(Before { epoch, beat: None }),
        }
    }
    keeper.sit(Seat::Guest(calls));
    let closed = async {
        keeper.closed().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    let over = tokio::select! {
        over = &mut watched => over,
        // Only when it is being closed, and all is answered.
        _ = &mut pumping => Before { epoch, beat: None },
        () = closed => Before { epoch, beat: None },
    };
    keeper.sit(Seat::Vacant);
    Ok(over)
}

/// Watches the owner's signs of life; returns which owner has gone or died. How long it may be silent is
/// what it said itself, `lease` if it has not said anything yet.
async fn watch(
    objects: &Objects,
    mut epoch: u64,
    signals: &Signals,
    lease: Duration,
    poll: Duration,
) -> Before {
    let (mut last, mut silence) = (None::<Beat>, Silence::default());
    loop {
        match beat_of(objects, epoch).await {
            Ok(Some(beat)) if beat.gone => return Before { epoch, beat: None },
            Ok(beat) if beat != last => {
                silence = Silence::from(Instant::now());
                tell(signals, last, beat);
                last = beat;
            }
            Ok(_) => silence.goes_on(Instant::now()),
            Err(_) => silence.pauses(),
        }
        let lease = last.map_or(lease, |beat| beat.lease);
        if silence.span > lease {
            return Before { epoch, beat: last };
        }
        if matches!(objects.get(&epoch_name(epoch + 1), ACTION).await, Ok(Some(_))) {
            (epoch, last, silence) = (epoch + 1, None, Silence::default());
        }
        tokio::time::sleep((lease / 10).min(Duration::from_secs(1)).max(poll)).await;
    }
}

/// For how long an owner has given no sign of life, as far as it could have been seen: a bucket that does not answer tells
/// nothing about the owner, which cannot reach it either.
#[derive(Debug, Default)]
struct Silence {
    span: Duration,
    /// When the bucket answered last, if it has answered ever since.
    seen: Option<Instant>,
}

impl Silence {
    fn from(now: Instant) -> Self {
        Self { span: Duration::ZERO, seen: Some(now) }
    }

    fn goes_on(&mut self, now: Instant) {
        self.span += self.seen.replace(now).map_or(Duration::ZERO, |before| now - before);
    }

    fn pauses(&mut self) {
        self.seen = None;
    }
}

fn tell(signals: &Signals, before: Option<Beat>, now: Option<Beat>) {
    let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
    if before.work != now.work {
        signals.bump(Interest::Work);
    }
    if before.ends != now.ends {
        signals.bump(Interest::Ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::failing::Failing;
    use crate::object::{Config, ObjectTasks};
    use crate::{ManualClock, TaskStore as _};

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_not_answered_delays_no_sign_of_life() {
        let (place, objects) = Failing::place();
        place.hangs.store(true, Ordering::Relaxed);
        let clock = ManualClock::new(omniq_model::Timestamp::from_millis(0));
        let (lease, poll) = (Duration::from_secs(15), Duration::from_millis(100));
        let (pulse, signals) = (Pulse::new(lease, Arc::new(clock)), Signals::default());
        let lives = live(&objects, 1, &pulse, &signals, poll);
        assert!(tokio::time::timeout(lease * 10, lives).await.is_err(), "nobody took over");
        let count = pulse.count.load(Ordering::Relaxed);
        assert!(count >= 40, "only {count} signs of life in ten leases");
        assert!(pulse.is_fresh());
    }

    /// Each writes a quarter of what an image is due after. If only its own counted, the log would grow for ever.
    #[tokio::test]
    async fn owners_that_each_write_little_take_images_together() {
        let (_, objects) = Failing::place();
        let lane = omniq_model::Lane::default();
        for turn in 0..20 {
            let poll = Duration::from_millis(2);
            let config = Config { image_every: 100, poll, ..Config::new(objects.root.clone()) };
            let store = ObjectTasks::open(config).await.unwrap();
            store.pause(&lane, turn % 2 == 0).await.unwrap();
            store.close().await.unwrap();
        }
        let images = objects.list("tasks/image", ACTION).await.unwrap();
        let entries = objects.list_sized("tasks/log", ACTION).await.unwrap();
        let commands = entries.iter().map(|(_, size)| *size).filter(|size| *size != 71).count();
        assert_eq!(images.len(), 2);
        assert!(commands < 15, "{entries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_whose_machine_slept_says_nothing_before_it_has_given_a_sign_of_life() {
        let clock = ManualClock::new(omniq_model::Timestamp::from_millis(0));
        clock.leap(Duration::from_secs(3600)); // before it was there
        let lease = Duration::from_secs(15);
        let pulse = Pulse::new(lease, Arc::new(clock.clone()));
        assert!(pulse.is_fresh());
        tokio::time::advance(lease / 2).await;
        assert!(pulse.is_fresh());
        clock.leap(Duration::from_secs(60));
        assert!(!pulse.is_fresh());
        pulse.alive.store(pulse.until(pulse.age()), Ordering::Release);
        assert!(!pulse.is_fresh(), "somebody may have taken over");
        pulse.alone.store(pulse.until(pulse.age()), Ordering::Release);
        assert!(pulse.is_fresh());
        tokio::time::advance(lease).await;
        assert!(!pulse.is_fresh());
    }
}
