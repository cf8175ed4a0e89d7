//! The file of `--output`: it appears whole when the call has succeeded, and stays as it was when not.
//!
//! A regular file is replaced by rename, with the mode and the owner it had; a symbolic link stays and what it leads to
//! is replaced. What is no regular file, such as a device, a pipe or our own stdout, gets the bytes written into it at
//! the end.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use omniq_model::Kind;
use tempfile::NamedTempFile;

use super::problem::Problem;

/// The links that are followed, as the system follows them.
const MAX_LINKS: usize = 40;

/// A file that is being written.
#[derive(Debug)]
pub struct OutputFile {
    /// What it is called by who asked for it.
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A new file, beside where it is moved to at the end.
    Replaced { file: NamedTempFile, to: PathBuf, old: Option<Box<Metadata>> },
    /// A file that has no name; its bytes are copied at the end.
    Copied { file: File, to: To },
}

#[derive(Debug)]
enum To {
    Stdout,
    Stderr,
    Path,
}

impl OutputFile {
    /// Prepares to write to `path`. What can be known before the work is known before the work.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(path: &Path) -> Result<Self, Problem> {
        let place = place(path).map_err(|error| match error.kind() {
            ErrorKind::IsADirectory => {
                Problem::new(Kind::Usage, format!("`{}` is a directory", path.display()))
                    .hint("name the file that the output is written to")
            }
            ErrorKind::NotFound => {
                let folder = folder_of(path).display().to_string();
                Problem::new(Kind::NotFound, format!("the directory `{folder}` does not exist"))
            }
            _ => unwritable(path, &error),
        })?;
        Ok(Self { path: path.to_owned(), place })
    }

    /// What it is called by who asked for it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes, which nobody sees yet.
    ///
    /// # Errors
    /// The disk is full, or the like.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.place {
            Place::Replaced { file, .. } => file.write_all(bytes),
            Place::Copied { file, .. } => file.write_all(bytes),
        }
    }

    /// Puts everything where it belongs. Without this nothing of it is kept.
    ///
    /// # Errors
    /// It cannot be put there.
    pub fn keep(self) -> Result<(), Problem> {
        let Self { path, place } = self;
        let kept = match place {
            Place::Replaced { file, to, old } => replace(file, &to, old.as_deref()),
            Place::Copied { file, to } => copy(file, &to, &path),
        };
        kept.map_err(|error| unwritable(&path, &error))
    }
}

fn place(path: &Path) -> io::Result<Place> {
    let bytes = path.as_os_str().as_bytes();
    let old = match fs::metadata(path) {
        Ok(old) => Some(old),
        Err(_) if bytes.is_empty() || bytes.ends_with(b"/") => {
            return Err(ErrorKind::IsADirectory.into());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(to) = old.as_ref().and_then(own_stream) {
        return Ok(Place::Copied { file: tempfile::tempfile()?, to });
    }
    if old.as_ref().is_some_and(Metadata::is_dir) {
        return Err(ErrorKind::IsADirectory.into());
    }
    let copied = || Ok(Place::Copied { file: tempfile::tempfile()?, to: To::Path });
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return copied();
    }
    // A file behind a number in `/proc` may have another name by now, or none.
    let Some(to) = followed(path)? else { return copied() };
    if old.is_some() {
        // Whoever may not write to a file may not replace it either, although the system lets him.
        OpenOptions::new().write(true).open(&to)?;
    }
    match temporary(folder_of(&to)) {
        Ok(file) => Ok(Place::Replaced { file, to, old: old.map(Box::new) }),
        Err(error) if error.kind() == ErrorKind::PermissionDenied && old.is_some() => copied(),
        Err(error) => Err(error),
    }
}

/// Beside its place, so that the rename at the end cannot cross file systems, and as open to others as any new file.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".omniq-output-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Our own stdout or stderr, if the file is the same. Opened a second time it would be overwritten from its start.
fn own_stream(file: &Metadata) -> Option<To> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let is_same = |stream: BorrowedFd<'_>| {
        let stream = stream.try_clone_to_owned().map(File::from);
        let stream = stream.and_then(|stream| stream.metadata()).ok();
        // Character devices such as `/dev/null` and terminals can be opened as often as one likes.
        stream
            .filter(|stream| !stream.file_type().is_char_device())
            .is_some_and(|stream| (stream.dev(), stream.ino()) == (file.dev(), file.ino()))
    };
    if is_same(stdout.as_fd()) {
        Some(To::Stdout)
    } else if is_same(stderr.as_fd()) {
        Some(To::Stderr)
    } else {
        None
    }
}

/// Where the links at a path lead, whether or not there is anything; `None` if through `/proc`.
fn followed(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(_) if fs::canonicalize(folder_of(&path))?.starts_with("/proc") => return Ok(None),
            Ok(target) => path = folder_of(&path).join(target),
            // No link, or nothing at all.
            Err(_) => return Ok(Some(path)),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(file: NamedTempFile, to: &Path, old: Option<&Metadata>) -> io::Result<()> {
    if let Some(old) = old {
        // Only root may give files away; everyone else replaces what was theirs in most cases.
        let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        file.as_file().set_permissions(old.permissions())?;
    }
    file.persist(to).map_err(|error| error.error)?;
    Ok(())
}

fn copy(mut file: File, to: &To, path: &Path) -> io::Result<()> {
    file.rewind()?;
    match to {
        To::Stdout => {
            let mut stdout = io::stdout().lock();
            io::copy(&mut file, &mut stdout)?;
            stdout.flush()
        }
        To::Stderr => io::copy(&mut file, &mut io::stderr().lock()).map(drop),
        To::Path => {
            // It exists; truncating says nothing to a device and all there is to say to a file.
            let mut to = OpenOptions::new().write(true).truncate(true).open(path)?;
            io::copy(&mut file, &mut to).map(drop)
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        Kind::Host,
        format!("the output file `{}` cannot be written: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        let mut file = OutputFile::new(path).unwrap();
        file.write(bytes).unwrap();
        file.keep().unwrap();
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        for (name, keeps) in [("kept", true), ("dropped", false)] {
            let path = folder.path().join(name);
            let mut file = OutputFile::new(&path).unwrap();
            file.write(b"ab").unwrap();
            file.write(b"c").unwrap();
            assert!(!path.exists(), "nothing is seen before the end");
            if keeps {
                file.keep().unwrap();
            } else {
                drop(file);
            }
            assert_eq!(fs::read(&path).ok(), keeps.then(|| b"abc".to_vec()), "{name}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_was_there_keeps_its_mode_until_the_end_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut file = OutputFile::new(&path).unwrap();
        file.write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_link_stays_and_leads_to_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "old").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("link", path("second")).unwrap();
        symlink("nothing", path("dangling")).unwrap();
        for (link, target) in [("second", "file"), ("dangling", "nothing")] {
            write(&path(link), link.as_bytes());
            assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read(path(target)).unwrap(), link.as_bytes());
        }
        symlink("round", path("round")).unwrap();
        assert!(OutputFile::new(&path("round")).is_err());
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        write(Path::new("/dev/null"), b"gone");
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        for (path, says) in [
            (folder.path().to_owned(), "is a directory"),
            (folder.path().join("new/"), "is a directory"),
            (folder.path().join("none/file"), "does not exist"),
            (folder.path().join("x".repeat(300)), "cannot be written"),
        ] {
            let error = format!("{:?}", OutputFile::new(&path).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
