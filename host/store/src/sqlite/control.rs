//! What people do to tasks: call them off, try them again, forget them, hold a lane back.

use omniq_model::{Lane, State, Task, TaskId, record};
use sqlx::Row;

use super::fault::{Fault, Result};
use super::filter::Sql;
use super::finish::cancelled;
use super::live::{KEYED, Live, live, small, state, task_id};
use super::pack::{Cell, Pack, numbers, packed};
use super::plan::Plan;
use super::read::{ENDED, LIVE};
use super::tx::Tx;
use crate::{Filter, Moved, Outcome, Select};

/// An ended task, as far as it can be revived or forgotten.
#[derive(Debug, Clone)]
struct Ended {
    seq: i64,
    id: TaskId,
    lane: i64,
    state: State,
    attempt: i64,
    fence: i64,
    flags: i64,
    ttl: Option<i64>,
    result: Vec<u8>,
}

impl Tx<'_> {
    /// See [`TaskStore::cancel`](crate::TaskStore::cancel).
    pub(super) async fn cancel(&mut self, select: &Select) -> Result<Outcome> {
        let by_id = !select.filter.ids.is_empty();
        let can = if by_id { "" } else { " and (x.state <> 3 or x.cancel = 0)" };
        let chosen = self.oldest(select, "omniq_task", can, -1).await?;
        let mut outcome = Outcome::default();
        if by_id {
            outcome.skipped = self.skipped(select, &ENDED, &chosen).await?;
        }
        let mut plan = Plan::default();
        let mut running = Vec::new();
        // Children before their parents: what is chosen itself is called off, not a victim of its parent's end.
        for mut task in self.live(&chosen).await?.into_iter().rev() {
            let from = task.state;
            if from == State::Running {
                running.push(task.seq);
                outcome.requested.push(task.id);
                self.work = true;
            } else {
                plan.end_without(self, task.clone(), State::Cancelled, cancelled()).await?;
                task.state = State::Cancelled;
                outcome.moved.push(task.moved(self.lane_name(task.lane).await?, from));
            }
        }
        plan.write(self).await?;
        self.call_off(running).await?;
        outcome.moved.reverse();
        outcome.requested.reverse();
        Ok(outcome)
    }

    async fn call_off(&mut self, seqs: Vec<i64>) -> Result<()> {
        const CALL: &str = "
            update omniq_task set cancel = 1 where seq in (select value from json_each(?1))";
        if !seqs.is_empty() {
            sqlx::query(CALL).bind(numbers(seqs)).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// The places of the oldest tasks of a table that fit, those behind `after` (−1: all).
    async fn oldest(
        &mut self,
        select: &Select,
        table: &'static str,
        can: &'static str,
        mut after: i64,
    ) -> Result<Vec<i64>> {
        let filter = &select.filter;
        let states = if table == "omniq_task" { LIVE } else { ENDED };
        let mut chosen = Vec::new();
        if select.max == 0 || !filter.wants(&states) {
            return Ok(chosen);
        }
        loop {
            let step = if filter.labels.is_empty() { select.max } else { 1000 };
            let rows = select_oldest(filter, table, can, after, step)
                .into_query()
                .fetch_all(&mut *self.conn);
            let rows = rows.await?;
            for row in &rows {
                after = row.try_get(0)?;
                if filter.fits_labels(row.try_get::<Option<&[u8]>, _>(1)?.unwrap_or_default()) {
                    chosen.push(after);
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

    /// Tasks that were named and are in one of these states, up to where the choice ended.
    async fn skipped(
        &mut self,
        select: &Select,
        states: &[State],
        chosen: &[i64],
    ) -> Result<Vec<(TaskId, State)>> {
        if select.max == 0 {
            return Ok(Vec::new());
        }
        let end = chosen.get(select.max - 1).copied().unwrap_or(i64::MAX);
        let mut skipped = Vec::new();
        for (table, of) in [("omniq_task", LIVE), ("omniq_done", ENDED)] {
            if !of.iter().any(|state| states.contains(state)) {
                continue;
            }
            let mut sql = Sql::default();
            sql.push("select x.seq, x.id, x.state, b.bytes from ").push(table);
            sql.push(" x left join omniq_body b on b.seq = x.seq where x.seq < ").int(end);
            select.filter.conditions(&mut sql);
            for row in sql.into_query().fetch_all(&mut *self.conn).await? {
                let state = state(row.try_get(2)?);
                let bytes = row.try_get::<Option<&[u8]>, _>(3)?.unwrap_or_default();
                if states.contains(&state) && select.filter.fits_labels(bytes) {
                    skipped.push((row.try_get::<i64, _>(0)?, (task_id(row.try_get(1)?)?, state)));
                }
            }
        }
        skipped.sort_unstable_by_key(|(seq, _)| *seq);
        Ok(skipped.into_iter().map(|(_, skipped)| skipped).collect())
    }

    pub(super) async fn live(&mut self, seqs: &[i64]) -> Result<Vec<Live>> {
        const LIVE: &str = concat!(
            "select ",
            live!(),
            " from json_each(?1) j cross join omniq_task t on t.seq = j.value order by t.seq"
        );
        let rows = sqlx::query(LIVE)
            .bind(numbers(seqs.iter().copied()))
            .fetch_all(&mut *self.conn)
            .await?;
        rows.iter().map(|row| Live::read(row, 0)).collect()
    }

    async fn ended(&mut self, seqs: &[i64]) -> Result<Vec<Ended>> {
        const ENDED: &str = "
            select d.seq, d.id, d.lane, d.state, d.attempt, d.fence, d.flags, d.ttl, d.result
              from json_each(?1) j cross join omniq_done d on d.seq = j.value order by d.seq";
        let rows = sqlx::query(ENDED).bind(numbers(seqs.iter().copied()));
        let ended = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Ended {
                seq: row.try_get(0)?,
                id: task_id(row.try_get(1)?)?,
                lane: row.try_get(2)?,
                state: state(row.try_get(3)?),
                attempt: row.try_get(4)?,
                fence: row.try_get(5)?,
                flags: row.try_get(6)?,
                ttl: row.try_get(7)?,
                result: row.try_get(8)?,
            })
        };
        rows.fetch_all(&mut *self.conn).await?.iter().map(ended).collect()
    }

    /// See [`TaskStore::retry`](crate::TaskStore::retry).
    pub(super) async fn retry(&mut self, select: &Select) -> Result<Outcome> {
        // Whose key somebody else holds is not chosen at all, so that a repeated call goes on to others.
        let chosen = self.oldest_retriable(select).await?;
        let mut outcome = Outcome::default();
        let by_id = !select.filter.ids.is_empty();
        if by_id {
            let all = [LIVE, ENDED].concat();
            outcome.skipped = self.skipped(select, &all, &chosen).await?;
        }
        let mut revived = Vec::new();
        for task in self.ended(&chosen).await? {
            if task.flags & KEYED != 0 {
                let body = self.body(task.seq).await?;
                if !self.key_is_free(task.seq, &body).await? {
                    // One retried just now took it.
                    if by_id {
                        outcome.skipped.push((task.id, task.state));
                    }
                    continue;
                }
                let created = self.created(task.seq).await?;
                self.take_key(task.seq, &body, created, State::Ready).await?;
            }
            revived.push(task);
        }
        for task in &revived {
            outcome.moved.push(self.moved(task, State::Ready).await?);
        }
        let moved: std::collections::HashSet<_> =
            outcome.moved.iter().map(|moved| moved.id).collect();
        outcome.skipped.retain(|(id, _)| !moved.contains(id));
        self.revive(&revived).await?;
        Ok(outcome)
    }

    async fn oldest_retriable(&mut self, select: &Select) -> Result<Vec<i64>> {
        const CAN: &str = " and x.state <> 4";
        let mut chosen = Vec::new();
        let mut rest = Select { filter: select.filter.clone(), max: select.max };
        let mut after = -1;
        loop {
            let can = self.oldest(&rest, "omniq_done", CAN, after).await?;
            let (full, last) = (can.len() >= rest.max, can.last().copied());
            for task in self.ended(&can).await? {
                let free = task.flags & KEYED == 0 || {
                    let body = self.body(task.seq).await?;
                    self.key_is_free(task.seq, &body).await?
                };
                if free {
                    chosen.push(task.seq);
                }
            }
            rest.max = select.max - chosen.len();
            after = last.unwrap_or(after);
            if !full || rest.max == 0 {
                return Ok(chosen);
            }
        }
    }

    async fn body(&mut self, seq: i64) -> Result<Task> {
        const BODY: &str = "select bytes from omniq_body where seq = ?1";
        let bytes: Vec<u8> = sqlx::query_scalar(BODY).bind(seq).fetch_one(&mut *self.conn).await?;
        Task::decode(&bytes).map_err(|error| Fault::Corrupt(error.to_string()))
    }

    async fn created(&mut self, seq: i64) -> Result<omniq_model::Timestamp> {
        const CREATED: &str = "select created from omniq_done where seq = ?1";
        let created: i64 = sqlx::query_scalar(CREATED).bind(seq).fetch_one(&mut *self.conn).await?;
        Ok(omniq_model::Timestamp::from_millis(created))
    }

    async fn key_is_free(&mut self, seq: i64, task: &Task) -> Result<bool> {
        const TAKEN: &str = "
            select exists(select 1 from omniq_ukey where tenant = ?1 and key = ?2 and holder <> ?3
                                                      and (until is null or until > ?4))";
        let Some(unique) = &task.unique else { return Ok(true) };
        let taken: i64 = sqlx::query_scalar(TAKEN)
            .bind(task.lane.tenant.as_str().to_owned())
            .bind(unique.key.clone())
            .bind(seq)
            .bind(self.now.as_millis())
            .fetch_one(&mut *self.conn)
            .await?;
        Ok(taken == 0)
    }

    async fn revive(&mut self, tasks: &[Ended]) -> Result<()> {
        // The error of the latest attempt stays to be seen.
        packed!(
            REVIVE,
            4,
            "insert into omniq_task(seq, id, lane, code, state, rank, attempt, crashes, fence, nonce, cancel, created,
                    due, expires, started, ttl, keep, flags, waits, error)
             select d.seq, d.id, d.lane, d.code, 2, d.rank, 0, 0, d.fence, d.nonce, 0, d.created,
                    0, {1?}, d.started, d.ttl, d.keep, d.flags, 0, nullif({2b}, x'')
               from {rows} cross join omniq_done d on d.seq = {0}"
        );
        const GONE: &str = "delete from omniq_done where seq in (select value from json_each(?1))";
        let mut pack = Pack::default();
        for task in tasks {
            self.moves(task.lane, task.state, State::Ready);
            let result = record::decode::<omniq_model::TaskResult>("result", &task.result).ok();
            let error = result.and_then(|result| result.error).map(|error| record::encode(&error));
            let expires = task.ttl.map(|ttl| self.now.as_millis().saturating_add(ttl));
            let error = error.unwrap_or_default();
            pack.row(&[task.seq.into(), expires.into(), Cell::Bytes(&error)]);
        }
        if !pack.is_empty() {
            pack.query(&REVIVE).execute(&mut *self.conn).await?;
            let seqs = numbers(tasks.iter().map(|task| task.seq));
            sqlx::query(GONE).bind(seqs).execute(&mut *self.conn).await?;
        }
        Ok(())
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
        let chosen = self.oldest(select, "omniq_done", "", -1).await?;
        let mut outcome = Outcome::default();
        if !select.filter.ids.is_empty() {
            outcome.skipped = self.skipped(select, &LIVE, &chosen).await?;
        }
        let ended = self.ended(&chosen).await?;
        for task in &ended {
            outcome.moved.push(self.moved(task, task.state).await?);
            self.count(task.lane, task.state, -1);
        }
        self.forget(&chosen).await?;
        Ok(outcome)
    }

    /// Forgets ended tasks; who calls it has counted them off.
    pub(super) async fn forget(&mut self, seqs: &[i64]) -> Result<()> {
        const FORGET: [&str; 3] = [
            "delete from omniq_done where seq in (select value from json_each(?1))",
            "delete from omniq_body where seq in (select value from json_each(?1))",
            "delete from omniq_ukey where holder in (select value from json_each(?1))",
        ];
        if seqs.is_empty() {
            return Ok(());
        }
        let json = numbers(seqs.iter().copied());
        for sql in FORGET {
            sqlx::query(sql).bind(json.clone()).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// See [`TaskStore::pause`](crate::TaskStore::pause).
    pub(super) async fn pause(&mut self, lane: &Lane, paused: bool) -> Result<()> {
        const PAUSE: &str = "update omniq_lane set paused = ?2 where id = ?1";
        let lane = self.names.lane(self.conn, lane).await?;
        sqlx::query(PAUSE).bind(lane).bind(i64::from(paused)).execute(&mut *self.conn).await?;
        self.work |= !paused;
        Ok(())
    }
}

fn select_oldest(
    filter: &Filter,
    table: &'static str,
    can: &'static str,
    after: i64,
    max: usize,
) -> Sql {
    let mut sql = Sql::default();
    let labels = !filter.labels.is_empty();
    sql.push(if labels { "select x.seq, b.bytes from " } else { "select x.seq, null from " });
    sql.push(table).push(" x");
    if labels {
        sql.push(" left join omniq_body b on b.seq = x.seq");
    }
    sql.push(" where x.seq > ").int(after).push(can);
    filter.conditions(&mut sql);
    sql.push(" order by x.seq").limit(max);
    sql
}
