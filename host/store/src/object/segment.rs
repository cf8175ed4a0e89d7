//! The log of a bucket: one object for each entry, each created once under its number.
//!
//! The number is what keeps a second owner out: of two who create an entry of the same number one fails, and the one that
//! fails is the owner no more. So a new owner's first act is an entry of its own behind the last one there is, a fence: the
//! next thing the owner before it can write. Fences stay when an image replaces the log, so that however late that one
//! comes back, the number is taken. Nobody deletes a fence, its own neither: it cannot know who went on from it. Every object names its owner, so that one whose answer was lost is known again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use omniq_model::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::image_file::{self, Busy};
use super::objects::{Objects, WIDTH, random};
use crate::log::wire::{In, Out};
use crate::log::{Entry, Fault, Journal, Keep, State};
use crate::{Error, ErrorKind, Result, failpoint};

const MAGIC: [u8; 8] = *b"OMNIQSEG";
const FORMAT: u32 = 1;
/// Entries after which an image is due: each is a request at the next start.
const ENTRIES: u64 = 1000;
/// How long an entry is tried again when the store is being closed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long nothing new is tried after an entry that had no room.
const REFUSING: Duration = Duration::from_secs(1);
/// How often an entry is asked for before a takeover is given up.
const TRIES: u32 = 8;
const HEAD: &str = "tasks/head";
/// Bytes of what surrounds an entry: see [`seal`].
const BODY: usize = 8 + 4 + 10 + 8;
/// Bytes of a fence: the entry is its format and its instant.
const FENCE: u64 = BODY as u64 + 1 + 8 + 32;

fn name(index: u64) -> String {
    format!("tasks/log/{index:020}")
}

fn image_name(index: u64) -> String {
    format!("tasks/image/{index:020}")
}

/// Who wrote an entry: random, made when the owner took over.
pub(super) type Owner = [u8; 10];

fn seal(owner: &Owner, index: u64, entry: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + entry.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(owner);
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(entry);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// What a new owner puts behind the log: an entry without commands, the only one that is so short.
fn fence(owner: &Owner, index: u64, now: Timestamp) -> (Vec<u8>, Bytes) {
    let entry = Entry::new(now, 0).into_bytes();
    let sealed = seal(owner, index, &entry);
    debug_assert_eq!(sealed.len() as u64, FENCE);
    (entry, sealed.into())
}

/// The entry in an object.
fn open<'a>(place: &str, index: u64, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let damaged =
        |reason: &str| Error::Corrupt { place: place.to_owned(), reason: reason.to_owned() };
    let split = bytes.split_at_checked(bytes.len().saturating_sub(32));
    let Some((body, hash)) = split.filter(|(body, _)| body.len() >= BODY && body[..8] == MAGIC)
    else {
        return Err(damaged("it is no entry of a log"));
    };
    if blake3::hash(body).as_bytes()[..] != *hash {
        return Err(damaged("it is not as it was written"));
    }
    let found = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
    if found != FORMAT {
        return Err(Error::Schema {
            place: place.to_owned(),
            found,
            oldest: FORMAT,
            newest: FORMAT,
            next: "install the omniq that wrote it, or a newer one",
        });
    }
    if body[22..BODY] != index.to_le_bytes() {
        return Err(damaged("it is another entry than its name says"));
    }
    Ok(&body[BODY..])
}

/// What there is in a bucket.
#[derive(Debug)]
pub(super) struct All {
    pub state: State,
    /// How large the image is that it began with.
    pub image_bytes: u64,
    /// Bytes and entries of the log behind that image.
    pub since: (u64, u64),
    /// The images that could not be read, the newest first.
    pub damaged: Vec<u64>,
}

impl All {
    /// Applies the next entry.
    fn replay(&mut self, objects: &Objects, entry: &[u8]) -> Result<()> {
        let place = format!("{}/{}", objects.root.shown, name(self.state.applied + 1));
        self.state.replay(entry).map_err(|error| Error::Corrupt { place, reason: error.reason })?;
        self.since.0 += entry.len() as u64;
        self.since.1 += 1;
        Ok(())
    }
}

