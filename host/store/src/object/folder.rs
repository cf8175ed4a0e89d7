//! The folder of a task store on this host: who may write there, what is there, and the journal that goes on with it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::image_file::{self, Busy};
use super::log_file::{self, LogFile, failed};
use super::tasks::Config;
use crate::log::{Fault, Journal, Keep, State};
use crate::{Durability, Error, Result, failpoint};

/// The file whose lock its owner holds.
const LOCK: &str = "lock";

/// The lock of a folder. It goes with the process, however that ends.
#[derive(Debug)]
#[expect(dead_code, reason = "a lock is held as long as its file is open")]
pub(super) struct Lock {
    file: File,
    /// The folder itself, where its file system can lock one: people delete lock files.
    folder: Option<File>,
}

/// The lock of that folder, unless another process has it.
pub(super) fn lock(folder: &Path) -> Result<Option<Lock>> {
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, "make", &error))?;
    let path = folder.join(LOCK);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(|error| failed(&path, "open", &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(failed(&path, "lock", &error.into())),
    }
    let itself = File::open(folder).map_err(|error| failed(folder, "open", &error))?;
    let itself = match flock(&itself, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Some(itself),
        // Its owner has locked a file that is there no more.
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(_) => None,
    };
    // For people who wonder. On a disk without any room it stays empty, and nobody needs it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Some(Lock { file, folder: itself }))
}

/// Another process that has the lock of a folder. Only its end lets anybody else have it, so people may have to see to that.
#[derive(Debug)]
pub(super) struct Owner {
    pid: u32,
    /// Somebody has stopped it, as by SIGSTOP or Ctrl-Z.
    pub is_stopped: bool,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pid, is_stopped } = self;
        if *is_stopped {
            write!(
                f,
                "process {pid}, which has it, is stopped: let it go on with `kill -CONT {pid}`"
            )?;
        } else {
            write!(f, "process {pid}, which has it, does not answer: wait for it")?;
        }
        write!(f, ", or end it with `kill -KILL {pid}`, and another one takes over")
    }
}

/// Which other process has the lock of that folder, as far as can be seen from here.
pub(super) fn owner(folder: &Path) -> Option<Owner> {
    let pid = std::fs::read_to_string(folder.join(LOCK)).ok()?.trim().parse().ok()?;
    // One of another container is under that number somebody else here, or nobody.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name stands in parentheses and may hold anything; its state comes next (proc(5)).
    let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
    let is_other = pid != std::process::id() && state != 'Z';
    is_other.then_some(Owner { pid, is_stopped: matches!(state, 'T' | 't') })
}

