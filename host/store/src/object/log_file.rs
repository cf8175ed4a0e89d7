//! The log of a folder: files that are only appended to, one entry after the other, each with its number and a hash.
//!
//! `log-NUMBER` begins with entry NUMBER and goes on until the next file does. Entries are written by one process only, who
//! holds the lock, and with [`Durability::Disk`] each is synced before the next is written. So a crash damages the last
//! entry at most, and that was not acknowledged: it is cut off. Damage in front of a good entry is something else, and is
//! refused with the byte where it begins.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::log::Fault;
use crate::{Durability, Error, Result, failpoint};

const MAGIC: [u8; 8] = *b"OMNIQLOG";
/// How files and entries are written. A file of a higher number is refused.
pub(super) const FORMAT: u32 = 1;
/// Magic, format, flags, number of the first entry, hash of all that.
const HEAD: usize = 8 + 4 + 4 + 8 + 16;
/// Length, number, check of both, hash of number and entry.
const ENTRY: usize = 4 + 8 + 4 + 16;
/// Every entry was synced before the next was written.
const SYNCED: u32 = 1;

/// The name of the file that begins with that entry.
pub(super) fn name(first: u64) -> String {
    format!("log-{first:020}")
}

/// The file that is being appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Where the next entry goes.
    end: u64,
    synced: bool,
}

impl LogFile {
    /// Begins a new file with that entry.
    pub(super) fn create(folder: &Path, first: u64, durability: Durability) -> Result<Self> {
        let path = folder.join(name(first));
        let synced = durability == Durability::Disk;
        let create = || -> std::io::Result<File> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            file.write_all(&head(first, synced))?;
            // Entries may be lost with the power, but a file that does not begin as one would be refused with all in it.
            if durability != Durability::None {
                sync(&path, &file)?;
                sync(folder, &File::open(folder)?)?;
            }
            Ok(file)
        };
        match create() {
            Ok(file) => Ok(Self { path, file, end: HEAD as u64, synced }),
            Err(error) => {
                let _ = std::fs::remove_file(&path); // whoever finds it there takes it for one that was only begun
                Err(failed(&path, "begin", &error))
            }
        }
    }

    /// Goes on with a file that was read up to `end`; what follows there is cut off.
    pub(super) fn resume(path: PathBuf, end: u64, durability: Durability) -> Result<Self> {
        let resume = || -> std::io::Result<File> {
            let file = OpenOptions::new().write(true).open(&path)?;
            if file.metadata()?.len() > end {
                file.set_len(end)?;
            }
            // What was written before this process may not have been synced by the one that wrote it.
            sync(&path, &file)?;
            Ok(file)
        };
        let file = resume().map_err(|error| failed(&path, "go on with", &error))?;
        Ok(Self { path, file, end, synced: durability == Durability::Disk })
    }

    /// Has everything in it on the disk: before another file goes on from it, and with that forbids that it ends early.
    pub(super) fn seal(&self) -> Result<(), Fault> {
        let failed =
            |error| Fault::Lost(format!("`{}` was not synced: {error}", self.path.display()));
        sync(&self.path, &self.file).map_err(failed)
    }

    /// Appends an entry; durable when it returns.
    pub(super) fn append(&mut self, index: u64, entry: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(entry.len()).map_err(|_| {
            Fault::Full(format!("one commit of {} bytes is more than an entry holds", entry.len()))
        })?;
        let mut bytes = Vec::with_capacity(ENTRY + entry.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&check(length, index).to_le_bytes());
        bytes.extend_from_slice(&hash(index, entry));
        bytes.extend_from_slice(entry);
        self.check_end()?;
        failpoint::hit("file.append.before_write");
        if let Err(error) = self.file.write_all_at(&bytes, self.end) {
            return Err(self.undo(&error));
        }
        failpoint::hit("file.append.before_sync");
        if self.synced
            && let Err(error) = self.file.sync_data()
        {
            // What the disk has now is not known, and asking again would not tell: the entry goes, and so does this owner.
            let fault = self.undo(&error);
            return Err(Fault::Lost(format!("the disk did not take an entry: {}", text(&fault))));
        }
        failpoint::hit("file.append.after_sync");
        self.check_place()?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Somebody may have put another file's bytes into this one. What is written behind them would be cut off.
    fn check_end(&self) -> Result<(), Fault> {
        let place = self.path.display();
        match self.file.metadata() {
            Ok(data) if data.len() == self.end => Ok(()),
            Ok(_) => Err(Fault::Lost(format!("`{place}` was changed by somebody else"))),
            Err(error) => Err(Fault::Lost(format!("`{place}`: {error}"))),
        }
    }

    /// The file, or its folder, may have been deleted, moved away or replaced: whoever comes next would not find the entry.
    fn check_place(&self) -> Result<(), Fault> {
        let place = self.path.display();
        let file = |data: &Metadata| (data.dev(), data.ino());
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) if file(&there) == file(&ours) => Ok(()),
            (Ok(_), Ok(_)) => Err(Fault::Lost(format!("`{place}` was replaced while it was open"))),
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                Err(Fault::Lost(format!("`{place}` was deleted while it was open")))
            }
            (Err(error), _) | (_, Err(error)) => Err(Fault::Lost(format!("`{place}`: {error}"))),
        }
    }

    /// Takes back what was written of an entry.
    fn undo(&self, error: &std::io::Error) -> Fault {
        let place = self.path.display();
        match (self.file.set_len(self.end), error.kind()) {
            (
                Ok(()),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge,
            ) => Fault::Full(format!("`{place}`: {error}")),
            _ => Fault::Lost(format!("`{place}`: {error}")),
        }
    }
}