/// Reads all there is, and puts an entry of this owner behind it. From then on nobody else's entry can follow.
pub(super) async fn take_over(objects: &Objects, owner: &Owner) -> Result<All> {
    const ACTION: &str = "take the tasks over";
    // Each turn somebody else was faster.
    loop {
        let mut all = read_all(objects).await?;
        let slot = all.state.applied + 1;
        let (entry, sealed) = fence(owner, slot, all.state.now);
        failpoint::hit("object.take_over.before_fence");
        if !objects.create(&name(slot), sealed.clone(), ACTION).await? {
            match objects.get(&name(slot), ACTION).await? {
                Some(there) if there == sealed => {}
                Some(_) => continue,
                None => {
                    let why = format!("{} is said to be there, and is not", name(slot));
                    return Err(Error::unavailable(super::objects::NAME, ACTION, why));
                }
            }
        }
        if imaged(objects).await? >= slot {
            // The log went on long ago. The entry stays all the same: it may be one that those went on from who came
            // later, and keep an owner out that was before all of them. If this part had been thrown away it is nothing.
            continue;
        }
        all.replay(objects, &entry)?;
        return Ok(all);
    }
}

/// Reads all there is: what was committed before this was called, and maybe more.
pub(super) async fn read_all(objects: &Objects) -> Result<All> {
    // Each turn somebody threw away what was being read.
    loop {
        let (mut all, damaged) = newest_image(objects).await?;
        replay(objects, &mut all).await?;
        let next = all.state.applied + 1;
        let gap = gap(objects, next).await?;
        // Asked last: what was thrown away while it was looked for is no gap.
        let imaged = imaged(objects).await?;
        if imaged >= next {
            match damaged {
                // What the log lacks is what that one held, and there is no newer one.
                Some((index, error)) if index == imaged => return Err(error),
                _ => continue,
            }
        }
        match gap {
            Gap::None => return Ok(all),
            Gap::Filled => {}
            Gap::Before(later) => {
                let place = format!("{}/{}", objects.root.shown, name(next));
                let reason = format!("it is missing, and entry {later} is there");
                return Err(Error::Corrupt { place, reason });
            }
        }
    }
}

/// Whether the log goes on behind an entry that was not there.
enum Gap {
    None,
    /// It is there now.
    Filled,
    /// It is not there although this one is.
    Before(u64),
}

/// Looks whether the entry `next` is missing. Nobody writes one before the one in front of it is there: so one that is
/// not there after a later one was seen is gone.
async fn gap(objects: &Objects, next: u64) -> Result<Gap> {
    let names = objects.list("tasks/log", "look for the end of the log").await?;
    let number = |name: &String| name.rsplit('/').next()?.parse::<u64>().ok();
    let Some(later) = names.iter().filter_map(number).find(|number| *number > next) else {
        return Ok(Gap::None);
    };
    let there = read(objects, next).await?;
    Ok(if there.is_some() { Gap::Filled } else { Gap::Before(later) })
}

/// The number of the newest image, as far as can be told: entries up to it may be gone.
async fn imaged(objects: &Objects) -> Result<u64> {
    let head = head(objects, "look for images").await?;
    Ok(images(objects).await?.last().copied().unwrap_or(0).max(head))
}

/// The number of the newest image, as its owner wrote it down.
async fn head(objects: &Objects, action: &'static str) -> Result<u64> {
    let head = objects.get(HEAD, action).await?;
    Ok(head.and_then(|bytes| In::new(&bytes).number().ok()).unwrap_or(0))
}

async fn images(objects: &Objects) -> Result<Vec<u64>> {
    let names = objects.list("tasks/image", "list images").await?;
    let number = |name: &String| name.rsplit('/').next()?.parse().ok();
    Ok(names.iter().filter_map(number).collect())
}

