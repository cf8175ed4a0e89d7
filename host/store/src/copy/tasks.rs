//! Tasks with the values of their results: values first, so that no record refers to what is not there.

use omniq_model::{Payload, Span, State, Stored, TaskId, Timestamp, Value};

use super::{Copied, Copy, Left, PAGE, Phase, Progress};
use crate::{Filter, Imported, Result, ResultKey, Select, StagedResult, TaskCopy};

/// Bytes of values that are moved at once.
const VALUE_BYTES: u64 = 16 << 20;

impl Copy {
    pub(super) async fn tasks(
        &self,
        copied: &mut Copied,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let of = self.from.tasks.count(&Filter::default()).await?.values().sum();
        let mut after = None;
        loop {
            let mut page = self.from.admin()?.export(after, PAGE).await?;
            self.values(&mut page.items, copied).await?;
            self.land(page.items, copied).await?;
            tell(Progress { phase: Phase::Tasks, done: copied.tasks, of: Some(of) });
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn land(&self, tasks: Vec<TaskCopy>, copied: &mut Copied) -> Result<()> {
        let known: Vec<(TaskId, State, bool)> = tasks
            .iter()
            .map(|copy| (copy.info.id, copy.info.head.state, copy.info.head.cancel_requested))
            .collect();
        let answers = self.to.admin()?.import(tasks).await?;
        let mut called_off = Vec::new();
        for ((id, state, cancel_requested), answer) in known.into_iter().zip(answers) {
            match answer {
                Imported::Created | Imported::There => copied.tasks += 1,
                Imported::KeyTaken(holder) => copied.left.push(Left::KeyTaken(id, holder)),
                Imported::Unreadable => copied.left.push(Left::Unreadable(id)),
            }
            copied.tasks_there += u64::from(answer == Imported::There);
            let landed = matches!(answer, Imported::Created | Imported::There);
            if landed && state == State::Running {
                copied.released += 1;
                if cancel_requested {
                    called_off.push(id);
                }
            }
        }
        if !called_off.is_empty() {
            // Its worker was to stop; here nobody has begun.
            let max = called_off.len();
            let filter = Filter { ids: called_off, ..Filter::default() };
            self.to.tasks.cancel(&Select { filter, max }).await?;
        }
        Ok(())
    }

    /// Moves the values of results that are kept apart from their tasks; into the records, where nothing else is there.
    async fn values(&self, tasks: &mut [TaskCopy], copied: &mut Copied) -> Result<()> {
        let Some(from) = &self.from.results else { return Ok(()) };
        let now = self.to.tasks.now().await?;
        let mut rest = tasks;
        while !rest.is_empty() {
            let (now_moved, later) = rest.split_at_mut(some_of(rest));
            rest = later;
            let wanted: Vec<(usize, ResultKey)> = now_moved
                .iter()
                .enumerate()
                .filter_map(|(index, copy)| Some((index, key(copy)?)))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let keys: Vec<ResultKey> = wanted.iter().map(|(_, key)| *key).collect();
            let mut staged = Vec::new();
            for ((index, key), value) in wanted.into_iter().zip(from.get(&keys).await?) {
                let Some(value) = value else {
                    copied.left.push(Left::Value(key.task));
                    continue;
                };
                copied.values += 1;
                let copy = &mut now_moved[index];
                match &self.to.results {
                    None => put_inside(copy, value),
                    Some(_) => staged.push(StagedResult { key, value, ttl: left_of(copy, now) }),
                }
            }
            if let Some(to) = &self.to.results
                && !staged.is_empty()
            {
                to.put(staged).await?;
            }
        }
        Ok(())
    }
}

/// How many of these tasks together have values that fit into memory; at least one.
fn some_of(tasks: &[TaskCopy]) -> usize {
    let mut bytes = 0;
    let fits = tasks.iter().position(|copy| {
        bytes += stored(copy).map_or(0, |stored| stored.size);
        bytes > VALUE_BYTES
    });
    fits.unwrap_or(tasks.len()).max(1)
}

/// Where a task's value is kept, if that is apart from its record.
pub(super) fn stored(copy: &TaskCopy) -> Option<&Stored> {
    match copy.info.head.result.as_ref()?.value.as_ref()? {
        Value::Stored(stored) => Some(stored),
        Value::Inline(_) => None,
    }
}

pub(super) fn key(copy: &TaskCopy) -> Option<ResultKey> {
    Some(ResultKey { task: copy.info.id, token: stored(copy)?.token })
}

fn put_inside(copy: &mut TaskCopy, value: Payload) {
    if let Some(result) = &mut copy.info.head.result {
        result.value = Some(Value::Inline(value));
    }
}

/// How long a task's value is still to be kept.
fn left_of(copy: &TaskCopy, now: Timestamp) -> Span {
    let ttl = copy.info.task.as_ref().map_or(Span::ZERO, |task| task.result_ttl);
    let until = copy.info.head.finished.map_or(now, |finished| finished + ttl.get());
    Span::from(until.since(now))
}
