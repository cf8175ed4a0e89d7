//! What tasks have to do with each other and with time: dependencies, unique keys, schedules. By the records.

use std::collections::HashMap;

use omniq_model::{OnParentFailure, Scope, State, Task, TaskId, Timestamp};
use omniq_store::Info;

use super::entry::What;
use super::story::{Stories, Story};
use super::verdict::{Law, Verdict};

pub(super) fn check(stories: &Stories<'_>, verdict: &mut Verdict) {
    for (id, story) in &stories.tasks {
        let (Some(record), Some(task)) = (story.record, story.task()) else { continue };
        check_start(*id, story, record, task, verdict);
        check_parents(*id, story, record, task, stories, verdict);
    }
    check_keys(stories, verdict);
}

/// The earliest instant by which an attempt had surely begun.
fn first_start(story: &Story<'_>, record: &Info) -> Option<Timestamp> {
    let seen = story.entries.iter().filter_map(|entry| match entry.what {
        What::Claim { .. } => entry.store.map(|(_, after)| after),
        _ => None,
    });
    seen.chain(record.head.started).min()
}

fn check_start(id: TaskId, story: &Story<'_>, record: &Info, task: &Task, verdict: &mut Verdict) {
    let due = task.starts_at(record.head.created);
    if story.new_lives() > 0 {
        return; // a life that somebody gave it by hand starts when they like
    }
    if let Some(start) = first_start(story, record)
        && start < due
    {
        let what = format!("it began by {}, and was due at {}", start.as_millis(), due.as_millis());
        verdict.breaks(Law::NotTooEarly, id, what);
    }
}

fn check_parents(
    id: TaskId,
    story: &Story<'_>,
    record: &Info,
    task: &Task,
    stories: &Stories<'_>,
    verdict: &mut Verdict,
) {
    let start = first_start(story, record);
    let mut all_ended = !task.after.is_empty();
    for parent in &task.after {
        let Some(held) = stories.record(*parent) else { continue };
        all_ended &= held.head.state.is_terminal();
        let revived = stories.tasks.get(parent).is_some_and(|story| story.new_lives() > 0);
        if revived || story.new_lives() > 0 {
            continue;
        }
        let early = start.is_some_and(|start| held.head.finished.is_none_or(|end| start < end));
        if early {
            verdict.breaks(Law::Dependencies, id, format!("it began before {parent} had ended"));
        }
        let failed = held.head.state.is_terminal() && held.head.state != State::Succeeded;
        if failed && task.on_parent_failure == OnParentFailure::Cancel && start.is_some() {
            let what = format!("it ran, although {parent} is {}", held.head.state);
            verdict.breaks(Law::Dependencies, id, what);
        }
    }
    if all_ended && record.head.state == State::Blocked {
        let what = "it is blocked, and all it waits for has ended";
        verdict.breaks(Law::Dependencies, id, what.into());
    }
}

/// From when to when which task lived.
type Life = (Timestamp, Timestamp, TaskId);

/// Keys that are held until the task has ended: the lives of their holders must not overlap.
fn check_keys(stories: &Stories<'_>, verdict: &mut Verdict) {
    let mut holders: HashMap<_, Vec<Life>> = HashMap::new();
    for (id, story) in &stories.tasks {
        let (Some(record), Some(task)) = (story.record, story.task()) else { continue };
        let Some(unique) = &task.unique else { continue };
        if unique.scope == Scope::UntilFinished && story.new_lives() == 0 {
            let end = record.head.finished.unwrap_or(Timestamp::from_millis(i64::MAX));
            let key = (task.lane.tenant.as_str(), unique.key.as_str());
            holders.entry(key).or_default().push((record.head.created, end, *id));
        }
    }
    for ((_, key), mut lives) in holders {
        lives.sort_unstable();
        for pair in lives.windows(2) {
            if pair[1].0 < pair[0].1 {
                let what = format!("it has the key `{key}`, and so had {} then", pair[0].2);
                verdict.breaks(Law::UniqueKeys, pair[1].2, what);
            }
        }
    }
}
