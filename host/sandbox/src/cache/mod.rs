//! Compiled code on disk: opaque bytes under a key, given back only when they are authentic.
//!
//! Whoever can choose the bytes that are loaded as compiled code can do anything the host can, and the engine does
//! not check them. So every file carries a MAC under a secret of this installation; what is torn, flipped, foreign
//! or filed under another key's name is removed and counted, never given out, and its owner compiles again. The MAC
//! is checked on the memory that is then executed, which nobody can change any more (see [`Image`]).
//!
//! Any number of processes share a folder without locks: files appear by rename, and whoever opened one keeps it
//! when it is evicted. What the bytes mean, and which settings they depend on, is the engine's business.
//!
//! A file is one page of header and the code. The header: 8 bytes magic and version, the code's length (u64, little
//! endian), the SHA-256 of the component, the hash of the engine, the BLAKE3 of the code; at its end the
//! [keyed BLAKE3](https://docs.rs/blake3) of all the rest of it.

mod hash;
mod header;
mod image;
mod secret;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use omniq_model::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

pub use image::Image;
use secret::{Secret, TEMPORARY, Temporary};

/// How the names of finished files end.
const EXTENSION: &str = ".code";
/// When an unfinished file counts as left behind by a process that died.
const ABANDONED_AFTER_SECONDS: i64 = 3600;

/// Why the cache could not be opened or written.
///
/// Without a cache everything still works, only slower: a caller may log an error and go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Others could put code in place that this process would execute.
    #[error(
        "the code cache cannot be trusted: `{}` {problem}; remove it or choose another folder",
        path.display()
    )]
    Untrusted {
        /// The folder or the file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system refused.
    #[error("could not {action} `{}` of the code cache", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    fn untrusted(path: impl Into<PathBuf>, problem: String) -> Self {
        Self::Untrusted { path: path.into(), problem }
    }

    fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    fn random(path: impl Into<PathBuf>, source: getrandom::Error) -> Self {
        Self::io("get random numbers for", path, io::Error::other(source.to_string()))
    }
}

/// What compiled code belongs to: it is given out for this exact pair only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The component.
    pub digest: Digest,
    /// A hash over everything else the code depends on: the engine's full version, its settings, the processor.
    pub engine: [u8; 32],
}

impl Key {
    /// The full digest for people who look for a module, and enough of the engine to keep engines apart; which
    /// file is whose is decided by the header, not by the name.
    fn file_name(&self) -> String {
        let engine: String = self.engine[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{engine}{EXTENSION}", self.digest.to_hex())
    }
}

/// What the cache holds, and what became of the loads of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Files of compiled code in the folder.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Loads that gave code.
    pub hits: u64,
    /// Loads that found none, or could not read it.
    pub misses: u64,
    /// Loads that found a file which is not authentic, and removed it. More than a few are worth an alert.
    pub rejected: u64,
}

/// A folder of compiled code, and the secret that authenticates it.
#[derive(Debug)]
pub struct CodeCache {
    path: PathBuf,
    folder: OwnedFd,
    secret: Secret,
    limit_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
}

/// Why there is no image.
enum Refusal {
    /// There is no file, or it cannot be read now.
    Unreadable,
    /// There is one, and it is not what [`CodeCache::store`] wrote for this key.
    Forged,
}

impl Refusal {
    fn from_read(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Forged,
            _ => Self::Unreadable,
        }
    }
}

impl From<Errno> for Refusal {
    fn from(_: Errno) -> Self {
        Self::Unreadable
    }
}

impl CodeCache {
    /// Opens the cache in `folder`, which is created where it is missing, readable by this user alone.
    ///
    /// The files together stay within `limit_bytes`: [`store`](Self::store) removes what was not used for longest.
    ///
    /// # Errors
    /// [`Error::Untrusted`] when the folder or the secret in it belongs to somebody else (root excepted), others may
    /// write to the folder, or read the secret. [`Error::Io`] when the folder cannot be created or read.
    pub(crate) fn open(folder: &Path, limit_bytes: u64) -> Result<Self, Error> {
        let path = folder.to_path_buf();
        let folder = secret::open_folder(&path)?;
        let secret = Secret::open(folder.as_fd(), &path)?;
        let [hits, misses, rejected] = [const { AtomicU64::new(0) }; 3];
        Ok(Self { path, folder, secret, limit_bytes, hits, misses, rejected })
    }

    /// The code stored under `key`, if it is there and authentic.
    ///
    /// A file that is not authentic is removed and counted. Whatever else goes wrong is a miss as well: compiling
    /// again is always right. Blocks for the reading and hashing: about half a millisecond per megabyte.
    pub(crate) fn load(&self, key: &Key) -> Option<Image> {
        let name = key.file_name();
        match self.open_file(&name).and_then(|file| self.authenticate(key, &file)) {
            Ok(image) => {
                self.hits.fetch_add(1, Relaxed);
                Some(image)
            }
            Err(Refusal::Unreadable) => {
                self.misses.fetch_add(1, Relaxed);
                None
            }
            Err(Refusal::Forged) => {
                self.rejected.fetch_add(1, Relaxed);
                // Best effort: a file that stays is refused again next time, and replaced by the next store.
                let _ = rustix::fs::unlinkat(&self.folder, &*name, AtFlags::empty());
                None
            }
        }
    }

