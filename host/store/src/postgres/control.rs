//! What people do to tasks: call them off, try them again, forget them, hold a lane back.

use std::collections::{BTreeSet, HashMap, HashSet};

use omniq_model::{Lane, State, Task, TaskId, TaskResult, Timestamp, record};
use sqlx::Row;

use super::fault::{Fault, Result};
use super::filter::{self, ENDED, LIVE, Order, places};
use super::finish::cancelled;
use super::live::{CANCEL, KEYED, Live, small, state};
use super::plan::Plan;
use super::sql::task_id;
use super::tx::Tx;
use crate::{Moved, Outcome, Select};

/// A task that was chosen, as it was when it was looked for.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    seq: i64,
    id: TaskId,
}

/// An ended task, as far as it can be revived or forgotten.
#[derive(Debug, Clone)]
struct Ended {
    seq: i64,
    id: TaskId,
    lane: i32,
    state: State,
    attempt: i32,
    fence: i64,
    rank: i16,
    flags: i16,
    nonce: Option<i64>,
    started: Option<i64>,
    created: i64,
    keep: i64,
    ttl: Option<i64>,
    result: Vec<u8>,
    body: Vec<u8>,
}

/// States a bulk call looks for, and what else must hold of their rows.
struct Can {
    states: &'static [State],
    rows: &'static str,
}