/// Has all of a file, or of a folder's names, on the disk.
pub(super) fn sync(path: &Path, file: &File) -> std::io::Result<()> {
    #[cfg(test)]
    synced::note(path);
    #[cfg(not(test))]
    let _ = path;
    file.sync_all()
}

/// What was synced by a thread, for tests: no test can cut the power.
#[cfg(test)]
pub(super) mod synced {
    use std::cell::RefCell;
    use std::path::Path;

    thread_local! {
        static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    pub fn note(path: &Path) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        NAMES.with_borrow_mut(|names| names.push(name.to_owned()));
    }

    /// The names of what was synced since this was asked before, in that order.
    pub fn since() -> Vec<String> {
        NAMES.take()
    }
}

fn text(fault: &Fault) -> &str {
    match fault {
        Fault::Full(reason) | Fault::Lost(reason) | Fault::Large(reason) => reason,
        Fault::Closed => "it is closed",
    }
}

/// What became of reading a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the next entry goes.
    pub end: u64,
    /// The number of the next entry.
    pub next: u64,
    /// How many bytes follow there that are no whole entry.
    pub torn: u64,
    /// Whether every entry was synced before the next.
    pub synced: bool,
}

/// Reads the entries of a file in order. `None`: the file ends within its first bytes, which were never synced.
pub(super) fn scan(
    path: &Path,
    first: u64,
    mut entry: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<Option<Scan>> {
    let io = |error: std::io::Error| failed(path, "read", &error);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut file = BufReader::with_capacity(1 << 20, file);
    let Some(synced) = read_head(path, &mut file, length, first)? else { return Ok(None) };
    let (mut end, mut index) = (HEAD as u64, first);
    let mut bytes = Vec::new();
    while read_entry(&mut file, length - end, index, &mut bytes).map_err(io)? {
        entry(index, &bytes)?;
        end += (ENTRY + bytes.len()) as u64;
        index += 1;
    }
    let torn = length - end;
    if torn > 0 && synced {
        refuse_damage(path, file.into_inner(), end, length, index)?;
    }
    Ok(Some(Scan { end, next: index, torn, synced }))
}

fn head(first: u64, synced: bool) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..16].copy_from_slice(&(if synced { SYNCED } else { 0 }).to_le_bytes());
    head[16..24].copy_from_slice(&first.to_le_bytes());
    let sum = *blake3::hash(&head[..24]).as_bytes();
    head[24..].copy_from_slice(&sum[..16]);
    head
}