/// Reads all there is in a folder whose lock is held; returns the state and the journal that goes on from there.
pub(super) fn recover(folder: &Path, config: &Config) -> Result<(State, FolderJournal)> {
    let (mut images, logs) = found(folder)?;
    let is_kept = config.durability != Durability::None;
    image_file::clear(folder);
    let mut state = State::default();
    let mut image_bytes = 0;
    let (mut damaged, mut why) = (Vec::new(), None);
    while let Some(index) = images.pop() {
        match load(folder, index) {
            Ok((loaded, bytes)) => {
                if is_kept {
                    sync(&folder.join(image_file::name(index)))?;
                }
                (state, image_bytes) = (loaded, bytes);
                break;
            }
            // The one before it may do, with the log since then, which is kept for that.
            Err(error) if error.kind() == crate::ErrorKind::Corrupt => {
                damaged.push(index);
                why = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let has_image = state.applied > 0;
    let read = replay(folder, config, &mut state, &logs);
    // What the log lacks is what a damaged image held: that is the error to be told.
    let (file, since) = read.map_err(|error| why.filter(|_| !has_image).unwrap_or(error))?;
    if is_kept {
        sync(folder)?;
        if state.applied == 0 {
            // The folders above may be as new as this one; those that we may not open are older.
            folder.ancestors().skip(1).for_each(|above| drop(sync(above)));
        }
    }
    let journal = FolderJournal {
        folder: folder.to_owned(),
        file,
        since,
        damaged,
        durability: config.durability,
        reserve: config.reserve,
        every: config.image_every,
        image_bytes: Arc::new(AtomicU64::new(image_bytes)),
        busy: Arc::default(),
    };
    Ok((state, journal))
}

/// What another process wrote and did not sync, by choice or because it died, must be on the disk before anything is built
/// on it that is promised to be.
fn sync(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|file| log_file::sync(path, &file));
    synced.map_err(|error| failed(path, "sync", &error))
}

/// The images and the log files of a folder, each by its number, in order.
fn found(folder: &Path) -> Result<(Vec<u64>, Vec<u64>)> {
    let io = |error: std::io::Error| failed(folder, "list", &error);
    let (mut images, mut logs) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let Some((kind, number)) = name.to_str().and_then(|name| name.split_once('-')) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match kind {
            "image" => images.push(number),
            "log" => logs.push(number),
            _ => {}
        }
    }
    images.sort_unstable();
    logs.sort_unstable();
    Ok((images, logs))
}

fn load(folder: &Path, index: u64) -> Result<(State, u64)> {
    let path = folder.join(image_file::name(index));
    let bytes = std::fs::read(&path).map_err(|error| failed(&path, "read", &error))?;
    let place = format!("`{}`", path.display());
    let image = image_file::open(&place, index, &bytes)?;
    let state = State::restore(image)
        .map_err(|error| Error::Corrupt { place: place.clone(), reason: error.reason })?;
    if state.applied != index {
        return Err(Error::Corrupt { place, reason: "it is of another entry".into() });
    }
    Ok((state, bytes.len() as u64))
}

/// Applies the log from where the state is. Returns the file to go on with, and how many bytes of log were read.
fn replay(
    folder: &Path,
    config: &Config,
    state: &mut State,
    logs: &[u64],
) -> Result<(LogFile, u64)> {
    let place = || format!("`{}`", folder.display());
    if logs.is_empty() && state.applied > 0 {
        return Err(Error::Corrupt { place: place(), reason: "its log is missing".into() });
    }
    let (mut read, mut last) = (0, None);
    // From the last file on that begins at or before the next entry.
    let start = logs.partition_point(|first| *first <= state.applied + 1).saturating_sub(1);
    for first in &logs[start..] {
        let next = state.applied + 1;
        if *first > next {
            let reason = format!("the log lacks entry {next}");
            return Err(Error::Corrupt { place: place(), reason });
        }
        let path = folder.join(log_file::name(*first));
        let scan = log_file::scan(&path, *first, |index, entry| match index <= state.applied {
            true => Ok(()),
            false => state.replay(entry).map_err(|error| Error::Corrupt {
                place: format!("`{}`", path.display()),
                reason: format!("entry {index}: {}", error.reason),
            }),
        })?;
        let begins = matches!(&scan, Some(scan) if scan.torn == 0);
        if !begins && Some(first) != logs.last() {
            let reason = "it is not readable to its end, and others follow".into();
            return Err(Error::Corrupt { place: format!("`{}`", path.display()), reason });
        }
        let is_synced = scan.as_ref().is_none_or(|scan| scan.synced);
        if config.durability != Durability::None && !is_synced {
            sync(&path)?;
        }
        read += scan.as_ref().map_or(0, |scan| scan.end);
        last = scan.map(|scan| (path, scan));
    }
    Ok((go_on(folder, config, state.applied + 1, last)?, read))
}

/// The file that takes the next entry: the last one there is, or a new one.
fn go_on(
    folder: &Path,
    config: &Config,
    next: u64,
    last: Option<(PathBuf, log_file::Scan)>,
) -> Result<LogFile> {
    let synced = config.durability == Durability::Disk;
    if let Some((path, scan)) = last {
        let file = LogFile::resume(path, scan.end, config.durability)?;
        // A file is judged by one promise; and one without entries may stem from an attempt that failed.
        if scan.synced == synced && scan.next == next {
            return Ok(file);
        }
    }
    LogFile::create(folder, next, config.durability)
}

/// The journal in a folder.
#[derive(Debug)]
pub(super) struct FolderJournal {
    folder: PathBuf,
    file: LogFile,
    /// Bytes of log since the last image.
    since: u64,
    /// Images that cannot be read: the next one replaces them.
    damaged: Vec<u64>,
    durability: Durability,
    reserve: u64,
    every: u64,
    /// How large the last image is.
    image_bytes: Arc<AtomicU64>,
    /// Whether an image is being written.
    busy: Arc<AtomicBool>,
}

impl Journal for FolderJournal {
    fn append(&mut self, index: u64, entry: &[u8]) -> Result<(), Fault> {
        self.file.append(index, entry)?;
        self.since += entry.len() as u64;
        Ok(())
    }

    fn lacking(&self) -> Option<String> {
        lacking(&self.folder, self.reserve)
    }

    /// An image is due when starting without it would take longer than with it: when the log since the last one is larger
    /// than that image. So images cost as much as the log at most, and the disk holds a few times what the state takes.
    fn cut(&mut self, index: u64) -> Result<Option<Keep>, Fault> {
        let due = self.every.max(self.image_bytes.load(Ordering::Relaxed));
        if self.since < due {
            return Ok(None);
        }
        let Some(busy) = Busy::begin(&self.busy) else { return Ok(None) };
        let is_kept = self.durability != Durability::None;
        // A file that others follow must be whole: what a power cut took from its end, they would lack.
        if is_kept {
            self.file.seal()?;
        }
        match LogFile::create(&self.folder, index + 1, self.durability) {
            Ok(file) => self.file = file,
            // Room may be there again later; until then the present file goes on.
            Err(_) => return Ok(None),
        }
        self.since = 0;
        let (folder, damaged) = (self.folder.clone(), self.damaged.clone());
        let size = Arc::clone(&self.image_bytes);
        Ok(Some(Box::new(move |image| {
            let _busy = busy;
            failpoint::hit("file.image.before_write");
            // Without it the log goes on being kept, and the next image is tried in time.
            match image_file::save(&folder, index, &image, is_kept) {
                Ok(()) => {
                    size.store(image.len() as u64, Ordering::Relaxed);
                    failpoint::hit("file.image.before_prune");
                    // Of that number it was written anew.
                    let damaged = damaged.into_iter().filter(|damaged| *damaged != index);
                    damaged.for_each(|index| remove_image(&folder, index));
                    prune(&folder);
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(
                        error,
                        "an image could not be kept; the log grows until one can be"
                    );
                }
            }
        })))
    }
}

/// Deletes images but the two newest, and the log in front of the older of these. What cannot be deleted is next time.
fn prune(folder: &Path) {
    let Ok((images, logs)) = found(folder) else { return };
    let [older_ones @ .., kept, _] = images.as_slice() else { return };
    older_ones.iter().for_each(|index| remove_image(folder, *index));
    // A file is needed if an entry after `kept` is in it: if the next file begins later than that.
    for pair in logs.windows(2).filter(|pair| pair[1] <= kept + 1) {
        let _ = std::fs::remove_file(folder.join(log_file::name(pair[0])));
    }
}

fn remove_image(folder: &Path, index: u64) {
    let _ = std::fs::remove_file(folder.join(image_file::name(index))); // or next time
}

/// Why no more is to be written, if the disk has less than `reserve` bytes left.
fn lacking(folder: &Path, reserve: u64) -> Option<String> {
    // A folder that cannot be asked does not stop anybody: the write itself will tell.
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < reserve).then(|| {
        format!(
            "`{}`: {} MiB are free on its disk, and {} MiB are kept for tasks to end",
            folder.display(),
            free >> 20,
            reserve >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use omniq_model::{Lane, Timestamp};

    use super::log_file::synced;
    use super::*;
    use crate::log::wire::Out;
    use crate::log::{Command, Entry};
    use crate::object::Root;

    /// An owner of a folder, by what it does with it.
    struct Journaled {
        state: State,
        journal: FolderJournal,
    }

    impl Journaled {
        /// Every entry makes an image due.
        fn open(folder: &Path, durability: Durability) -> Result<Self> {
            let root = Root::folder(folder, durability)?;
            let config = Config { durability, image_every: 1, ..Config::new(root) };
            let (state, journal) = recover(folder, &config)?;
            Ok(Self { state, journal })
        }

        /// Appends an entry; its number.
        fn append(&mut self) -> u64 {
            let mut command = Out::default();
            Command::Pause(Lane::default(), true).write(&mut command);
            let mut entry = Entry::new(Timestamp::from_millis(0), 0);
            entry.add(&command.into_bytes());
            let entry = entry.into_bytes();
            self.journal.append(self.state.applied + 1, &entry).unwrap();
            self.state.replay(&entry).unwrap();
            self.state.applied
        }

        fn cut(&mut self) -> Keep {
            self.journal.image_bytes.store(0, Ordering::Relaxed);
            self.journal.cut(self.state.applied).unwrap().expect("it is due")
        }

        /// The image of the state as it is, and what an engine writes around it.
        fn image(&self) -> Vec<u8> {
            let mut out = Out::default();
            out.number(self.state.applied);
            out.instant(self.state.now);
            self.state.core.image().write(&mut out);
            out.into_bytes()
        }

        /// Appends an entry and keeps the image after it.
        fn append_and_image(&mut self) -> u64 {
            let index = self.append();
            let keep = self.cut();
            keep(self.image());
            index
        }
    }

    fn damage(folder: &Path, index: u64) {
        std::fs::write(folder.join(image_file::name(index)), b"x").unwrap();
    }

    /// The one that was damaged is none of the two that stay.
    #[test]
    fn one_image_after_the_other_may_be_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journaled::open(folder.path(), Durability::Os).unwrap();
        let mut owner = open();
        let first = owner.append_and_image();
        let mut last = owner.append_and_image();
        for _ in 0..3 {
            damage(folder.path(), last);
            let mut owner = open();
            assert_eq!(owner.state.applied, last);
            last = owner.append_and_image();
            assert_eq!(found(folder.path()).unwrap().0, [first, last]);
        }
        let mut owner = open();
        let next = owner.append_and_image();
        assert_eq!(found(folder.path()).unwrap().0, [last, next]);
    }

    /// A file of the log is on the disk before the next one is begun, and an image before what it replaces is deleted: else
    /// a power cut would leave a log with a gap, which nobody can open.
    #[test]
    fn what_goes_on_from_something_comes_after_it_is_on_the_disk() {
        let (here, image) =
            ("tasks".to_owned(), |index| format!("{}.draft", image_file::name(index)));
        for (durability, is_synced) in
            [(Durability::Disk, true), (Durability::Os, true), (Durability::None, false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().join(&here);
            std::fs::create_dir(&folder).unwrap();
            let mut owner = Journaled::open(&folder, durability).unwrap();
            owner.append();
            let last = owner.append();
            synced::since();
            let keep = owner.cut();
            let (old, new) = (log_file::name(1), log_file::name(last + 1));
            let steps: [Vec<String>; 2] = match is_synced {
                true => [vec![old, new, here.clone()], vec![image(last), here.clone()]],
                false => Default::default(),
            };
            assert_eq!(synced::since(), steps[0], "{durability:?}: the log");
            keep(owner.image());
            assert_eq!(synced::since(), steps[1], "{durability:?}: the image");
        }
    }

    /// What a process that died had not synced is, before another one builds on it.
    #[test]
    fn what_is_found_is_on_the_disk_before_anything_is_built_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut owner = Journaled::open(folder.path(), Durability::None).unwrap();
        owner.append();
        drop(owner.cut());
        let index = owner.append();
        owner.append_and_image();
        drop(owner);
        damage(folder.path(), index + 1);
        synced::since();
        Journaled::open(folder.path(), Durability::Os).unwrap();
        let synced = synced::since();
        for file in [log_file::name(1), log_file::name(2), log_file::name(index + 2)] {
            assert!(synced.contains(&file), "{file} of {synced:?}");
        }
    }
}