impl Tx<'_> {
    /// See [`TaskStore::cancel`](crate::TaskStore::cancel).
    pub(super) async fn cancel(&mut self, select: &Select) -> Result<Outcome> {
        let by_id = !select.filter.ids.is_empty();
        let rows = if by_id { "" } else { " and (x.flags & 4 = 0)" };
        let chosen = self.oldest(select, &Can { states: &LIVE, rows }, -1).await?;
        let ids: Vec<TaskId> = chosen.iter().map(|chosen| chosen.id).collect();
        let held = self.hold(&ids).await?;
        let mut outcome = Outcome::default();
        if by_id {
            let left: HashSet<_> = held.iter().map(|task| task.id).collect();
            outcome.skipped = self.skipped(select, &chosen, &left).await?;
        }
        let mut plan = Plan::default();
        let mut running = Vec::new();
        let awaited = held.iter().filter(|task| task.awaited && task.state != State::Running);
        let awaited = awaited.map(|task| task.seq).collect();
        plan.read_ahead(self, awaited, State::Cancelled).await?;
        // Children before their parents: what is chosen itself is called off, not a victim of its parent's end.
        for mut task in held.into_iter().rev() {
            let from = task.state;
            if from == State::Running {
                running.push(task.id);
                outcome.requested.push(task.id);
                self.work = true;
            } else {
                plan.end_without(self, task.clone(), State::Cancelled, cancelled()).await?;
                task.state = State::Cancelled;
                outcome.moved.push(task.moved(self.lane_name(task.lane).await?, from));
            }
        }
        plan.write(self).await?;
        self.call_off(&running).await?;
        outcome.moved.reverse();
        outcome.requested.reverse();
        Ok(outcome)
    }

    async fn call_off(&mut self, ids: &[TaskId]) -> Result<()> {
        const CALL: &str = "update $S.lease set flags = flags | $2 where id = any($1)";
        if !ids.is_empty() {
            let query = self.query(CALL).bind(super::sql::uuids(ids)).bind(CANCEL);
            query.execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// The oldest tasks that fit, in one of these states, after a place.
    async fn oldest(&mut self, select: &Select, can: &Can, mut after: i64) -> Result<Vec<Chosen>> {
        let filter = &select.filter;
        let states = filter::of_states(filter, can.states);
        let mut chosen = Vec::new();
        if select.max == 0 || states.is_empty() {
            return Ok(chosen);
        }
        loop {
            let step = if filter.labels.is_empty() { select.max } else { 1000 };
            let sql = places(filter, &states, Order::Oldest, after, step, can.rows);
            let rows = sql.into_query(self.schema).fetch_all(&mut *self.conn).await?;
            for row in &rows {
                after = row.try_get(0)?;
                if filter::fits_labels(
                    filter,
                    row.try_get::<Option<&[u8]>, _>(3)?.unwrap_or_default(),
                ) {
                    chosen.push(Chosen { seq: after, id: task_id(row.try_get(1)?) });
                }
                if chosen.len() == select.max {
                    return Ok(chosen);
                }
            }
            if rows.len() < step {
                return Ok(chosen);
            }
        }
    }

    /// Tasks that were named and are not in `taken`, up to where the choice ended.
    async fn skipped(
        &mut self,
        select: &Select,
        chosen: &[Chosen],
        taken: &HashSet<TaskId>,
    ) -> Result<Vec<(TaskId, State)>> {
        if select.max == 0 {
            return Ok(Vec::new());
        }
        let end = chosen.get(select.max - 1).map_or(i64::MAX, |last| last.seq);
        let filter = &select.filter;
        let states = filter::of_states(filter, &[LIVE, ENDED].concat());
        let mut skipped = Vec::new();
        if states.is_empty() {
            return Ok(skipped);
        }
        let sql = places(filter, &states, Order::Oldest, -1, filter.ids.len(), "");
        for row in sql.into_query(self.schema).fetch_all(&mut *self.conn).await? {
            let (seq, id): (i64, _) = (row.try_get(0)?, task_id(row.try_get(1)?));
            let bytes = row.try_get::<Option<&[u8]>, _>(3)?.unwrap_or_default();
            if seq <= end && !taken.contains(&id) && filter::fits_labels(filter, bytes) {
                skipped.push((id, state(row.try_get(2)?)));
            }
        }
        Ok(skipped)
    }

    /// Locks ended tasks and reads them, in the order of arrival.
    async fn ended(&mut self, chosen: &[Chosen]) -> Result<Vec<Ended>> {
        const ENDED: &str = "
            select d.seq, d.id, d.lane, d.state, d.attempt, d.fence, d.rank, d.flags, d.nonce, d.started,
                   t.created, t.keep, t.ttl, d.result, case when d.flags & 1 <> 0 then t.body else ''::bytea end
              from unnest($1::bigint[]) as u(seq)
             cross join lateral (select * from $S.done d where d.seq = u.seq offset 0 for update) d
             cross join lateral (select * from $S.task t where t.seq = u.seq offset 0) t
             order by d.seq";
        let seqs: Vec<i64> = chosen.iter().map(|chosen| chosen.seq).collect();
        let ended = |row: &sqlx::postgres::PgRow| {
            Ok(Ended {
                seq: row.try_get(0)?,
                id: task_id(row.try_get(1)?),
                lane: row.try_get(2)?,
                state: state(row.try_get(3)?),
                attempt: row.try_get(4)?,
                fence: row.try_get(5)?,
                rank: row.try_get(6)?,
                flags: row.try_get(7)?,
                nonce: row.try_get(8)?,
                started: row.try_get(9)?,
                created: row.try_get(10)?,
                keep: row.try_get(11)?,
                ttl: row.try_get(12)?,
                result: row.try_get(13)?,
                body: row.try_get(14)?,
            })
        };
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.query(ENDED).bind(seqs).fetch_all(&mut *self.conn).await?;
        let mut ended: Vec<Ended> = rows.iter().map(ended).collect::<Result<_>>()?;
        ended.sort_unstable_by_key(|task| task.seq);
        Ok(ended)
    }

    /// See [`TaskStore::retry`](crate::TaskStore::retry).
    pub(super) async fn retry(&mut self, select: &Select) -> Result<Outcome> {
        // Whose key somebody else holds is not chosen at all, so that a repeated call goes on to others.
        let mut outcome = Outcome::default();
        let mut revived: Vec<Ended> = Vec::new();
        let (mut passed, mut after) = (Vec::new(), -1);
        let mut chosen = Vec::new();
        while chosen.len() < select.max {
            let rest = Select { filter: select.filter.clone(), max: select.max - chosen.len() };
            let can = Can { states: &ENDED[1..], rows: "" };
            let found = self.oldest(&rest, &can, after).await?;
            let full = found.len() == rest.max;
            after = found.last().map_or(after, |last| last.seq);
            let tasks = self.ended(&found).await?;
            let free = self.free_keys(&tasks).await?;
            for task in tasks {
                if !free.contains(&task.seq) {
                    continue;
                }
                chosen.push(Chosen { seq: task.seq, id: task.id });
                // One retried just now may have taken its key.
                if self.take_again(&task).await? {
                    revived.push(task);
                } else {
                    passed.push((task.id, task.state));
                }
            }
            if !full {
                break;
            }
        }
        if !select.filter.ids.is_empty() {
            let taken: HashSet<_> = chosen.iter().map(|chosen| chosen.id).collect();
            outcome.skipped = self.skipped(select, &chosen, &taken).await?;
            outcome.skipped.extend(passed);
        }
        for task in &revived {
            outcome.moved.push(self.moved(task, State::Ready).await?);
        }
        self.revive(revived).await?;
        Ok(outcome)
    }

    /// Which of these tasks have no key, or one that nobody else holds. Their keys are locked.
    async fn free_keys(&mut self, tasks: &[Ended]) -> Result<HashSet<i64>> {
        let mut free = HashSet::new();
        let keyed: Vec<(i64, Task)> = tasks
            .iter()
            .filter(|task| task.flags & KEYED != 0)
            .map(|task| Ok((task.seq, decode(&task.body)?)))
            .collect::<Result<_>>()?;
        let keys: BTreeSet<(&str, &str)> = keyed
            .iter()
            .filter_map(|(_, task)| {
                Some((task.lane.tenant.as_str(), task.unique.as_ref()?.key.as_str()))
            })
            .collect();
        self.lock_keys(&keys).await?;
        for task in tasks {
            let body = keyed.iter().find(|(seq, _)| *seq == task.seq);
            let is_free = match body {
                Some((seq, body)) => self.key_is_free(*seq, body).await?,
                None => true,
            };
            if is_free {
                free.insert(task.seq);
            }
        }
        Ok(free)
    }

    /// Takes a task's key again; tells whether it is not somebody else's by now.
    async fn take_again(&mut self, task: &Ended) -> Result<bool> {
        if task.flags & KEYED == 0 {
            return Ok(true);
        }
        let body = decode(&task.body)?;
        if !self.key_is_free(task.seq, &body).await? {
            return Ok(false);
        }
        let created = Timestamp::from_millis(task.created);
        self.take_key(task.seq, &body, created, State::Ready).await?;
        Ok(true)
    }

    async fn key_is_free(&mut self, seq: i64, task: &Task) -> Result<bool> {
        const TAKEN: &str = "
            select exists (select 1 from $S.ukey where tenant = $1 and key = $2 and holder <> $3
                                                   and (until is null or until > $4))";
        let Some(unique) = &task.unique else { return Ok(true) };
        let query = self
            .query(TAKEN)
            .bind(task.lane.tenant.as_str().to_owned())
            .bind(unique.key.as_bytes().to_vec())
            .bind(seq)
            .bind(self.now.as_millis());
        let taken: bool = query.fetch_one(&mut *self.conn).await?.try_get(0)?;
        Ok(!taken)
    }

    async fn revive(&mut self, tasks: Vec<Ended>) -> Result<()> {
        const GONE: &str = "delete from $S.done d where d.seq = any($1)";
        const SIZES: &str = "
            select t.seq, octet_length(t.body) from $S.task t where t.seq = any($1)";
        if tasks.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = tasks.iter().map(|task| task.seq).collect();
        let mut sizes = HashMap::new();
        for row in self.query(SIZES).bind(seqs.clone()).fetch_all(&mut *self.conn).await? {
            sizes.insert(row.try_get::<i64, _>(0)?, row.try_get::<i32, _>(1)?);
        }
        self.query(GONE).bind(seqs).execute(&mut *self.conn).await?;
        let mut plan = Plan::default();
        let now = self.now.as_millis();
        for task in tasks {
            let size = sizes.get(&task.seq).copied().unwrap_or_default();
            plan.revive(task.state, task.into_live(now, size));
        }
        plan.write(self).await
    }

    async fn moved(&mut self, task: &Ended, to: State) -> Result<Moved> {
        Ok(Moved {
            id: task.id,
            lane: self.lane_name(task.lane).await?,
            fence: task.fence.cast_unsigned(),
            attempt: if to == State::Ready { 0 } else { small(task.attempt) },
            from: task.state,
            to,
        })
    }

    /// See [`TaskStore::remove`](crate::TaskStore::remove).
    pub(super) async fn remove(&mut self, select: &Select) -> Result<Outcome> {
        let chosen = self.oldest(select, &Can { states: &ENDED, rows: "" }, -1).await?;
        let ended = self.ended(&chosen).await?;
        let mut outcome = Outcome::default();
        if !select.filter.ids.is_empty() {
            let taken: HashSet<_> = ended.iter().map(|task| task.id).collect();
            outcome.skipped = self.skipped(select, &chosen, &taken).await?;
        }
        for task in &ended {
            outcome.moved.push(self.moved(task, task.state).await?);
            self.count(task.lane, task.state, -1);
        }
        let seqs: Vec<i64> = ended.iter().map(|task| task.seq).collect();
        self.forget(&seqs).await?;
        Ok(outcome)
    }

    /// See [`TaskStore::pause`](crate::TaskStore::pause).
    pub(super) async fn pause(&mut self, lane: &Lane, paused: bool) -> Result<()> {
        const PAUSE: &str = "update $S.lane set paused = $2 where id = $1";
        let lane = self.names.make_lane(self.conn, self.schema, lane).await?;
        self.query(PAUSE).bind(lane).bind(paused).execute(&mut *self.conn).await?;
        self.work |= !paused;
        Ok(())
    }
}

impl Ended {
    /// As it is with fresh budgets. The error of the latest attempt stays to be seen.
    fn into_live(self, now: i64, size: i32) -> Live {
        let result = record::decode::<TaskResult>("result", &self.result).ok();
        let error = result.and_then(|result| result.error).map(|error| record::encode(&error));
        Live {
            state: State::Ready,
            seq: self.seq,
            keep: self.keep,
            fence: self.fence,
            due: 0,
            id: self.id,
            lane: self.lane,
            size,
            attempt: 0,
            crashes: 0,
            waits: 0,
            rank: self.rank,
            flags: self.flags & !CANCEL,
            nonce: self.nonce,
            session: None,
            expires: self.ttl.map(|ttl| now.saturating_add(ttl)),
            started: self.started,
            error,
            awaited: false,
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Task> {
    Task::decode(bytes).map_err(|error| Fault::Corrupt(error.to_string()))
}