/// Whether its entries were synced; `None` when the file was only begun.
fn read_head(
    path: &Path,
    file: &mut BufReader<File>,
    length: u64,
    first: u64,
) -> Result<Option<bool>> {
    let damaged = |reason: &str| Error::Corrupt {
        place: format!("`{}`", path.display()),
        reason: reason.to_owned(),
    };
    let mut head = [0; HEAD];
    if length < HEAD as u64 {
        return Ok(None);
    }
    file.read_exact(&mut head).map_err(|error| failed(path, "read", &error))?;
    if blake3::hash(&head[..24]).as_bytes()[..16] != head[24..] {
        // One that was begun when the power went, and never written to.
        let begun = length == HEAD as u64;
        return if begun { Ok(None) } else { Err(damaged("it does not begin as a log does")) };
    }
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..8] != MAGIC {
        return Err(damaged("it does not begin as a log does"));
    }
    if number(8) != FORMAT {
        return Err(Error::Schema {
            place: format!("`{}`", path.display()),
            found: number(8),
            oldest: FORMAT,
            newest: FORMAT,
            next: "install the omniq that wrote it, or a newer one",
        });
    }
    if head[16..24] != first.to_le_bytes() {
        return Err(damaged("its first entry is another one than its name says"));
    }
    Ok(Some(number(12) & SYNCED != 0))
}

/// Reads the next entry, if a good one is there.
fn read_entry(
    file: &mut impl std::io::Read,
    left: u64,
    index: u64,
    bytes: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let mut head = [0; ENTRY];
    if left < ENTRY as u64 {
        return Ok(false);
    }
    file.read_exact(&mut head)?;
    let Some(length) = length_in(&head, index).filter(|length| *length <= left - ENTRY as u64)
    else {
        return Ok(false);
    };
    bytes.clear();
    file.by_ref().take(length).read_to_end(bytes)?;
    Ok(bytes.len() as u64 == length && hash(index, bytes)[..] == head[16..])
}

/// The length of the entry that begins so, if it is that of this number.
fn length_in(head: &[u8; ENTRY], index: u64) -> Option<u64> {
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let fits =
        head[4..12] == index.to_le_bytes() && head[12..16] == check(length, index).to_le_bytes();
    fits.then_some(length.into())
}

/// Fails when a good entry stands behind `end`: then what is there was damaged after it had been written.
fn refuse_damage(path: &Path, mut file: File, end: u64, length: u64, index: u64) -> Result<()> {
    let io = |error: std::io::Error| failed(path, "read", &error);
    file.seek(SeekFrom::Start(end)).map_err(io)?;
    let mut rest = Vec::new();
    file.take(length - end).read_to_end(&mut rest).map_err(io)?;
    // What an entry of a known length holds is not looked into: it may look like anything.
    let own = rest.first_chunk().and_then(|head| length_in(head, index));
    let behind =
        own.map_or(1, |own| usize::try_from(own).unwrap_or(usize::MAX).saturating_add(ENTRY));
    // However many were damaged together, the one behind them has a number that they had room for.
    let later = index + 1..=index + (rest.len() / ENTRY) as u64;
    if (behind..rest.len()).any(|start| begins(&rest[start..], &later)) {
        return Err(Error::Corrupt {
            place: format!("`{}`", path.display()),
            reason: format!("entry {index}, at byte {end}, is not readable, and later ones are"),
        });
    }
    Ok(())
}

/// Whether these bytes begin with a good entry of one of these numbers.
fn begins(bytes: &[u8], numbers: &RangeInclusive<u64>) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<ENTRY>() else { return false };
    let Some(number) = head[4..].first_chunk().map(|number| u64::from_le_bytes(*number)) else {
        return false;
    };
    if !numbers.contains(&number) {
        return false;
    }
    let length = length_in(head, number).and_then(|length| usize::try_from(length).ok());
    let entry = length.and_then(|length| rest.get(..length));
    entry.is_some_and(|entry| hash(number, entry)[..] == head[16..])
}

