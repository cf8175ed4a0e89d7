//! Segments: objects of lines, one for each hour of what was written together, and never changed.
//!
//! A segment is called `UUID-NODE-COUNT.ndjson`: the UUID is of version 7, so names sort by when they were written,
//! whoever wrote them; NODE is the host; COUNT is how many events there are in it.

use omniq_model::{TaskEvent, TaskId, Timestamp};

use super::hour::Hour;
use super::line;
use crate::Result;
use crate::object::objects::{part, random};

/// What the hours of a batch of events are kept as, ready to be written.
pub(super) fn segments<'a>(
    now: Timestamp,
    node: &str,
    events: impl IntoIterator<Item = &'a TaskEvent>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut hours: std::collections::BTreeMap<Hour, (Vec<u8>, usize)> = Default::default();
    for event in events {
        let (lines, count) = hours.entry(Hour::of(event.at)).or_default();
        lines.extend_from_slice(line::encode(event).as_bytes());
        *count += 1;
    }
    let named = |(hour, (lines, count)): (Hour, (Vec<u8>, usize))| {
        let id = TaskId::new(now, random()?);
        Ok((format!("{}/{id}-{node}-{count}.ndjson", hour.folder()), lines))
    };
    hours.into_iter().map(named).collect()
}

/// What tells which of two segments was written first: the last part of the name.
pub(super) fn order(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Whether it is a segment and not something else that somebody put there.
pub(super) fn is_segment(name: &str) -> bool {
    name.ends_with(".ndjson")
}

/// How many events are in a segment.
pub(super) fn count(name: &str) -> usize {
    let count = name.strip_suffix(".ndjson").and_then(|name| name.rsplit('-').next());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// What this host is called, for names of segments.
pub(super) fn node() -> String {
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let mut node = part(host.as_deref().unwrap_or_default().trim());
    node.truncate(40); // it is ASCII
    if node.is_empty() { "host".to_owned() } else { node }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniq_model::EventKind;

    #[test]
    fn each_hour_has_a_segment_and_its_name_tells_how_many() {
        let at = |millis| TaskEvent {
            task: TaskId::derived(&[b"t"]),
            fence: 1,
            kind: EventKind::Started,
            at: Timestamp::from_millis(millis),
            lane: Default::default(),
            attempt: 1,
            session: None,
            error: None,
            micros: 0,
            missing: 0,
            what: String::new(),
            began: None,
            unknown: Default::default(),
        };
        let events = [at(10), at(3_600_000), at(20)];
        let now = Timestamp::from_millis(1_700_000_000_000);
        let segments = segments(now, &node(), &events).unwrap();
        let found: Vec<_> = segments.iter().map(|(name, _)| (&name[..25], count(name))).collect();
        assert_eq!(found, [("events/dt=1970-01-01/h=00", 2), ("events/dt=1970-01-01/h=01", 1)]);
        assert!(segments.iter().all(|(name, _)| is_segment(name)));
        assert!(order(&segments[0].0).starts_with("018bcfe5-6800-7"));
        assert_eq!(count("events/x.ndjson"), 0);
    }
}
