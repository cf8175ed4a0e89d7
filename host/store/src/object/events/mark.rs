//! How far the repair has come: the highest of the names in `events/mark`.
//!
//! A mark is an object without content whose name is an instant and a task. It never goes back, whoever writes: a lower
//! one is not the highest. Lower ones are deleted behind a new one.

use bytes::Bytes;
use omniq_model::{TaskId, Timestamp};

use crate::Result;
use crate::object::objects::Objects;

const FOLDER: &str = "events/mark";

pub(super) type Mark = (Timestamp, TaskId);

/// The highest mark.
pub(super) async fn read(objects: &Objects) -> Result<Mark> {
    let names = objects.list(FOLDER, "read the watermark").await?;
    // No task has the lowest of all ids: it is no UUID that anybody makes.
    let start = (Timestamp::from_millis(i64::MIN), TaskId::from_bytes([0; 16]));
    Ok(names.iter().filter_map(|name| parse(name)).max().unwrap_or(start))
}

/// Writes a mark, if it is higher than what is there.
pub(super) async fn write(objects: &Objects, mark: Mark) -> Result<()> {
    const ACTION: &str = "move the watermark";
    let names = objects.list(FOLDER, ACTION).await?;
    if names.iter().filter_map(|name| parse(name)).any(|there| there >= mark) {
        return Ok(());
    }
    objects.create(&name(mark), Bytes::new(), ACTION).await?;
    let lower = names.into_iter().filter(|name| parse(name).is_some_and(|there| there < mark));
    objects.delete_all(lower, ACTION).await
}

fn name((at, task): Mark) -> String {
    // The order of numbers without sign is that of their digits.
    let at = at.as_millis().cast_unsigned() ^ 1 << 63;
    format!("{FOLDER}/{at:020}-{task}")
}

fn parse(name: &str) -> Option<Mark> {
    let (at, task) = name.rsplit('/').next()?.split_once('-')?;
    let at = (at.parse::<u64>().ok()? ^ 1 << 63).cast_signed();
    Some((Timestamp::from_millis(at), task.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_marks_do_and_come_back() {
        let (low, high) = (TaskId::from_bytes([0; 16]), TaskId::from_bytes([0xff; 16]));
        let marks = [i64::MIN, -1, 0, 1, i64::MAX]
            .into_iter()
            .flat_map(|at| [low, high].map(|task| (Timestamp::from_millis(at), task)));
        let names: Vec<_> = marks.map(|mark| (name(mark), mark)).collect();
        assert!(names.is_sorted());
        for (name, mark) in names {
            assert_eq!(parse(&name), Some(mark));
        }
        assert_eq!(parse("events/mark/x"), None);
    }
}