/// Tells a length that was written from one that was not, before anything is read by it (SplitMix64's finish).
fn check(length: u32, index: u64) -> u32 {
    let mixed = (index ^ u64::from(length) << 32 ^ 0x6f6d_6e69_716c_6f67)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

fn hash(index: u64, entry: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(entry);
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

/// What a failed call of the operating system is told as.
pub(super) fn failed(path: &Path, action: &str, error: &std::io::Error) -> Error {
    let place = format!("`{}`", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::Full { place, reason: error.to_string() }
        }
        _ => Error::Config(format!("could not {action} {place}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, durability: Durability, entries: &[&[u8]]) -> PathBuf {
        let mut log = LogFile::create(folder, 5, durability).unwrap();
        for (index, entry) in entries.iter().enumerate() {
            log.append(5 + index as u64, entry).unwrap();
        }
        folder.join(name(5))
    }

    fn read(path: &Path) -> Result<(Option<Scan>, Vec<Vec<u8>>)> {
        let mut entries = Vec::new();
        let scan = scan(path, 5, |_, entry| {
            entries.push(entry.to_vec());
            Ok(())
        })?;
        Ok((scan, entries))
    }

    const ENTRIES: [&[u8]; 4] = [b"first", b"", b"third, a longer one", b"last"];

    #[test]
    fn a_file_cut_at_any_byte_gives_the_whole_entries_before_and_goes_on_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), Durability::Disk, &ENTRIES);
        let whole = std::fs::read(&path).unwrap();
        let mut ends = vec![HEAD];
        for entry in ENTRIES {
            ends.push(ends.last().unwrap() + ENTRY + entry.len());
        }
        assert_eq!(*ends.last().unwrap(), whole.len());
        for cut in 0..=whole.len() {
            // What was not written may also be there as zeros.
            for zeros in [0, 40] {
                let mut bytes = whole[..cut].to_vec();
                bytes.resize(cut + zeros, 0);
                std::fs::write(&path, &bytes).unwrap();
                let whole_ones = ends.iter().filter(|end| **end <= cut).count();
                if cut < HEAD {
                    if bytes.len() <= HEAD {
                        assert_eq!(read(&path).unwrap().0, None, "{cut}");
                    }
                    continue;
                }
                let (scan, entries) = read(&path).unwrap();
                let scan = scan.unwrap();
                assert_eq!(entries, ENTRIES[..whole_ones - 1], "{cut}");
                assert_eq!(scan.end, ends[whole_ones - 1] as u64, "{cut}");
                let mut log = LogFile::resume(path.clone(), scan.end, Durability::Disk).unwrap();
                log.append(5 + entries.len() as u64, b"anew").unwrap();
                let (scan, entries) = read(&path).unwrap();
                assert_eq!(
                    (scan.unwrap().torn, entries.last().unwrap().as_slice()),
                    (0, &b"anew"[..])
                );
            }
        }
    }

    #[test]
    fn a_byte_changed_anywhere_before_the_last_entry_is_refused_and_in_the_last_one_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), Durability::Disk, &ENTRIES);
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - ENTRY - ENTRIES[3].len();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            match read(&path) {
                Ok((_, entries)) => {
                    assert!(at >= last, "{at}");
                    assert_eq!(entries, ENTRIES[..3]);
                }
                Err(error) => {
                    assert!(at < last, "{at}");
                    let text = error.to_string();
                    assert!(at < HEAD || text.contains("at byte"), "{text}");
                }
            }
        }
    }

    /// A block of a disk has room for very many entries.
    #[test]
    fn any_number_of_entries_that_are_damaged_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let entries = [&b"small"[..]; 40];
        let path = written(folder.path(), Durability::Disk, &entries);
        let whole = std::fs::read(&path).unwrap();
        let start = |entry: usize| HEAD + entry * (ENTRY + 5);
        for last in 1..entries.len() {
            for fill in [0, 0xff] {
                let mut bytes = whole.clone();
                bytes[start(0)..start(last)].fill(fill);
                std::fs::write(&path, &bytes).unwrap();
                let text = read(&path).unwrap_err().to_string();
                assert!(text.contains("entry 5, at byte"), "{last}: {text}");
            }
        }
    }

    /// What somebody enqueues may hold anything, also an entry that looks as if it came later.
    #[test]
    fn a_torn_entry_that_holds_another_one_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let inner = std::fs::read(written(folder.path(), Durability::Disk, &ENTRIES)).unwrap();
        let path = written(folder.path(), Durability::Disk, &[&inner, b"padding"]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..HEAD + ENTRY + inner.len() - 1]).unwrap();
        let (scan, entries) = read(&path).unwrap();
        assert_eq!((scan.unwrap().end, entries.len()), (HEAD as u64, 0));
    }

    #[test]
    fn a_log_that_was_not_synced_ends_where_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), Durability::Os, &ENTRIES);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD + ENTRY] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap().1.len(), 0);
    }

    #[test]
    fn a_log_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), Durability::Disk, &ENTRIES);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 2;
        let sum = *blake3::hash(&bytes[..24]).as_bytes();
        bytes[24..40].copy_from_slice(&sum[..16]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), crate::ErrorKind::Schema);
    }
}
