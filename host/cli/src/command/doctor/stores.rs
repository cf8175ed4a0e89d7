//! The stores: whether they answer, keep what they promise, and agree on the time.

use std::time::Duration;

use omniq::Timestamp;
use omniq::config::{Config, Durability, StorageKind};
use omniq_store::guard::Condition;

use super::Check;
use crate::command::storage::look::{Answers, Place, Seen, level, look, places, rank};
use crate::output::{report, tasks};

/// How slow an answer may be before somebody should know.
const SLOW: Duration = Duration::from_millis(500);
/// How far the store's clock may be from ours.
const SKEW: Duration = Duration::from_secs(1);

/// All checks of stores. Nothing is made that is not there, and one that fails hides no other.
pub async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![durability(config)];
    for place in places(config) {
        match look(&place, config).await {
            Seen::Absent => checks.push(absent(&place)),
            Seen::Failed { why, fix } => checks.push(Check::failed(place.role, why, fix)),
            Seen::Answers(answers) => checks.extend(of_answers(&place, &answers, config)),
        }
    }
    checks
}

fn durability(config: &Config) -> Check {
    let name = "durability";
    match (config.tasks.kind, config.storage.durability) {
        (StorageKind::Memory, _) => Check::warning(
            name,
            "tasks are in memory, and gone with the process",
            "name a file, such as `OMNIQ_TASK_STORAGE_URL=sqlite:omniq.db`",
        ),
        (_, Durability::Disk) => Check::good(name, "an answered write survives a power failure"),
        (_, Durability::Os) => Check::warning(
            name,
            "an answered write survives a crash of the process, not one of the machine",
            "set `OMNIQ_DURABILITY=disk` where that matters",
        ),
        (_, Durability::None) => Check::warning(
            name,
            "an answered write may be lost",
            "set `OMNIQ_DURABILITY=disk` where that matters",
        ),
    }
}

fn absent(place: &Place) -> Check {
    let why = format!("`{}` is not there yet: `push`, `dev` and `worker` make it", place.url);
    Check::good(place.role, why)
}

fn of_answers(place: &Place, answers: &Answers, config: &Config) -> Vec<Check> {
    let mut checks = vec![answered(place, answers)];
    if let Some(report) = &answers.report {
        let asked = config.storage.durability.into();
        if rank(report.durability) < rank(asked) && place.kind != StorageKind::Memory {
            let why = format!(
                "`{}` promises `{}`, and `{}` was asked for",
                place.url,
                level(report.durability),
                level(asked)
            );
            let fix = "set the server up as the lines below say, or ask for less with `storage.durability`";
            checks.push(Check::failed(place.role, why, fix));
        }
        // What memory lacks, and what was asked for, is said under `durability`.
        let new = report.weaker.iter().filter(|_| place.kind != StorageKind::Memory);
        let new = new.filter(|weakness| !weakness.next.contains("OMNIQ_DURABILITY"));
        checks
            .extend(new.map(|weakness| Check::warning(place.role, &weakness.what, &weakness.next)));
    }
    checks.extend(answers.now.map(skew));
    checks
}

fn answered(place: &Place, answers: &Answers) -> Check {
    let what = match &answers.report {
        Some(report) => report.version.clone(),
        None => answers.backend.to_owned(),
    };
    let why = format!("{what} in `{}` answered in {}", place.url, report::span(answers.took));
    let rests = answers.guard.as_ref().filter(|state| state.condition != Condition::Closed);
    if let Some(state) = rests {
        let error = state.last_error.as_deref().unwrap_or("it does not answer");
        let why = format!("it is left alone for {}: {error}", report::span(state.since));
        return Check::warning(place.role, why, "see that its server runs, and look again");
    }
    if answers.took > SLOW {
        let fix = "the disk, the network or the server is slow, or very much else goes on";
        return Check::warning(place.role, why, fix);
    }
    Check::good(place.role, why)
}

fn skew(now: Timestamp) -> Check {
    let ours = tasks::now();
    let apart = ours.since(now).max(now.since(ours));
    let why = format!("the clock of the task store is {} from ours", report::span(apart));
    if apart > SKEW {
        return Check::warning(
            "clocks",
            why,
            "set both clocks by the same source; the store's counts",
        );
    }
    Check::good("clocks", why)
}
