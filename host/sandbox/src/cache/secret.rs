//! The installation's secret, and whose folder and files are trusted.
//!
//! Whoever knows the secret can make the host execute any code, so it never leaves this module's types and is
//! never printed. Everything is opened relative to one folder handle and without following links, so what was
//! checked is what is used.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Error;

/// The name of the file that holds the secret.
pub(super) const NAME: &str = "secret";

/// Keys the MAC of every file of this folder.
pub(super) struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The MAC of `bytes`: who has it has them from someone who knows the secret.
    pub(super) fn authenticate(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }

    /// Reads the secret of `folder`, or makes one where there is none.
    ///
    /// Any number of processes may do so at once: all get the same one, since the first link wins and everyone
    /// reads what was linked.
    pub(super) fn open(folder: BorrowedFd<'_>, path: &Path) -> Result<Self, Error> {
        let path = path.join(NAME);
        loop {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match rustix::fs::openat(folder, NAME, flags, Mode::empty()) {
                Ok(file) => return Self::read(file.into(), &path),
                Err(Errno::NOENT) => Self::create(folder, &path)?,
                Err(Errno::LOOP) => {
                    return Err(Error::untrusted(path, "is a symbolic link".to_owned()));
                }
                Err(errno) => return Err(Error::io("open", path, errno)),
            }
        }
    }

    fn read(mut file: File, path: &Path) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&file).map_err(|errno| Error::io("read", path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::untrusted(path, "is not a regular file".to_owned()));
        }
        // Who may read the secret can forge code, so reading counts as much as writing.
        check_owner_and_mode(&stat, 0o077, path)?;
        let mut secret = [0; 32];
        let damaged = || Error::untrusted(path, "is not 32 bytes long".to_owned());
        if stat.st_size != 32 {
            return Err(damaged());
        }
        file.read_exact(&mut secret).map_err(|source| Error::io("read", path, source))?;
        Ok(Self(secret))
    }

    /// Puts a new secret in place unless another process is first, which is no error.
    fn create(folder: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|source| Error::random(path, source))?;
        let temporary = Temporary::create(folder, NAME, path)?;
        // Synced, unlike code: a secret that a power cut leaves empty would have to be removed by hand.
        (&temporary.file)
            .write_all(&secret)
            .and_then(|()| temporary.file.sync_all())
            .map_err(|source| Error::io("write", path, source))?;
        match rustix::fs::linkat(folder, &*temporary.name, folder, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::io("create", path, errno)),
        }
    }
}

/// Opens the cache folder, creating it for this user alone where it is missing.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::io("create", path, source))?;
    let folder =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::io("open", path, errno))?;
    let stat = rustix::fs::fstat(&folder).map_err(|errno| Error::io("read", path, errno))?;
    check_owner_and_mode(&stat, 0o022, path)?;
    Ok(folder)
}

/// Refuses what belongs to somebody else, and what somebody else may use in a `forbidden` way.
fn check_owner_and_mode(stat: &Stat, forbidden: u32, path: &Path) -> Result<(), Error> {
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user && stat.st_uid != 0 {
        return Err(Error::untrusted(path, format!("belongs to user `{}`", stat.st_uid)));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & forbidden != 0 {
        return Err(Error::untrusted(path, format!("is open to others with mode `{mode:04o}`")));
    }
    Ok(())
}

/// A new file under a name that nobody else uses; removed on drop unless it was renamed.
pub(super) struct Temporary<'a> {
    folder: BorrowedFd<'a>,
    pub(super) name: String,
    pub(super) file: File,
}

/// How the names of unfinished files end.
pub(super) const TEMPORARY: &str = ".tmp";

impl<'a> Temporary<'a> {
    /// Creates `NAME.RANDOM.tmp`, readable by this user alone.
    pub(super) fn create(folder: BorrowedFd<'a>, name: &str, path: &Path) -> Result<Self, Error> {
        let random = getrandom::u64().map_err(|source| Error::random(path, source))?;
        let name = format!("{name}.{random:016x}{TEMPORARY}");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, &*name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| Error::io("create", path, errno))?;
        Ok(Self { folder, name, file: file.into() })
    }

    /// Gives the file its final name, in place of whatever has it.
    pub(super) fn rename(self, name: &str) -> Result<(), Errno> {
        rustix::fs::renameat(self.folder, &*self.name, self.folder, name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After a rename the name is gone, and what a failure leaves is swept an hour later.
        let _ = rustix::fs::unlinkat(self.folder.as_fd(), &*self.name, AtFlags::empty());
    }
}
