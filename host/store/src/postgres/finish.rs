//! How attempts end.

use std::collections::HashMap;

use omniq_model::{Kind, State, TaskError, TaskId, Timestamp, record};
use sqlx::Row;
use sqlx::types::Uuid;

use super::fault::Result;
use super::live::{Live, nonce, number, state};
use super::plan::Plan;
use super::sql::{Bound, Schema, task_id, uuid, uuids};
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

    /// The state it ends the task in, if it does whatever the task is.
    pub(super) fn state(&self) -> Option<State> {
        match self.end.how {
            How::Succeeded(_) => Some(State::Succeeded),
            How::Failed(_) => Some(State::Failed),
            How::Cancelled(_) => Some(State::Cancelled),
            How::Retry { .. } | How::Release { .. } => None,
        }
    }
}

/// The ends that may be committed by one statement; each has a state.
pub(super) fn query(schema: &Schema, now: Option<i64>, ends: &[&RawEnd]) -> Bound {
    const FINISH: &str = "select $S.finish($1, $2, $3, $4, $5, $6)";
    let states = ends.iter().map(|raw| raw.state().map_or(-1, number));
    schema
        .query(FINISH)
        .bind(now)
        .bind(ends.iter().map(|raw| uuid(raw.end.id)).collect::<Vec<Uuid>>())
        .bind(ends.iter().map(|raw| raw.end.token.fence.cast_signed()).collect::<Vec<i64>>())
        .bind(ends.iter().map(|raw| nonce(raw.end.token)).collect::<Vec<i64>>())
        .bind(states.collect::<Vec<i16>>())
        .bind(ends.iter().map(|raw| raw.result.as_slice()).collect::<Vec<_>>())
}

/// A task that is not leased any more, as far as a late end of it cares.
struct Gone {
    state: State,
    fence: i64,
    nonce: Option<i64>,
}

impl Tx<'_> {
    /// See [`TaskStore::finish`](crate::TaskStore::finish). The token alone decides, whatever became of the session.
    pub(super) async fn finish(&mut self, ends: &[&RawEnd]) -> Result<Vec<Finished>> {
        let ids: Vec<TaskId> = ends.iter().map(|raw| raw.end.id).collect();
        let live = self.hold(&ids).await?;
        let mut live: HashMap<TaskId, Live> =
            live.into_iter().map(|live| (live.id, live)).collect();
        let mut gone = self.gone(&ids, &live).await?;
        let mut plan = Plan::default();
        for to in [State::Succeeded, State::Failed, State::Cancelled] {
            let awaited = ends.iter().filter(|raw| raw.state() == Some(to)).filter_map(|raw| {
                let task = live.get(&raw.end.id)?;
                let is_meant = task.state == State::Running && task.token() == Some(raw.end.token);
                (task.awaited && is_meant).then_some(task.seq)
            });
            plan.read_ahead(self, awaited.collect(), to).await?;
        }
        let mut answers = Vec::with_capacity(ends.len());
        for raw in ends {
            let id = raw.end.id;
            let answer = match (live.get_mut(&id), gone.get(&id)) {
                (Some(task), _) if task.token() == Some(raw.end.token) => {
                    if task.state == State::Running {
                        let ended = self.apply(&mut plan, task, raw).await?;
                        let (state, fence, nonce) = (task.state, task.fence, task.nonce);
                        if ended {
                            live.remove(&id);
                            gone.insert(id, Gone { state, fence, nonce });
                        }
                        Finished::Applied(state)
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

    async fn gone(
        &mut self,
        ids: &[TaskId],
        live: &HashMap<TaskId, Live>,
    ) -> Result<HashMap<TaskId, Gone>> {
        const GONE: &str = "
            select t.id, d.state, d.fence, d.nonce
              from unnest($1::uuid[]) as u(id)
             cross join lateral (select t.id, t.seq from $S.task t where t.id = u.id offset 0) t
             cross join lateral (select * from $S.done d where d.seq = t.seq offset 0) d";
        let missing: Vec<TaskId> =
            ids.iter().copied().filter(|id| !live.contains_key(id)).collect();
        let mut gone = HashMap::new();
        if missing.is_empty() {
            return Ok(gone);
        }
        for row in self.query(GONE).bind(uuids(&missing)).fetch_all(&mut *self.conn).await? {
            let state = state(row.try_get(1)?);
            gone.insert(
                task_id(row.try_get(0)?),
                Gone { state, fence: row.try_get(2)?, nonce: row.try_get(3)? },
            );
        }
        Ok(gone)
    }

    /// Commits one end; tells whether the task is over.
    async fn apply(&mut self, plan: &mut Plan, task: &mut Live, raw: &RawEnd) -> Result<bool> {
        if let Some(to) = raw.state() {
            plan.end(self, task.clone(), to, raw.result.clone()).await?;
            task.state = to;
            return Ok(true);
        }
        let (after, error) = match &raw.end.how {
            How::Retry { after, error } => (*after, Some(error)),
            How::Release { after, error } => {
                task.give_attempt_back();
                (*after, error.as_ref())
            }
            How::Succeeded(_) | How::Failed(_) | How::Cancelled(_) => return Ok(false), // has a state
        };
        if let Some(error) = error {
            task.error = Some(record::encode(error));
        }
        self.put_back(plan, task, self.now + after).await?;
        Ok(task.state.is_terminal())
    }

    /// Puts a running task back, to wait until `at`; one that was to be cancelled is cancelled.
    pub(super) async fn put_back(
        &mut self,
        plan: &mut Plan,
        task: &mut Live,
        at: Timestamp,
    ) -> Result<()> {
        if task.has(super::live::CANCEL) {
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
