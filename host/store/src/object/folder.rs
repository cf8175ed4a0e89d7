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
    image_file::clear(folder);
    let mut state = State::default();
    let mut image_bytes = 0;
    let mut damaged = None;
    while let Some(index) = images.pop() {
        match load(folder, index) {
            Ok((loaded, bytes)) => {
                if config.durability == Durability::Disk {
                    sync(&folder.join(image_file::name(index)))?;
                }
                (state, image_bytes) = (loaded, bytes);
                break;
            }
            // The one before it may do, with the log since then, which is kept for that.
            Err(error) if error.kind() == crate::ErrorKind::Corrupt => damaged = Some(error),
            Err(error) => return Err(error),
        }
    }
    let has_image = state.applied > 0;
    let read = replay(folder, config, &mut state, &logs);
    // What the log lacks is what a damaged image held: that is the error to be told.
    let (file, since) = read.map_err(|error| damaged.filter(|_| !has_image).unwrap_or(error))?;
    if config.durability == Durability::Disk {
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
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| failed(path, "sync", &error))
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
        if config.durability == Durability::Disk && scan.as_ref().is_some_and(|scan| !scan.synced) {
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
    /// Bytes of log since the last image, without the present file.
    since: u64,
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
        match LogFile::create(&self.folder, index + 1, self.durability) {
            Ok(file) => self.file = file,
            // Room may be there again later; until then the present file goes on.
            Err(_) => return Ok(None),
        }
        self.since = 0;
        let (folder, sync) = (self.folder.clone(), self.durability == Durability::Disk);
        let size = Arc::clone(&self.image_bytes);
        Ok(Some(Box::new(move |image| {
            let _busy = busy;
            failpoint::hit("file.image.before_write");
            // Without it the log goes on being kept, and the next image is tried in time.
            match image_file::save(&folder, index, &image, sync) {
                Ok(()) => {
                    size.store(image.len() as u64, Ordering::Relaxed);
                    failpoint::hit("file.image.before_prune");
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
    for index in older_ones {
        let _ = std::fs::remove_file(folder.join(image_file::name(*index)));
    }
    // A file is needed if an entry after `kept` is in it: if the next file begins later than that.
    for pair in logs.windows(2).filter(|pair| pair[1] <= kept + 1) {
        let _ = std::fs::remove_file(folder.join(log_file::name(pair[0])));
    }
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
