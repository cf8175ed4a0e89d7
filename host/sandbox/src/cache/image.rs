//! Compiled code in memory that nobody can change any more, the host itself included.
//!
//! The code is copied into an anonymous file (a memfd), which is then sealed: from there on the kernel refuses every
//! write, so the bytes that are hashed are the bytes that are executed, whatever happens to the file on disk. A memfd
//! instead of plain memory, although that takes a third less time: the engine maps it as it maps any file, with no
//! lifetime for us to keep; the guests' memories start as copy-on-write views of it instead of another copy; and it
//! can be handed to another process, which then needs neither the folder nor the secret.
#![expect(unsafe_code, reason = "maps the sealed file, and reads it as a slice")]

use std::fs::File;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// Compiled code, immutable and aligned to pages; reads as a slice of bytes.
///
/// Dropping it frees the memory as far as nobody else has it open or mapped: code loaded through [`Image::path`]
/// outlives it, code loaded from the slice does not.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
    memory: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is only ever read, by everyone: it is mapped read-only, from a file sealed against writes.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Copies `len` bytes from `offset` of `source`, fewer only if it ends before.
    pub(super) fn copy(source: &File, offset: u64, len: usize) -> Result<Self, Errno> {
        let file = create_memfd()?;
        let mut at = offset;
        let mut left = len;
        while left > 0 {
            match rustix::fs::sendfile(&file, source, Some(&mut at), left) {
                Ok(0) => break,
                Ok(sent) => left -= sent,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Self::map(file, len - left)
    }

    fn map(file: OwnedFd, len: usize) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists. Private, since
        // kernels before 6.7 refuse shared mappings of sealed files; nothing is written, so it stays the file.
        let memory = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)?
        };
        let memory = NonNull::new(memory.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { file, memory, len })
    }

    /// Where this process can open the code as a file, for `Component::deserialize_file`. Valid while the image
    /// lives; what was mapped through it stays valid for ever.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

impl Deref for Image {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `map` mapped `len` readable bytes here, and only `drop` unmaps them. The file behind them is
        // sealed: it can be neither written nor cut short under the slice.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl AsFd for Image {
    /// The sealed file.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; no slice of it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// An anonymous file that can be sealed.
fn create_memfd() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // No program to start, whatever is mapped from it; where the system demands that, the flag is needed.
    match rustix::fs::memfd_create("omniq-code", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("omniq-code", flags), // Linux before 6.3
        created => created,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn nobody_can_write_to_it() {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(b"header and code").unwrap();
        let image = Image::copy(&source, 11, 4).unwrap();
        assert_eq!(&*image, b"code");

        source.write_all_at(b"evil", 11).unwrap();
        assert_eq!(&*image, b"code");
        assert_eq!(std::fs::read(image.path()).unwrap(), b"code");
        let file = File::options().write(true).open(image.path()).unwrap();
        assert!(file.write_all_at(b"evil", 0).is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn can_be_mapped_for_execution() {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&[0xc3; 5000]).unwrap();
        let image = Image::copy(&source, 0, 5000).unwrap();
        let executable = ProtFlags::READ | ProtFlags::EXEC;
        // SAFETY: a new mapping touches nothing that exists.
        let mapped = unsafe {
            rustix::mm::mmap(ptr::null_mut(), 5000, executable, MapFlags::PRIVATE, &image, 0)
        };
        assert!(mapped.is_ok());
    }

    #[test]
    fn a_source_that_ends_early_gives_what_it_has() {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(b"short").unwrap();
        assert_eq!(&*Image::copy(&source, 0, 9).unwrap(), b"short");
        assert!(Image::copy(&source, 5, 9).is_err());
    }
}