    /// Keeps `code` under `key`, in place of what was there, then removes what was not used for longest until the
    /// folder is within its limit. Code that alone is larger than the limit is not kept, and neither is none.
    ///
    /// # Errors
    /// [`Error::Io`] when the file system refuses: the disk is full, the folder is read-only. Nothing is lost then
    /// but time.
    pub(crate) fn store(&self, key: &Key, code: &[u8]) -> Result<(), Error> {
        if code.is_empty() || (header::LEN + code.len()) as u64 > self.limit_bytes {
            return Ok(());
        }
        let name = key.file_name();
        let path = self.path.join(&name);
        let proven = header::Code { len: code.len() as u64, hash: hash::blake3(code) };
        let temporary = Temporary::create(self.folder.as_fd(), &name, &path)?;
        // Not synced: a file that a power cut tears does not match its hash, and is compiled again.
        (&temporary.file)
            .write_all(&header::encode(&self.secret, key, &proven))
            .and_then(|()| (&temporary.file).write_all(code))
            .map_err(|source| Error::io("write", &path, source))?;
        let written =
            rustix::fs::fstat(&temporary.file).map_err(|errno| Error::io("read", &path, errno))?;
        temporary.rename(&name).map_err(|errno| Error::io("replace", &path, errno))?;
        // The age of files is told by the file system's own clock: by what it says the newest one's time is.
        self.evict(&name, written.st_mtime)
    }

    /// Removes all code, also what other processes are about to use: they compile again.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read or a file cannot be removed.
    pub fn clear(&self) -> Result<(), Error> {
        self.entries()?.iter().try_for_each(|entry| self.remove(entry))
    }

    /// Counts what is in the folder, and what this process loaded from it.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        let entries = self.entries()?;
        let finished = || entries.iter().filter(|entry| entry.is_finished());
        Ok(Stats {
            files: finished().count() as u64,
            bytes: finished().map(|entry| entry.bytes).sum(),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
        })
    }

    fn open_file(&self, name: &str) -> Result<File, Refusal> {
        // `NONBLOCK`, lest somebody's pipe of that name holds us up for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            Err(Errno::LOOP) => Err(Refusal::Forged),
            Err(_) => Err(Refusal::Unreadable),
        }
    }

    /// Copies the code out of reach, and only then compares it with what the secret vouches for.
    fn authenticate(&self, key: &Key, file: &File) -> Result<Image, Refusal> {
        let stat = rustix::fs::fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Refusal::Forged);
        }
        let mut header = [0; header::LEN];
        file.read_exact_at(&mut header, 0).map_err(Refusal::from_read)?;
        // The header first: it says how much memory to take, and a stranger's word does not count.
        let code = header::decode(&self.secret, key, &header).ok_or(Refusal::Forged)?;
        let whole = code.len.checked_add(header::LEN as u64).ok_or(Refusal::Forged)?;
        if stat.st_size as u64 != whole {
            return Err(Refusal::Forged);
        }
        let len = usize::try_from(code.len).map_err(|_| Refusal::Unreadable)?;
        let image = Image::copy(file, header::LEN as u64, len)?;
        if image.len() != len || hash::blake3(&image) != code.hash {
            return Err(Refusal::Forged);
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let used = Timestamps { last_access: now, last_modification: now };
        // Where this is refused, files are evicted by age instead; nothing else depends on it.
        let _ = rustix::fs::futimens(file, &used);
        Ok(image)
    }

    /// Removes what dead processes left unfinished, and the least recently used files until the rest, with `newest`
    /// in it, is within the limit.
    fn evict(&self, newest: &str, now_seconds: i64) -> Result<(), Error> {
        let (mut finished, unfinished): (Vec<_>, Vec<_>) =
            self.entries()?.into_iter().partition(Entry::is_finished);
        for entry in &unfinished {
            if entry.modified.0 < now_seconds - ABANDONED_AFTER_SECONDS {
                self.remove(entry)?;
            }
        }
        let mut bytes: u64 = finished.iter().map(|entry| entry.bytes).sum();
        finished.retain(|entry| entry.name.to_bytes() != newest.as_bytes());
        finished.sort_by_key(|entry| entry.modified);
        for entry in &finished {
            if bytes <= self.limit_bytes {
                break;
            }
            self.remove(entry)?;
            bytes -= entry.bytes;
        }
        Ok(())
    }

    /// The cache's own files, finished and not; the secret and whatever else is there are left alone.
    fn entries(&self) -> Result<Vec<Entry>, Error> {
        let list = |errno| Error::io("list", &self.path, errno);
        let mut entries = Vec::new();
        for found in Dir::read_from(&self.folder).map_err(list)? {
            let name = found.map_err(list)?.file_name().to_owned();
            if ![EXTENSION, TEMPORARY].iter().any(|end| name.to_bytes().ends_with(end.as_bytes())) {
                continue;
            }
            match rustix::fs::statat(&self.folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push(Entry {
                    name,
                    bytes: stat.st_size as u64,
                    modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
                }),
                Err(Errno::NOENT) => {} // another process was faster
                Err(errno) => return Err(list(errno)),
            }
        }
        Ok(entries)
    }

    fn remove(&self, entry: &Entry) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.folder, &*entry.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()), // another process may be faster
            Err(errno) => {
                let name = entry.name.to_string_lossy();
                Err(Error::io("remove", self.path.join(&*name), errno))
            }
        }
    }
}

/// A file of the cache.
struct Entry {
    name: CString,
    bytes: u64,
    /// Seconds and nanoseconds. Every load sets it, so it is when the file was last used.
    modified: (i64, i64),
}

impl Entry {
    fn is_finished(&self) -> bool {
        self.name.to_bytes().ends_with(EXTENSION.as_bytes())
    }
}
