//! Notices that other processes write, at next to no cost while nobody does.
//!
//! The kernel tells of every write to the log (inotify). A write is no commit yet: that shows a moment later, when it has
//! reached the disk, and nothing tells of it. So a write only says that looking is worth while: at once, and then at
//! distances that double.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::read;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// The first look after somebody has written.
const SOON: Duration = Duration::from_millis(1);
/// The first look after we have, or after somebody began to wait: long enough for a task that comes and goes not to be held
/// up by it.
const LATER: Duration = Duration::from_millis(5);
/// Between two looks while nobody writes: only where the kernel lost count is there anything to see.
const NET: Duration = Duration::from_secs(1);
/// The same where the kernel does not tell.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// When to look whether another process has committed something.
pub(super) struct Stir {
    /// `None` where the kernel does not tell.
    written: Option<AsyncFd<OwnedFd>>,
    /// Between the last look and the next, if nothing happens.
    distance: Duration,
    looked: Instant,
    due: Instant,
}

impl Stir {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { written: None, distance: SOON, looked: now, due: now + SOON }
    }

    /// Has the kernel tell of writes to the file at `path`, whose log exists.
    pub(super) fn watch(&mut self, path: &Path) {
        self.written = watch(path).ok();
    }

    /// Waits until it is time to look.
    pub(super) async fn is_due(&mut self) {
        loop {
            let due = tokio::time::sleep_until(self.due);
            let Some(written) = &self.written else { return due.await };
            tokio::select! {
                ready = written.readable() => {
                    let is_news = match ready {
                        Ok(mut ready) => {
                            let is_news = forget(written);
                            ready.clear_ready();
                            is_news // or it told of what we wrote ourselves, and forgot
                        }
                        Err(_) => {
                            self.written = None;
                            true
                        }
                    };
                    if is_news {
                        self.distance = SOON;
                        self.due = self.due.min(self.looked + SOON);
                    }
                }
                () = due => return,
            }
        }
    }

    /// Somebody has looked, and found something or not.
    pub(super) fn looked(&mut self, found: bool) {
        let most = if self.written.is_some() { NET } else { POLL };
        // What was found may not have been the last: whoever wrote may be writing again.
        self.distance = if found { SOON } else { (self.distance * 2).min(most) };
        self.looked = Instant::now();
        self.due = self.looked + self.distance;
    }

    /// We have written, which the kernel tells too.
    pub(super) fn wrote(&mut self) {
        if let Some(written) = &self.written {
            forget(written);
        }
        self.soon();
    }

    /// Somebody waits, and nobody did: what others did meanwhile may not have been looked for.
    pub(super) fn soon(&mut self) {
        self.distance = self.distance.min(LATER);
        self.due = self.due.min(Instant::now() + LATER);
    }

    /// Whether it has been time to look for long.
    pub(super) fn is_overdue(&self) -> bool {
        self.due.elapsed() >= POLL
    }
}

/// Watches the log, which lies beside what `path` leads to.
#[expect(
    deprecated,
    reason = "what replaced it is unsafe, for descriptors that may change; an owned one does not"
)]
fn watch(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let mut log = path.canonicalize()?.into_os_string();
    log.push("-wal");
    let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&kernel, Path::new(&log), WatchFlags::MODIFY)?;
    AsyncFd::with_interest(kernel, Interest::READABLE)
}

/// Reads what the kernel told; whether it did is all there is to know.
fn forget(kernel: &AsyncFd<OwnedFd>) -> bool {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut has_told = false;
    while let Ok((told, _)) = read(kernel.get_ref(), &mut buffer) {
        if told.is_empty() {
            break;
        }
        has_told = true;
    }
    has_told
}
