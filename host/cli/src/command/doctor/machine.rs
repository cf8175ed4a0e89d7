//! The machine: room on the disk, its clock, how many files a process may open.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omniq::config::Config;
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::output::report;
use crate::queue;

/// Less than this, and tasks may soon be refused.
const SCARCE: u64 = 1 << 30;
/// Less than this, and they are.
const TOO_LITTLE: u64 = 100 << 20;
/// Files that a worker and its connections may want.
const FILES: u64 = 1024;
/// When this was written: a clock before it is wrong.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// Room where the tasks are kept.
pub fn disk(config: &Config) -> Check {
    let name = "disk";
    let url = &config.tasks.url;
    let place = queue::file_of(config).and_then(Path::parent).or_else(|| url.folder_path());
    let place = place.unwrap_or(&config.data.folder);
    // A folder that does not exist yet lies where its parent does.
    let here = Path::new(".");
    let existing =
        place.ancestors().find(|folder| folder.exists() && !folder.as_os_str().is_empty());
    let folder = existing.unwrap_or(here);
    let shown = folder.display();
    let free = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            let why = format!("the disk of `{shown}` cannot be asked: {error}");
            return Check::warning(name, why, "look whether the folder is there and readable");
        }
    };
    let why = format!("{} are free at `{shown}`", report::bytes(free));
    match free {
        0..TOO_LITTLE => {
            Check::failed(name, why, "free some space; new tasks are refused until then")
        }
        TOO_LITTLE..SCARCE => {
            Check::warning(name, why, "free some space before new tasks are refused")
        }
        _ => Check::good(name, why),
    }
}

/// The time of day.
pub fn clock() -> Check {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = humantime::format_rfc3339_seconds(UNIX_EPOCH + now);
    if now < WRITTEN {
        let fix = "set the clock; delays, leases and schedules go by it";
        return Check::failed("clock", format!("it shows {shown}, which is past"), fix);
    }
    Check::good("clock", format!("it shows {shown}"))
}

/// Files that may be open at once.
pub fn files() -> Check {
    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        Some(limit) if limit < FILES => Check::warning(
            "open files",
            format!("a process may have {limit} open"),
            format!("allow {FILES} or more: `ulimit -n {FILES}`"),
        ),
        Some(limit) => Check::good("open files", format!("a process may have {limit} open")),
        None => Check::good("open files", "a process may have as many as it likes"),
    }
}
