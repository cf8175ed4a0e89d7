//! Reads events hour by hour: what was written twice is given once, in the order of time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use omniq_model::{EventKind, TaskEvent, TaskId, Timestamp};

use super::hour::{Hour, LAST};
use super::line::{self, Identity, identity};
use super::segment;
use crate::object::objects::{Objects, WIDTH};
use crate::{Error, EventFilter, Result};

const ACTION: &str = "read events";

/// How far apart in time the same event may have been written and is known for the same: whoever ends a task and
/// whoever repairs the log may read different clocks, and may so write to two hours.
pub(super) const APART: Duration = Duration::from_secs(60);

/// What an event takes in memory beside its line.
const OVERHEAD: usize = 400;

/// An event and the line it came from.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub event: TaskEvent,
    pub line: Bytes,
    /// When it was written, relative to others.
    written: (String, usize),
}

impl Found {
    /// With its line apart from its segment, which would stay in memory as long as any line of it.
    fn alone(self) -> Self {
        Self { line: Bytes::copy_from_slice(&self.line), ..self }
    }
}

/// Reads the hours of a filter, one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    objects: &'a Objects,
    filter: &'a EventFilter,
    /// Bytes that one hour may take in memory.
    memory: usize,
    /// The hours there are, the latest first, and one behind the last that is asked for.
    hours: Vec<Hour>,
    last: Hour,
    /// The hour after the one that was given last, if it had to be read already.
    ahead: Option<(Hour, Vec<Found>)>,
    /// What was written in the last moments of the hour before.
    behind: HashMap<Identity, (String, usize)>,
}

impl<'a> Reader<'a> {
    /// Begins with the hour of `begin`, which may be later than the filter's.
    pub async fn new(
        objects: &'a Objects,
        filter: &'a EventFilter,
        begin: Option<Timestamp>,
        memory: usize,
    ) -> Result<Self> {
        let first = begin.max(filter.from).max(born(filter.task));
        let first = Hour::of(first.unwrap_or(Timestamp::from_millis(0)));
        let last = Hour::of(filter.to.unwrap_or(Timestamp::from_millis(LAST)));
        let before = Hour::of(first.begin() - APART);
        let mut hours = hours(objects, before, Hour::of(last.end())).await?;
        hours.reverse();
        let behind = HashMap::new();
        let mut reader = Self { objects, filter, memory, hours, last, ahead: None, behind };
        if before < first && reader.hours.last() == Some(&before) {
            reader.hours.pop();
            let found = reader.read(before).await?;
            reader.look_back(before, &found);
        }
        Ok(reader)
    }

    /// The events of the next hour in the order of time; `None` when there is none left.
    pub async fn next(&mut self) -> Result<Option<Vec<Found>>> {
        let Some(hour) = self.hours.pop().filter(|hour| *hour <= self.last) else {
            return Ok(None);
        };
        let mut found = match self.ahead.take() {
            Some((read, found)) if read == hour => found,
            _ => self.read(hour).await?,
        };
        let after = Hour::of(hour.end());
        let ahead = match self.hours.last() {
            Some(next) if *next == after => self.read(after).await?,
            _ => Vec::new(),
        };
        let early = ahead.iter().filter(|found| found.event.at < after.begin() + APART);
        let early: HashMap<_, _> =
            early.map(|found| (identity(&found.event), &found.written)).collect();
        let behind = std::mem::take(&mut self.behind);
        self.look_back(hour, &found);
        found.retain(|found| {
            let identity = identity(&found.event);
            let others = [behind.get(&identity), early.get(&identity).copied()];
            others.into_iter().flatten().all(|other| found.written < *other)
        });
        drop(early);
        self.ahead = Some((after, ahead));
        found.sort_by_key(|found| (found.event.at, hash(&found.event), identity(&found.event)));
        Ok(Some(found))
    }

    /// Remembers what may be in the hour after `hour` once more.
    fn look_back(&mut self, hour: Hour, found: &[Found]) {
        let late = found.iter().filter(|found| found.event.at >= hour.end() - APART);
        self.behind = late.map(|found| (identity(&found.event), found.written.clone())).collect();
    }

