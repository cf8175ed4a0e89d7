//! The place of a file: its folder, and how much room is left there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
    check_size(path)?;
    check_log(path)?;
    Ok(folder)
}

/// SQLite takes any short file for an empty database, and would write over it; what is longer it looks at itself.
///
/// The file is not opened for that: to close it would let go of all locks that this process has on it, if it has it open
/// already, and whoever closes it after that takes itself for the last and removes the log (sqlite.org/howtocorrupt.html,
/// 2.2).
fn check_size(path: &Path) -> Result<()> {
    const LEAST: u64 = 512; // a page, sqlite.org/fileformat2.html, 1.3
    let shown = path.display();
    match fs::metadata(path) {
        Ok(data) if data.len() == 0 || data.len() >= LEAST => Ok(()),
        Ok(_) => {
            let reason = "it does not begin as a SQLite database does".into();
            Err(Error::Corrupt { place: format!("`{shown}`"), reason })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::Config(format!("`{shown}` could not be opened: {error}"))),
    }
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

/// Which files are open: the database, its log and the log's index. SQLite goes on with what was deleted or replaced, and
/// what it writes there nobody else ever sees.
#[derive(Debug)]
pub(super) struct Identity {
    database: (PathBuf, Number),
    /// `-wal` and `-shm`, as far as they are there.
    log: Vec<(PathBuf, Number)>,
}

/// Device and number on it.
type Number = (u64, u64);

/// Databases whose log was taken away while this process had them open. It keeps them open to its end, since SQLite would
/// remove the log of whoever came after; and what is open twice in a process shares the index of the log.
static DEPRIVED: Mutex<Vec<Number>> = Mutex::new(Vec::new());

impl Identity {
    /// The file at `path`, which has just been opened; `None` where that cannot be told.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let database = (path.to_owned(), number(path).ok()?);
        let beside = |end| {
            let mut name = path.canonicalize().ok()?.into_os_string();
            name.push(end);
            let path = PathBuf::from(name);
            let number = number(&path).ok()?;
            Some((path, number))
        };
        Some(Self { database, log: ["-wal", "-shm"].into_iter().filter_map(beside).collect() })
    }

    /// Fails when a name leads to another file by now, or to none. Where that is the log, this process does not open the
    /// database again.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if let Some(how) = changed(&self.database) {
            return Err(Fault::Moved(how));
        }
        let log = self.log.iter().find_map(|file| Some((&file.0, changed(file)?)));
        match log {
            Some((path, how)) => {
                self.give_up();
                Err(Fault::Deprived(path.display().to_string(), how))
            }
            None => Ok(()),
        }
    }

    fn give_up(&self) {
        let mut deprived = DEPRIVED.lock().unwrap_or_else(PoisonError::into_inner);
        if !deprived.contains(&self.database.1) {
            deprived.push(self.database.1);
        }
    }

    /// Whether the log is no more, and nobody has begun another one.
    pub(super) fn has_no_log(&self) -> bool {
        let is_gone = |(path, _): &(PathBuf, Number)| {
            number(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        changed(&self.database).is_none() && self.log.first().is_some_and(is_gone)
    }
}

/// What became of a file.
fn changed((path, was): &(PathBuf, Number)) -> Option<&'static str> {
    match number(path) {
        Ok(number) if number == *was => None,
        Ok(_) => Some("replaced by another"),
        Err(error) if error.kind() == ErrorKind::NotFound => Some("deleted or moved away"),
        // Whoever may not look any more may still have it open.
        Err(_) => None,
    }
}

/// Checks that this process may open the file.
fn check_log(path: &Path) -> Result<()> {
    let deprived = DEPRIVED.lock().unwrap_or_else(PoisonError::into_inner);
    if number(path).is_ok_and(|number| deprived.contains(&number)) {
        return Err(Error::Config(format!(
            "the log of `{}` was taken away while this program had it open; start this program again",
            path.display()
        )));
    }
    Ok(())
}

fn number(path: &Path) -> std::io::Result<Number> {
    let data = fs::metadata(path)?;
    Ok((data.dev(), data.ino()))
}
