//! Images of the state machine in a folder: where the log may begin.
//!
//! `image-NUMBER` holds the state after entry NUMBER. It appears whole, under another name first, and carries a hash. Two
//! are kept that are not known to be damaged, with the log since the older one, so that one damaged image loses nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::log_file::{self, failed};
use crate::{Error, Result, failpoint};

const MAGIC: [u8; 8] = *b"OMNIQIMG";
/// How images are written. One of a higher number is refused.
const FORMAT: u32 = 1;
const HEAD: usize = 8 + 4 + 8;
const HASH: usize = 32;
/// What an image is called until it is whole.
const DRAFT: &str = "draft";

/// Set as long as an image is being made, whatever becomes of it.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    /// `None` when one is being made already.
    pub(super) fn begin(flag: &Arc<AtomicBool>) -> Option<Self> {
        let was_set = flag.swap(true, Ordering::AcqRel);
        (!was_set).then(|| Self(Arc::clone(flag)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The name of the image after that entry.
pub(super) fn name(index: u64) -> String {
    format!("image-{index:020}")
}

/// An image's bytes with what proves that they are whole.
pub(super) fn seal(index: u64, image: &[u8]) -> Vec<u8> {
    let (head, hash) = around(index, image);
    [&head, image, &hash].concat()
}

/// What stands in front of an image, and behind it.
fn around(index: u64, image: &[u8]) -> ([u8; HEAD], [u8; HASH]) {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..].copy_from_slice(&index.to_le_bytes());
    let hash = blake3::Hasher::new().update(&head).update(image).finalize();
    (head, *hash.as_bytes())
}

/// The image in these bytes; `place` names them in errors.
pub(super) fn open<'a>(place: &str, index: u64, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let damaged =
        |reason: &str| Error::Corrupt { place: place.to_owned(), reason: reason.to_owned() };
    let Some((body, hash)) = bytes.split_at_checked(bytes.len().saturating_sub(HASH)) else {
        return Err(damaged("it is too short"));
    };
    if body.len() < HEAD || body[..8] != MAGIC || blake3::hash(body).as_bytes()[..] != *hash {
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
    if body[12..HEAD] != index.to_le_bytes() {
        return Err(damaged("it is another image than its name says"));
    }
    Ok(&body[HEAD..])
}

/// Keeps an image in a folder; durable when it returns, if it is to be.
pub(super) fn save(folder: &Path, index: u64, image: &[u8], sync: bool) -> Result<()> {
    let path = folder.join(name(index));
    let draft = path.with_extension(DRAFT);
    let save = || -> std::io::Result<()> {
        let mut file = File::create(&draft)?;
        let (head, hash) = around(index, image);
        for part in [&head[..], image, &hash] {
            file.write_all(part)?;
        }
        if sync {
            log_file::sync(&draft, &file)?;
        }
        failpoint::hit("file.image.before_rename");
        std::fs::rename(&draft, &path)?;
        if sync {
            log_file::sync(folder, &File::open(folder)?)?;
        }
        Ok(())
    };
    save().map_err(|error| {
        let _ = std::fs::remove_file(&draft); // the next image of this number would replace it anyway
        failed(&path, "write", &error)
    })
}

/// Deletes what processes left behind that ended while they wrote an image; each may be as large as one.
pub(super) fn clear(folder: &Path) {
    let drafts = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let drafts = drafts.map(|entry| entry.path());
    for draft in drafts.filter(|path| path.extension().is_some_and(|end| end == DRAFT)) {
        let _ = std::fs::remove_file(draft); // or next time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_itself_or_refused() {
        let sealed = seal(7, b"all of it");
        assert_eq!(open("it", 7, &sealed).unwrap(), b"all of it");
        assert!(open("it", 8, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[at] ^= 1;
            assert!(open("it", 7, &bytes).is_err(), "{at}");
            assert!(open("it", 7, &sealed[..at]).is_err(), "{at}");
        }
    }
}
