//! How attempts end.

use std::collections::HashMap;

use omniq_model::{Kind, State, TaskError, TaskId, Timestamp, record};
use sqlx::Row;

use super::fault::Result;
use super::live::{Live, live, nonce, state, task_id};
use super::pack::{packed, packed_ids};
use super::plan::Plan;
use super::tx::Tx;
use crate::{End, Finished, How};

/// One end, its result in its stored form.
#[derive(Debug)]
pub(super) struct RawEnd {
    pub end: End,
    pub result: Vec<u8>,
}

impl RawEnd {
    pub(super) fn of(end: End) -> Self {
        let result = match &end.how {
            How::Succeeded(result) | How::Failed(result) | How::Cancelled(result) => {
                record::encode(&**result)
            }
            How::Retry { .. } | How::Release { .. } => Vec::new(),
        };
        Self { end, result }
    }

    /// So many bytes go into the store.
    pub(super) fn size(&self) -> usize {
        let error = match &self.end.how {
            How::Retry { error, .. } => Some(error),
            How::Release { error, .. } => error.as_ref(),
            How::Succeeded(_) | How::Failed(_) | How::Cancelled(_) => None,
        };
        let value = error.and_then(|error| error.value.as_ref());
        self.result.len() + value.map_or(0, |value| value.bytes.len())
    }
}

/// A task that has ended, as far as a late end of it cares.
struct Gone {
    state: State,
    fence: i64,
    nonce: Option<i64>,
}

impl Tx<'_> {
    /// See [`TaskStore::finish`](crate::TaskStore::finish). The token alone decides, whatever became of the session.
    pub(super) async fn finish(&mut self, ends: &[&RawEnd]) -> Result<Vec<Finished>> {
        let quick = self.finish_leased(ends).await?;
        let others = ends.iter().zip(&quick).filter(|(_, done)| done.is_none());
        let others: Vec<&RawEnd> = others.map(|(raw, _)| *raw).collect();
        let mut others = self.finish_looked_up(&others).await?.into_iter();
        let answer = |done: Option<State>| done.map(Finished::Applied).or_else(|| others.next());
        Ok(quick.into_iter().filter_map(answer).collect())
    }

    async fn finish_looked_up(&mut self, ends: &[&RawEnd]) -> Result<Vec<Finished>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let (mut live, mut gone) = self.of_ends(ends).await?;
        let mut plan = Plan::default();
        let mut answers = Vec::with_capacity(ends.len());
        for raw in ends {
            let id = raw.end.id;
            let answer = match (live.get_mut(&id), gone.get(&id)) {
                (Some(task), _) if task.token() == Some(raw.end.token) => {
                    if task.state == State::Running {
                        let ended = self.apply(&mut plan, task, raw).await?;
                        if ended {
                            let (state, fence, nonce) = (task.state, task.fence, task.nonce);
                            live.remove(&id);
                            gone.insert(id, Gone { state, fence, nonce });
                            Finished::Applied(state)
                        } else {
                            Finished::Applied(task.state)
                        }
                    } else {
                        // Only a claim that was ended by its worker keeps its token.
                        Finished::AppliedBefore(task.state)
                    }
                }
                (None, Some(task))
                    if task.fence == raw.end.token.fence.cast_signed()
                        && task.nonce == Some(nonce(raw.end.token)) =>
                {
                    Finished::AppliedBefore(task.state)
                }
                _ => Finished::Stale,
            };
            answers.push(answer);
        }
        plan.write(self).await?;
        Ok(answers)
    }

    async fn of_ends(
        &mut self,
        ends: &[&RawEnd],
    ) -> Result<(HashMap<TaskId, Live>, HashMap<TaskId, Gone>)> {
        packed!(
            LIVE,
            2,
            concat!(
                "select ",
                live!(),
                " from {rows} cross join omniq_body b on b.id = {0b} cross join omniq_task t on t.seq = b.seq"
            )
        );
        packed!(
            GONE,
            2,
            "select d.id, d.state, d.fence, d.nonce
               from {rows} cross join omniq_body b on b.id = {0b} cross join omniq_done d on d.seq = b.seq"
        );
        let mut live = HashMap::with_capacity(ends.len());
        let mut gone = HashMap::new();
        let mut wanted = packed_ids(ends.iter().map(|raw| &raw.end.id));
        for row in wanted.query(&LIVE).fetch_all(&mut *self.conn).await? {
            let task = Live::read(&row, 0)?;
            live.insert(task.id, task);
        }
        let missing = ends.iter().map(|raw| &raw.end.id).filter(|id| !live.contains_key(id));
        let mut missing = packed_ids(missing);
        if !missing.is_empty() {
            for row in missing.query(&GONE).fetch_all(&mut *self.conn).await? {
                let id = task_id(row.try_get(0)?)?;
                let state = state(row.try_get(1)?);
                gone.insert(id, Gone { state, fence: row.try_get(2)?, nonce: row.try_get(3)? });
            }
        }
        Ok((live, gone))
    }

    /// Commits one end; tells whether the task is over.
    async fn apply(&mut self, plan: &mut Plan, task: &mut Live, raw: &RawEnd) -> Result<bool> {
        let (after, error) = match &raw.end.how {
            How::Succeeded(_) => return self.conclude(plan, task, State::Succeeded, raw).await,
            How::Failed(_) => return self.conclude(plan, task, State::Failed, raw).await,
            How::Cancelled(_) => return self.conclude(plan, task, State::Cancelled, raw).await,
            How::Retry { after, error } => (after, Some(error)),
            How::Release { after, error } => {
                task.attempt = (task.attempt - 1).max(0);
                (after, error.as_ref())
            }
        };
        if let (Some(error), false) = (error, task.cancel) {
            plan.error(task.seq, error);
        }
        self.put_back(plan, task, self.now + *after).await?;
        Ok(task.state.is_terminal())
    }

    async fn conclude(
        &mut self,
        plan: &mut Plan,
        task: &mut Live,
        to: State,
        raw: &RawEnd,
    ) -> Result<bool> {
        plan.end(self, task.clone(), to, raw.result.clone()).await?;
        task.state = to;
        Ok(true)
    }

    /// Puts a running task back, to wait until `at`; one that was to be cancelled is cancelled.
    pub(super) async fn put_back(
        &mut self,
        plan: &mut Plan,
        task: &mut Live,
        at: Timestamp,
    ) -> Result<()> {
        if task.cancel {
            plan.end_without(self, task.clone(), State::Cancelled, cancelled()).await?;
            task.state = State::Cancelled;
        } else {
            let from = task.state;
            task.wait_until(self.now, at);
            plan.update(from, task.clone());
        }
        Ok(())
    }
}

/// Why a cancelled task has no result.
pub(super) fn cancelled() -> TaskError {
    TaskError::new(Kind::Cancelled, "it was called off")
}
