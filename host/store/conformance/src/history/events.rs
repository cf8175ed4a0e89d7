//! Runs of which only the stores know: their events and their records.

use std::collections::HashMap;

use omniq_model::{EventKind, State, TaskEvent, TaskId, Token};
use omniq_store::Info;

use super::check;
use super::entry::Entry;
use super::verdict::{Law, Verdict};

/// Checks a run of several processes by what they left: `offers` from the producers ([`Entry::acked`] and
/// [`Entry::unknown`], or whatever else clients wrote down), the event log after its repair, the records after the drain.
///
/// Beside all that [`check`] does, every task that has ended must have exactly one event of its end.
pub fn check_events(offers: &[Entry], events: &[TaskEvent], records: &[Info]) -> Verdict {
    let mut entries = offers.to_vec();
    entries.extend(events.iter().filter_map(entry));
    let mut verdict = check(&entries, records);
    let mut ends: HashMap<TaskId, Vec<&TaskEvent>> = HashMap::new();
    let mut revived: HashMap<TaskId, usize> = HashMap::new();
    for event in events {
        if state_of(event.kind).is_some() {
            ends.entry(event.task).or_default().push(event);
        } else if event.kind == EventKind::Retried {
            *revived.entry(event.task).or_default() += 1;
        }
    }
    for record in records {
        let ends = ends.remove(&record.id).unwrap_or_default();
        let lives = 1 + revived.get(&record.id).copied().unwrap_or_default();
        check_record(record, &ends, lives, &mut verdict);
    }
    verdict.finish()
}

fn check_record(record: &Info, ends: &[&TaskEvent], lives: usize, verdict: &mut Verdict) {
    let head = &record.head;
    let right = |event: &&&TaskEvent| {
        event.fence == head.fence && EventKind::of_end(head.state) == Some(event.kind)
    };
    let told = ends.iter().filter(right).count();
    if head.state.is_terminal() && told != 1 {
        let what =
            format!("it is {} by fence {}, and {told} events say so", head.state, head.fence);
        verdict.breaks(Law::EventsComplete, record.id, what);
    }
    if ends.len() > lives {
        let kinds: Vec<_> = ends.iter().map(|event| (event.kind.name(), event.fence)).collect();
        verdict.breaks(Law::EventsComplete, record.id, format!("it has several ends: {kinds:?}"));
    }
}

fn state_of(kind: EventKind) -> Option<State> {
    State::ALL.iter().copied().find(|state| EventKind::of_end(*state) == Some(kind))
}

/// What an event says, if it is about a claim or its end.
fn entry(event: &TaskEvent) -> Option<Entry> {
    // Events do not carry the nonce; the fence alone tells tokens of a store apart that never lost a write.
    let token = Token { fence: event.fence, nonce: 0 };
    let TaskEvent { task, fence, at, .. } = *event;
    match event.kind {
        EventKind::Started => Some(Entry::started(task, token, event.attempt, at)),
        EventKind::Retrying => Some(Entry::ended(task, token, State::Scheduled, at)),
        EventKind::Released => Some(Entry::ended(task, token, State::Ready, at)),
        EventKind::LeaseLost => Some(Entry::moved(task, fence, State::Running, State::Ready, at)),
        // From which end it was taken back is not on the event; all ends but success allow it.
        EventKind::Retried => Some(Entry::moved(task, fence, State::Failed, State::Ready, at)),
        EventKind::Succeeded => Some(Entry::ended(task, token, State::Succeeded, at)),
        EventKind::Failed => Some(Entry::ended(task, token, State::Failed, at)),
        // Perhaps between two attempts, so it is no commit by the token.
        EventKind::Cancelled => Some(Entry::moved(task, fence, State::Ready, State::Cancelled, at)),
        _ => None,
    }
}
