//! The place of a file: its folder, and how much room is left there.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::{Error, Result};

/// Makes the folder of a file, and checks that what is there already may be a database. Returns the folder.
pub(super) fn prepare(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Error::Config(format!("`{shown}` is a folder; give the path of a file in it")));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&folder).map_err(|error| {
        Error::Config(format!("the folder of `{shown}` could not be made: {error}"))
    })?;
    check_header(path)?;
    Ok(folder)
}

/// SQLite takes any short file for an empty database, and would write over it.
fn check_header(path: &Path) -> Result<()> {
    const HEADER: &[u8] = b"SQLite format 3\0"; // sqlite.org/fileformat2.html, 1.3
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let shown = path.display();
            return Err(Error::Config(format!("`{shown}` could not be opened: {error}")));
        }
    };
    let mut start = Vec::new();
    let read = file.by_ref().take(HEADER.len() as u64).read_to_end(&mut start);
    read.map_err(|error| {
        Error::Config(format!("`{}` could not be read: {error}", path.display()))
    })?;
    if start.is_empty() || start == HEADER {
        return Ok(());
    }
    let place = format!("`{}`", path.display());
    Err(Error::Corrupt { place, reason: "it does not begin as a SQLite database does".into() })
}

/// Why no more is to be written, if the disk has less than `reserve` bytes left.
pub(super) fn lacking(folder: &Path, reserve: u64) -> Option<String> {
    // A folder that cannot be asked does not stop anybody: the write itself will tell.
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < reserve).then(|| {
        format!(
            "{} MiB are free on its disk, and {} MiB are kept for tasks to end",
            free >> 20,
            reserve >> 20
        )
    })
}

/// Which file is open. SQLite goes on with one that was deleted or replaced, and what it writes there nobody ever sees.
#[derive(Debug)]
pub(super) struct Identity {
    path: PathBuf,
    /// Device and number on it.
    file: (u64, u64),
}

impl Identity {
    /// The file at `path`, which has just been opened; `None` where that cannot be told.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self { path: path.to_owned(), file: number(path).ok()? })
    }

    /// Fails when the name leads to another file by now, or to none.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match number(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            Ok(_) => Err(Fault::Moved("replaced by another")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Fault::Moved("deleted or moved away"))
            }
            // Whoever may not look any more may still have it open.
            Err(_) => Ok(()),
        }
    }
}

fn number(path: &Path) -> std::io::Result<(u64, u64)> {
    let data = fs::metadata(path)?;
    Ok((data.dev(), data.ino()))
}
