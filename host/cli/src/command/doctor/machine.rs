//! The machine: room on the disk, its clock, how many files a process may open.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omniq::config::Config;
use omniq_store::Options;
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::output::report;
use crate::queue;

/// Less than this, and tasks may soon be refused.
const SCARCE: u64 = 1 << 30;
/// Files that a worker and its connections may want.
const FILES: u64 = 1024;
/// When this was written: a clock before it is wrong.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// Room where the tasks are kept.
pub fn disk(config: &Config) -> Check {
    let name = "disk";
    let url = &config.tasks.url;
    let place = queue::file_of(config).and_then(Path::parent).or_else(|| url.folder_path());
    // Of tasks on a server the folder holds the events at most.
    let has_tasks = place.is_some();
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
    of_room(free, &shown.to_string(), has_tasks)
}

/// What so many free bytes mean where tasks are kept, or else at most events.
fn of_room(free: u64, shown: &str, has_tasks: bool) -> Check {
    let name = "disk";
    let why = format!("{} are free at `{shown}`", report::bytes(free));
    // What a store is opened with here: below it, it refuses them.
    let reserve = Options::default().reserve;
    match (free, has_tasks) {
        (SCARCE.., _) => Check::good(name, why),
        (_, false) => {
            Check::warning(name, why, "free some space; events kept there may have to wait")
        }
        (free, true) if free < reserve => {
            Check::failed(name, why, "free some space; new tasks are refused until then")
        }
        (_, true) => Check::warning(name, why, "free some space before new tasks are refused"),
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

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_disk_fails_where_stores_refuse_tasks() {
        for (mebibytes, has_tasks, expected) in [
            (63, true, State::Failed),
            (64, true, State::Warning),
            (80, true, State::Warning),
            (900, true, State::Warning),
            (1024, true, State::Good),
            (63, false, State::Warning),
            (80, false, State::Warning),
            (900, false, State::Warning),
            (1024, false, State::Good),
        ] {
            let check = of_room(mebibytes << 20, "/", has_tasks);
            assert_eq!(check.state, expected, "{mebibytes} MiB, tasks: {has_tasks}");
            assert!(has_tasks || !check.fix.contains("tasks"), "{}", check.fix);
        }
    }
}