/// What the newest image holds that can be read; and the newest one that cannot, where that is newer, and why.
async fn newest_image(objects: &Objects) -> Result<(All, Option<(u64, Error)>)> {
    const ACTION: &str = "read an image";
    let head = imaged(objects).await?;
    let mut all =
        All { state: State::default(), image_bytes: 0, since: (0, 0), damaged: Vec::new() };
    let mut why = None;
    for index in images(objects).await?.into_iter().rev() {
        let Some(bytes) = objects.get(&image_name(index), ACTION).await? else { continue };
        let place = format!("{}/{}", objects.root.shown, image_name(index));
        let state = image_file::open(&place, index, &bytes).and_then(|image| {
            State::restore(image).map_err(|error| Error::Corrupt { place, reason: error.reason })
        });
        match state {
            Ok(state) => {
                (all.state, all.image_bytes) = (state, bytes.len() as u64);
                return Ok((all, why));
            }
            // The one before it may do, with the log since then, which is kept for that.
            Err(error @ Error::Corrupt { .. }) => {
                all.damaged.push(index);
                why = why.or(Some((index, error)));
            }
            Err(error) => return Err(error),
        }
    }
    match why {
        Some((_, error)) => Err(error),
        None if head > 0 => Err(Error::unavailable(
            super::objects::NAME,
            ACTION,
            format!("{}: there must be an image, and it is not listed yet", objects.root.shown),
        )),
        None => Ok((all, None)),
    }
}

/// Applies all entries behind where the state is.
async fn replay(objects: &Objects, all: &mut All) -> Result<()> {
    let from = all.state.applied + 1;
    let mut entries = stream::iter(from..)
        .map(|index| async move { (index, read(objects, index).await) })
        .buffered(WIDTH);
    while let Some((index, bytes)) = entries.next().await {
        let Some(bytes) = bytes? else { break };
        let place = format!("{}/{}", objects.root.shown, name(index));
        all.replay(objects, open(&place, index, &bytes)?)?;
    }
    Ok(())
}

/// Reads an entry. A log may be a thousand objects, so that one that is not answered at once must not undo the others.
async fn read(objects: &Objects, index: u64) -> Result<Option<Bytes>> {
    let mut pause = Duration::from_millis(20);
    for _ in 1..TRIES {
        match objects.get(&name(index), "read the log").await {
            Err(Error::Unavailable { .. }) => tokio::time::sleep(jittered(pause)).await,
            answered => return answered,
        }
        pause *= 2;
    }
    objects.get(&name(index), "read the log").await
}

/// The journal in a bucket.
pub(super) struct BucketJournal {
    pub objects: Objects,
    pub owner: Owner,
    /// Where requests run.
    pub handle: Handle,
    pub closing: watch::Receiver<bool>,
    /// Bytes and entries of log since the last image, whoever wrote them.
    pub since: (u64, u64),
    /// Images that cannot be read: the next one replaces them.
    pub damaged: Vec<u64>,
    pub every: u64,
    /// How large the last image is.
    pub image_bytes: Arc<AtomicU64>,
    /// Whether an image is being written.
    pub busy: Arc<AtomicBool>,
    /// What had no room in the bucket at last.
    pub full: Option<Full>,
}

/// An entry that had no room.
pub(super) struct Full {
    at: Instant,
    bytes: usize,
    reason: String,
}

impl Journal for BucketJournal {
    fn append(&mut self, index: u64, entry: &[u8]) -> Result<(), Fault> {
        // The parts of one that had no room are tried if they are much smaller, and each try takes long.
        if let Some(full) = self.full().filter(|full| entry.len() > full.bytes / 2) {
            return Err(Fault::Full(full.reason.clone()));
        }
        let sealed = Bytes::from(seal(&self.owner, index, entry));
        failpoint::hit("object.append.before_put");
        let kept = self.handle.block_on(append(&self.objects, index, sealed, &self.closing));
        if let Err(Fault::Full(reason)) = &kept {
            let (at, bytes, reason) = (Instant::now(), entry.len(), reason.clone());
            self.full = Some(Full { at, bytes, reason });
        }
        kept?;
        failpoint::hit("object.append.after_put");
        self.since.0 += entry.len() as u64;
        self.since.1 += 1;
        Ok(())
    }

