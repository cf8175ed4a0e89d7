//! Compares both sides task by task, with the values of their results.

use std::collections::HashSet;

use omniq_model::{Payload, State, TaskId, Value};

use super::tasks::key;
use super::{Comparison, Copy, PAGE, Phase, Progress, Side};
use crate::{Filter, Info, Result, TaskCopy};

/// How many tasks that differ are named.
const NAMED: usize = 100;

impl Copy {
    /// Compares every task of the side that was copied from with what is there now on the other.
    ///
    /// # Errors
    /// What a store says.
    pub async fn compare(&self, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<Comparison> {
        let of = self.from.tasks.count(&Filter::default()).await?.values().sum();
        let mut comparison = Comparison::default();
        let mut called_off = HashSet::new();
        let (mut after, mut done) = (None, 0);
        loop {
            let page = self.from.admin()?.export(after, PAGE).await?;
            done += page.items.len() as u64;
            self.compare_page(page.items, &mut called_off, &mut comparison).await?;
            tell(Progress { phase: Phase::Comparing, done, of: Some(of) });
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(comparison),
            }
        }
    }

    async fn compare_page(
        &self,
        page: Vec<TaskCopy>,
        called_off: &mut HashSet<TaskId>,
        comparison: &mut Comparison,
    ) -> Result<()> {
        let ids: Vec<_> = page.iter().map(|copy| copy.info.id).collect();
        let there = self.to.tasks.get(&ids).await?;
        for (copy, there) in page.into_iter().zip(there) {
            let id = copy.info.id;
            let Some(there) = there else {
                comparison.unequal += 1;
                if comparison.missing.len() < NAMED {
                    comparison.missing.push(id);
                }
                continue;
            };
            if is_called_off(&copy, called_off) {
                called_off.insert(id);
                comparison.settled += 1;
                continue;
            }
            let difference = match difference(&copy, &there) {
                None => self.compare_values(&copy, &there).await?,
                found => found,
            };
            match difference {
                None => comparison.same += 1,
                Some(what) => {
                    comparison.unequal += 1;
                    if comparison.different.len() < NAMED {
                        comparison.different.push((id, what));
                    }
                }
            }
        }
        Ok(())
    }

    async fn compare_values(&self, copy: &TaskCopy, there: &Info) -> Result<Option<&'static str>> {
        let there = TaskCopy { info: there.clone(), expires: None, holds_key: false };
        if key(copy).is_none() && key(&there).is_none() {
            return Ok(None); // they are in the records, which are the same
        }
        let (one, other) = (self.from.value(copy).await?, self.to.value(&there).await?);
        Ok((one != other).then_some("the value of its result"))
    }
}

impl Side {
    async fn value(&self, copy: &TaskCopy) -> Result<Option<Payload>> {
        if let Some(key) = key(copy) {
            let Some(results) = &self.results else { return Ok(None) };
            return Ok(results.get(&[key]).await?.pop().flatten());
        }
        let result = copy.info.head.result.as_ref();
        Ok(match result.and_then(|result| result.value.clone()) {
            Some(Value::Inline(value)) => Some(value),
            _ => None,
        })
    }
}

/// Whether a task was to be stopped, or waits for one that was: parents come before their children.
fn is_called_off(copy: &TaskCopy, called_off: &HashSet<TaskId>) -> bool {
    let head = &copy.info.head;
    match (&copy.info.task, head.state) {
        (_, State::Running) => head.cancel_requested,
        (Ok(task), State::Blocked) => task.after.iter().any(|parent| called_off.contains(parent)),
        _ => false,
    }
}

/// In what a task is not as it should have landed.
fn difference(copy: &TaskCopy, there: &Info) -> Option<&'static str> {
    let landed = copy.clone().landed().info;
    let (mut head, mut other) = (landed.head, there.head.clone());
    if landed.lane != there.lane {
        return Some("its lane");
    }
    match (&landed.task, &there.task) {
        (Ok(task), Ok(there)) if task.encode() == there.encode() => {}
        _ => return Some("what was asked for"),
    }
    (head.seq, other.seq) = (0, 0); // places of their own
    for head in [&mut head, &mut other] {
        // Where it is kept may differ; the value itself is compared apart.
        if let Some(result) = &mut head.result
            && result.value.is_some()
        {
            result.value = Some(Value::Inline(Payload::raw([])));
        }
    }
    if head.state != other.state {
        return Some("its state");
    }
    (head != other).then_some("what happened to it")
}