    /// All events of an hour that may fit, each once.
    async fn read(&self, hour: Hour) -> Result<Vec<Found>> {
        let names = self.objects.list(&hour.folder(), ACTION).await?;
        let names = names.into_iter().filter(|name| segment::is_segment(name));
        let segments = names.map(|name| async move {
            let bytes = self.objects.get(&name, ACTION).await?;
            Ok::<_, Error>((name, bytes.unwrap_or_default())) // gone: it was too old
        });
        let mut segments = stream::iter(segments).buffer_unordered(WIDTH);
        let (mut all, mut size) = (HashMap::<Identity, Found>::new(), 0);
        while let Some((name, bytes)) = segments.try_next().await? {
            for found in lines(hour, segment::order(&name), &bytes) {
                if !self.may_fit(&found.event) {
                    continue;
                }
                match all.entry(identity(&found.event)) {
                    Entry::Vacant(place) => {
                        size += found.line.len() + OVERHEAD;
                        if size > self.memory {
                            return Err(self.too_much(hour));
                        }
                        place.insert(found.alone());
                    }
                    Entry::Occupied(mut first) if found.written < first.get().written => {
                        first.insert(found.alone());
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// Whether an event is of the filter's task and kinds. Its time is looked at later: the first of several that are
    /// the same counts.
    fn may_fit(&self, event: &TaskEvent) -> bool {
        let EventFilter { task, kinds, .. } = self.filter;
        task.is_none_or(|task| task == event.task)
            && (kinds.is_empty() || kinds.contains(&event.kind))
    }

    fn too_much(&self, hour: Hour) -> Error {
        Error::Config(format!(
            "the events in `{}` of {} take more than {} MiB of memory; ask for one task or one kind, or read the files with DuckDB",
            hour.folder(),
            self.objects.root.shown,
            self.memory >> 20
        ))
    }
}

/// The hours there are between two, both included, in order.
pub(super) async fn hours(objects: &Objects, from: Hour, to: Hour) -> Result<Vec<Hour>> {
    let mut hours = Vec::new();
    for day in objects.folders("events", ACTION).await? {
        if !Hour::in_day(&day, from, to) {
            continue;
        }
        let folders = objects.folders(&format!("events/{day}"), ACTION).await?;
        let found = folders.iter().filter_map(|hour| Hour::parse(&day, hour));
        hours.extend(found.filter(|hour| (from..=to).contains(hour)));
    }
    hours.sort_unstable();
    Ok(hours)
}

/// The events of a segment. A line that cannot be read is a gap of one event.
fn lines(hour: Hour, order: &str, bytes: &Bytes) -> impl Iterator<Item = Found> {
    let starts = std::iter::once(0).chain(
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1),
    );
    let starts: Vec<usize> = starts.chain([bytes.len()]).collect();
    let line = move |(index, (start, end)): (usize, (usize, usize))| {
        let line = bytes.slice(start..end);
        (!line.trim_ascii().is_empty()).then(|| {
            let event =
                line::decode(&line).unwrap_or_else(|reason| gap(hour, order, index, &reason));
            Found { event, line, written: (order.to_owned(), index) }
        })
    };
    let pairs: Vec<_> = starts.iter().copied().zip(starts.iter().copied().skip(1)).collect();
    let found: Vec<_> = pairs.into_iter().enumerate().filter_map(line).collect();
    found.into_iter()
}

/// What stands for a line that cannot be read.
fn gap(hour: Hour, order: &str, index: usize, reason: &str) -> TaskEvent {
    let line = (index as u64).to_be_bytes();
    TaskEvent {
        task: TaskId::derived(&[b"unreadable", order.as_bytes(), &line]),
        fence: 0,
        kind: EventKind::Gap,
        at: hour.begin(),
        lane: Default::default(),
        attempt: 0,
        session: None,
        error: None,
        micros: 0,
        missing: 1,
        what: format!("line {} of {order}: {reason}", index + 1),
        began: None,
        unknown: Default::default(),
    }
}

/// When a task's first event can be at the earliest, for ids that tell: its maker's clock may be a day ahead.
fn born(task: Option<TaskId>) -> Option<Timestamp> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let bytes = *task?.as_bytes();
    let is_version_7 = bytes[6] >> 4 == 7;
    let millis = bytes[..6].iter().fold(0, |millis: i64, byte| millis << 8 | i64::from(*byte));
    is_version_7.then(|| Timestamp::from_millis(millis) - DAY)
}

const TIE: u32 = 20;

/// What orders events of the same instant, the same for every reader: 14 bits of a hash (FNV-1a) of the task, two of the
/// fence and four of the kind. What happens to a task within a millisecond is so in its order, and hardly ever shares
/// its bits with anything else.
fn tie(event: &TaskEvent) -> u64 {
    hash(event) << 6 | (event.fence & 3) << 4 | u64::from(event.kind.number() & 15)
}

fn hash(event: &TaskEvent) -> u64 {
    let hash = event.task.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32) & ((1 << (TIE - 6)) - 1)
}

/// The position of an event that comes after `last`: its time and what orders it there; one more than the last one's
/// where that is the same.
pub(super) fn position(event: &TaskEvent, last: Option<u64>) -> u64 {
    let millis = event.at.as_millis().clamp(0, LAST).cast_unsigned();
    (millis << TIE | tie(event)).max(last.map_or(0, |last| last.saturating_add(1)))
}

/// When the event at a position was.
pub(super) fn time_of(position: u64) -> Timestamp {
    Timestamp::from_millis((position >> TIE).cast_signed().min(LAST))
}