    fn lacking(&self) -> Option<String> {
        self.full().map(|full| full.reason.clone())
    }

    fn cut(&mut self, index: u64) -> Result<Option<Keep>, Fault> {
        let due = self.every.max(self.image_bytes.load(Ordering::Relaxed));
        let is_due = self.since.0 >= due || self.since.1 >= ENTRIES;
        if !is_due {
            return Ok(None);
        }
        let Some(busy) = Busy::begin(&self.busy) else { return Ok(None) };
        self.since = (0, 0);
        let (objects, handle) = (self.objects.clone(), self.handle.clone());
        let damaged = self.damaged.clone();
        let size = Arc::clone(&self.image_bytes);
        Ok(Some(Box::new(move |image| {
            let _busy = busy;
            let bytes = image.len() as u64;
            // Without it the log goes on being kept, and the next image is tried in time.
            match handle.block_on(keep_image(&objects, index, &image, &damaged)) {
                Ok(()) => size.store(bytes, Ordering::Relaxed),
                Err(error) => {
                    let (store, error) = (&objects.root.shown, crate::error::chain(&error));
                    tracing::warn!(
                        store,
                        error,
                        "an image could not be kept; the log grows until one can be"
                    );
                }
            }
        })))
    }
}

impl BucketJournal {
    /// What had no room a moment ago.
    fn full(&self) -> Option<&Full> {
        self.full.as_ref().filter(|full| full.at.elapsed() < REFUSING)
    }
}

