//! The stores: whether they answer, keep what they promise, and agree on the time.

use std::time::{Duration, Instant};

use omniq::config::{Config, Durability, StorageKind};
use omniq::{Filter, State as TaskState, Stores, Timestamp};

use super::Check;
use crate::output::problem::chain;
use crate::output::{report, tasks};
use crate::queue;

/// How slow an answer may be before somebody should know.
const SLOW: Duration = Duration::from_millis(500);
/// How far the store's clock may be from ours.
const SKEW: Duration = Duration::from_secs(1);

/// All checks of stores. Nothing is made that is not there.
pub async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![durability(config)];
    match queue::file_of(config) {
        Some(path) if !path.exists() => {
            let why = format!(
                "`{}` is not there yet: `push`, `dev` and `worker` make it",
                path.display()
            );
            checks.push(Check::good("tasks", why));
            return checks;
        }
        _ => {}
    }
    let stores = match Stores::open(config).await {
        Ok(stores) => stores,
        Err(error) => {
            let why = chain(&error);
            checks.push(Check::failed(
                "stores",
                why,
                "see that the place is there, readable and writable by this user",
            ));
            return checks;
        }
    };
    checks.extend(of_tasks(&stores).await);
    checks.push(reachable("modules", stores.modules.list()).await);
    if let Some(results) = &stores.results {
        checks.push(reachable("results", results.get(&[])).await);
    }
    if let Some(events) = &stores.events {
        checks.push(reachable("events", events.watermark()).await);
    }
    // What cannot be closed was not written to.
    let _ = stores.tasks.close().await;
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

async fn of_tasks(stores: &Stores) -> Vec<Check> {
    let began = Instant::now();
    let now = stores.tasks.now().await;
    let counts = stores.tasks.count(&Filter::default()).await;
    let took = began.elapsed();
    let fix = "the store does not answer; see that its file is whole and its disk works";
    let (now, counts) = match (now, counts) {
        (Ok(now), Ok(counts)) => (now, counts),
        (Err(error), _) | (_, Err(error)) => {
            return vec![Check::failed("tasks", chain(&error), fix)];
        }
    };
    let of = |state: TaskState| counts.get(&state).copied().unwrap_or(0);
    let (ready, running, failed) =
        (of(TaskState::Ready), of(TaskState::Running), of(TaskState::Failed));
    let why = format!(
        "{ready} ready, {running} running, {failed} failed; answered in {}",
        report::span(took)
    );
    let tasks = if took > SLOW {
        Check::warning("tasks", why, "the disk or the machine is slow, or very much else goes on")
    } else {
        Check::good("tasks", why)
    };
    vec![tasks, skew(now)]
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

async fn reachable<T>(
    name: &'static str,
    question: impl Future<Output = omniq_store::Result<T>>,
) -> Check {
    let began = Instant::now();
    match question.await {
        Ok(_) => Check::good(name, format!("answered in {}", report::span(began.elapsed()))),
        Err(error) => {
            Check::failed(name, chain(&error), "see that its place is there and readable")
        }
    }
}
