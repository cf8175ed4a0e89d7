//! A disk that a test fills.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::Place;

/// Bytes of one.
pub const MEBIBYTE: u64 = 1 << 20;

/// A file system in memory, of a size of its own. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// One of so many MiB in the folder of a place; `None`, with a printed reason, where this user may not mount any.
    pub fn mount(place: &Place, mebibytes: u32) -> Option<Self> {
        let path = place.path().join("disk");
        // Servers run as users of their own.
        let everybody = Permissions::from_mode(0o755);
        fs::set_permissions(place.path(), everybody).expect("it is the test's folder");
        fs::create_dir(&path).expect("the test's folder takes folders");
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "omniq-fault"]).arg(&path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(path)),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                println!("left out, since no file system can be mounted here: {why}");
                None
            }
            Err(error) => {
                println!("left out, since there is no `mount`: {error}");
                None
            }
        }
    }

    /// Lets nobody write any more, or again.
    pub fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "what was mounted can be mounted again"
        );
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).expect("a mounted file system can be asked");
        stat.f_bavail * stat.f_frsize
    }

    /// Takes room until at most so many bytes are free.
    pub fn fill_up_to(&self, free: u64) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a file of its own disk");
        while self.free() > free {
            let most = (self.free() - free).min(1 << 20) as usize;
            if file.write_all(&vec![7; most]).is_err() {
                break;
            }
        }
    }

    /// Gives all of that back.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the filler is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