/// Tries until the entry is there, or somebody else's is, or surely has no room.
async fn append(
    objects: &Objects,
    index: u64,
    sealed: Bytes,
    closing: &watch::Receiver<bool>,
) -> Result<(), Fault> {
    const ACTION: &str = "append to the log";
    let mut closing = closing.clone();
    let given_up = async {
        let _ = closing.wait_for(|closing| *closing).await; // gone is closed
        tokio::time::sleep(FAREWELL).await;
    };
    let tries = async {
        let mut pause = Duration::from_millis(20);
        let mut may_arrive = false;
        loop {
            match objects.create(&name(index), sealed.clone(), ACTION).await {
                Ok(true) => return Ok(()),
                Err(error) if error.kind() != ErrorKind::Full => may_arrive = true,
                // It may be ours: one whose answer was lost, or that the client sent twice.
                refused => match (objects.get(&name(index), ACTION).await, refused) {
                    (Ok(Some(there)), _) if there == sealed => return Ok(()),
                    (Ok(Some(_)), _) => {
                        return Err(Fault::Lost("another process has taken the tasks over".into()));
                    }
                    (Ok(None), Err(Error::Full { reason, .. })) if !may_arrive => {
                        return Err(Fault::Full(reason));
                    }
                    (Ok(None) | Err(_), _) => {}
                },
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    };
    tokio::select! {
        done = tries => done,
        () = given_up => Err(Fault::Lost("the bucket did not answer until the store was closed".into())),
    }
}

/// Full jitter, so that those who were stopped together do not come back together.
pub(super) fn jittered(most: Duration) -> Duration {
    let roll = random().map_or(255, |bytes| bytes[0]);
    most.mul_f64(f64::from(roll) / 255.0)
}

/// Keeps an image, says so, and deletes what it makes superfluous: two images stay that are not known to be damaged, the
/// log since the older one, and all fences.
async fn keep_image(objects: &Objects, index: u64, image: &[u8], damaged: &[u64]) -> Result<()> {
    const ACTION: &str = "keep an image";
    objects.create(&image_name(index), image_file::seal(index, image).into(), ACTION).await?;
    // Somebody who took over long ago may have kept later ones.
    if head(objects, ACTION).await? < index {
        let mut head = Out::default();
        head.number(index);
        objects.replace(HEAD, head.into_bytes().into(), ACTION).await?;
    }
    failpoint::hit("object.image.before_prune");
    objects.delete_all(damaged.iter().map(|index| image_name(*index)), ACTION).await?;
    let mut images = images(objects).await?;
    images.retain(|index| !damaged.contains(index)); // a list may be old
    let [older_ones @ .., kept, _] = images.as_slice() else { return Ok(()) };
    objects.delete_all(older_ones.iter().map(|index| image_name(*index)), ACTION).await?;
    let entries = objects.list_sized("tasks/log", ACTION).await?;
    let old = entries.into_iter().filter(|(entry, size)| *entry <= name(*kept) && *size != FENCE);
    objects.delete_all(old.map(|(entry, _)| entry), ACTION).await
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use omniq_model::Lane;

    use super::*;
    use crate::log::Command;
    use crate::object::Root;
    use crate::object::failing::Failing;

    const OWNER: Owner = [7; 10];

    /// A bucket with these entries, of which none holds a command.
    async fn bucket(entries: impl IntoIterator<Item = u64>) -> Objects {
        let root = Root::of(Arc::new(InMemory::new()), Path::default(), "memory");
        let objects = Objects::new(root);
        for index in entries {
            let (_, sealed) = fence(&OWNER, index, Timestamp::from_millis(index.cast_signed()));
            assert!(objects.create(&name(index), sealed, "test").await.unwrap());
        }
        objects
    }

    /// The image after that entry.
    async fn keep(objects: &Objects, index: u64) {
        let mut out = Out::default();
        out.number(index);
        out.instant(Timestamp::from_millis(0));
        crate::core::Core::default().image().write(&mut out);
        keep_image(objects, index, &out.into_bytes(), &damaged(objects).await).await.unwrap();
    }

    async fn damaged(objects: &Objects) -> Vec<u64> {
        read_all(objects).await.map(|all| all.damaged).unwrap_or_default()
    }

    #[tokio::test]
    async fn an_entry_that_is_missing_in_front_of_others_is_damage_and_not_the_end() {
        let objects = bucket([1, 2, 3, 5, 6]).await;
        for error in [
            read_all(&objects).await.unwrap_err(),
            take_over(&objects, &[8; 10]).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.to_string();
            assert!(text.contains(&name(4)) && text.contains("entry 5 is there"), "{text}");
        }
        assert_eq!(objects.get(&name(4), "test").await.unwrap(), None, "nothing was put there");
    }

    #[tokio::test]
    async fn what_an_image_replaces_may_be_missing_and_so_may_all_behind_it() {
        for (entries, image, end) in [
            (vec![], 0, 0),
            (vec![1, 2, 3], 0, 3),
            (vec![2, 5, 6], 4, 6),
            (vec![1, 3], 4, 4),
            (vec![], 4, 4),
        ] {
            let objects = bucket(entries.clone()).await;
            if image > 0 {
                keep(&objects, image).await;
            }
            assert_eq!(read_all(&objects).await.unwrap().state.applied, end, "{entries:?} {image}");
            let all = take_over(&objects, &[8; 10]).await.unwrap();
            assert_eq!(all.state.applied, end + 1, "{entries:?} {image}");
            let behind = end + 1 - image;
            assert_eq!(all.since, (behind * 9, behind), "{entries:?} {image}");
        }
    }

    #[tokio::test]
    async fn a_damaged_image_is_told_where_the_log_does_not_stand_in_for_it() {
        for (entries, whole) in [(vec![3, 4, 5, 6], true), (vec![3, 5, 6], false)] {
            let objects = bucket(entries.clone()).await;
            keep(&objects, 2).await;
            keep(&objects, 5).await;
            objects.replace(&image_name(5), Bytes::from_static(b"x"), "test").await.unwrap();
            match read_all(&objects).await {
                Ok(all) => {
                    assert_eq!((all.state.applied, whole), (6, true));
                    assert_eq!(all.since.1, 4, "from the image that it began with");
                }
                Err(error) => {
                    assert!(!whole, "{error}");
                    assert!(error.to_string().contains(&image_name(5)), "{error}");
                }
            }
        }
    }

    /// Image 5 could not be read. It is none of the two that stay, so another one may be damaged after it.
    #[tokio::test]
    async fn an_image_that_is_known_to_be_damaged_takes_no_place_of_a_sound_one() {
        let objects = bucket([]).await;
        let mut command = Out::default();
        Command::Pause(Lane::default(), true).write(&mut command);
        let mut entry = Entry::new(Timestamp::from_millis(0), 0);
        entry.add(&command.into_bytes());
        let entry = entry.into_bytes();
        for index in 1..=8 {
            let sealed = seal(&OWNER, index, &entry);
            assert!(objects.create(&name(index), sealed.into(), "test").await.unwrap());
        }
        keep(&objects, 2).await;
        for index in [5, 7] {
            keep(&objects, index).await;
            objects.replace(&image_name(index), Bytes::from_static(b"x"), "test").await.unwrap();
            let all = read_all(&objects).await.unwrap();
            assert_eq!((all.state.applied, all.since.1, all.damaged), (8, 6, vec![index]));
        }
        keep(&objects, 8).await;
        assert_eq!(images(&objects).await.unwrap(), [2, 8]);
    }

    #[tokio::test]
    async fn a_late_image_does_not_set_back_what_is_known_of_later_ones() {
        let objects = bucket([1, 2, 3, 4, 5, 6, 7]).await;
        keep(&objects, 4).await;
        keep(&objects, 6).await;
        keep(&objects, 5).await;
        assert_eq!(head(&objects, "test").await.unwrap(), 6);
        assert_eq!(images(&objects).await.unwrap(), [5, 6]);
    }

    /// An owner hangs with entry 4 in its hand. Who takes over puts a fence there and hangs as well, and the next one goes
    /// on from that fence.
    #[tokio::test]
    async fn a_fence_that_others_have_gone_on_from_stays() {
        let (place, objects) = Failing::place();
        for index in [1, 2, 3] {
            let (_, sealed) = fence(&OWNER, index, Timestamp::from_millis(0));
            assert!(objects.create(&name(index), sealed, "test").await.unwrap());
        }
        place.hold(&name(4));
        let hanging = tokio::spawn({
            let objects = objects.clone();
            async move { take_over(&objects, &[8; 10]).await }
        });
        while objects.get(&name(4), "test").await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(take_over(&objects, &[9; 10]).await.unwrap().state.applied, 5);
        keep(&objects, 4).await;
        keep(&objects, 5).await;
        place.let_go();
        assert_eq!(hanging.await.unwrap().unwrap().state.applied, 6);
        let late = Bytes::from(seal(&OWNER, 4, b"what the first owner would acknowledge"));
        assert!(!objects.create(&name(4), late, "test").await.unwrap(), "nobody would read it");
    }

    #[tokio::test]
    async fn an_image_that_was_begun_and_not_made_is_begun_again() {
        let objects = bucket([]).await;
        let mut journal = BucketJournal {
            objects,
            owner: OWNER,
            handle: Handle::current(),
            closing: watch::channel(false).1,
            since: (0, 0),
            damaged: Vec::new(),
            every: 0,
            image_bytes: Arc::default(),
            busy: Arc::default(),
            full: None,
        };
        let begun = journal.cut(1).unwrap().expect("it is due");
        assert!(journal.cut(2).unwrap().is_none(), "one at a time");
        drop(begun); // as where its thread does not start, or panics
        assert!(journal.cut(3).unwrap().is_some());
    }
}
