//! What time does: tasks become due, time to live runs out, results are forgotten.

use omniq_model::{State, TaskId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::claim::expired;
use super::fault::Result;
use super::live::state;
use super::plan::Plan;
use super::sql::{Bound, Schema, count, task_id};
use super::tx::Tx;
use crate::{Due, Moved};

/// Bytes that one call forgets: as much has to be written as is forgotten, and others wait for the disk meanwhile.
const FORGOTTEN: i64 = 16 << 20;

/// How many of the first rows together have no more bytes than one call forgets, and one at least; `column` says how many
/// each has.
fn within(rows: &[PgRow], column: usize) -> Result<usize> {
    let mut bytes = 0_i64;
    for (index, row) in rows.iter().enumerate() {
        bytes = bytes.saturating_add(row.try_get(column)?);
        if bytes > FORGOTTEN {
            return Ok(index.max(1));
        }
    }
    Ok(rows.len())
}

/// Asks for scheduled tasks to become ready.
pub(super) fn promote(schema: &Schema, now: Option<i64>, max: usize) -> Bound {
    const PROMOTE: &str = "select * from $S.promote($1, $2)";
    schema.query(PROMOTE).bind(now).bind(count(max))
}

/// Reads the answer to [`promote`].
pub(super) fn read_due(row: &PgRow) -> Result<Due> {
    let wait = row.try_get::<Option<i64>, _>(1)?;
    let millis = |wait: i64| std::time::Duration::from_millis(u64::try_from(wait).unwrap_or(0));
    Ok(Due {
        promoted: usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0),
        next: wait.map(millis),
    })
}

impl Tx<'_> {
    /// See [`TaskStore::expire`](crate::TaskStore::expire).
    pub(super) async fn expire(&mut self, max: usize) -> Result<Vec<Moved>> {
        const EXPIRED: &str = "
            select x.id from (
                (select id, expires, seq from $S.ready where expires <= $1 and expires is not null and attempt = 0
                  order by expires, seq limit $2)
                 union all
                (select id, expires, seq from $S.scheduled where expires <= $1 and expires is not null and attempt = 0
                  order by expires, seq limit $2)
                 union all
                (select id, expires, seq from $S.blocked where expires <= $1 and expires is not null and attempt = 0
                  order by expires, seq limit $2)) x
             order by x.expires, x.seq limit $2";
        let now = self.now.as_millis();
        let mut moved = Vec::new();
        while moved.len() < max {
            let left = max - moved.len();
            let query = self.query(EXPIRED).bind(now).bind(count(left));
            let rows = query.fetch_all(&mut *self.conn).await?;
            let ids: Vec<TaskId> =
                rows.iter().map(|row| Ok(task_id(row.try_get(0)?))).collect::<Result<_>>()?;
            let mut held = self.hold(&ids).await?;
            held.retain(|task| {
                task.state != State::Running
                    && task.attempt == 0
                    && task.expires.is_some_and(|at| at <= now)
            });
            held.sort_by_key(|task| (task.expires, task.seq));
            let (before, mut plan, mut moved_on) = (moved.len(), Plan::default(), false);
            let awaited = held.iter().filter(|task| task.awaited).map(|task| task.seq);
            plan.read_ahead(self, awaited.collect(), State::Expired).await?;
            for mut task in held {
                // Its parent's end has ended it, or let it go: then it is read anew, as it is now.
                if plan.has_moved(task.seq) {
                    moved_on = true;
                    break;
                }
                let from = task.state;
                plan.end_without(self, task.clone(), State::Expired, expired()).await?;
                task.state = State::Expired;
                moved.push(task.moved(self.lane_name(task.lane).await?, from));
            }
            plan.write(self).await?;
            // Nothing of what was found is left to be expired: somebody else is at it.
            if !moved_on && (moved.len() == before || rows.len() < left) {
                break;
            }
        }
        Ok(moved)
    }

    /// See [`TaskStore::purge`](crate::TaskStore::purge).
    pub(super) async fn purge(&mut self, max: usize) -> Result<usize> {
        const OVER: &str = "
            select d.seq, d.id, d.lane, d.state, octet_length(d.result)::bigint
                   + coalesce((select octet_length(t.body) from $S.task t where t.seq = d.seq), 0)::bigint
              from $S.done d where d.forget <= $1 order by d.forget, d.seq limit $2 for update of d skip locked";
        const WINDOWS: &str = "delete from $S.ukey u where u.until is not null and u.until <= $1";
        let now = self.now.as_millis();
        let rows = self.query(OVER).bind(now).bind(count(max)).fetch_all(&mut *self.conn).await?;
        let rows = &rows[..within(&rows, 4)?];
        let mut seqs = Vec::with_capacity(rows.len());
        for row in rows {
            seqs.push(row.try_get(0)?);
            self.count(row.try_get(2)?, state(row.try_get(3)?), -1);
        }
        self.forget(&seqs).await?;
        self.query(WINDOWS).bind(now).execute(&mut *self.conn).await?;
        Ok(seqs.len())
    }

    /// Forgets ended tasks whose rows are locked; who calls it has counted them off.
    pub(super) async fn forget(&mut self, seqs: &[i64]) -> Result<()> {
        const FORGET: [&str; 3] = [
            "delete from $S.done d where d.seq = any($1)",
            "delete from $S.task t where t.seq = any($1)",
            "delete from $S.ukey u where u.holder = any($1)",
        ];
        if seqs.is_empty() {
            return Ok(());
        }
        for sql in FORGET {
            self.query(sql).bind(seqs.to_vec()).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Adds up the counts of lanes and states, so that reading them stays cheap.
    pub(super) async fn add_up(&mut self) -> Result<()> {
        const ADD: &str = "
            with some as materialized (
                select ctid from $S.tally limit 20000 for update skip locked
            ), gone as (
                delete from $S.tally t where t.ctid = any(array(select ctid from some)) returning lane, state, count
            )
            insert into $S.tally(lane, state, count)
            select lane, state, sum(count) from gone group by lane, state having sum(count) <> 0";
        self.query(ADD).execute(&mut *self.conn).await?;
        Ok(())
    }

    /// See [`ResultStore::purge`](crate::ResultStore::purge).
    pub(super) async fn purge_results(&mut self, max: usize) -> Result<usize> {
        const OVER: &str = "
            select task, fence, nonce, octet_length(bytes)::bigint from $S.result
             where forget <= $1 order by forget limit $2 for update skip locked";
        const PURGE: &str = "
            delete from $S.result r using unnest($1::uuid[], $2::bigint[], $3::bigint[]) as u(task, fence, nonce)
             where r.task = u.task and r.fence = u.fence and r.nonce = u.nonce";
        let query = self.query(OVER).bind(self.now.as_millis()).bind(count(max));
        let rows = query.fetch_all(&mut *self.conn).await?;
        let rows = &rows[..within(&rows, 3)?];
        let (mut tasks, mut fences, mut nonces) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            tasks.push(row.try_get::<sqlx::types::Uuid, _>(0)?);
            fences.push(row.try_get::<i64, _>(1)?);
            nonces.push(row.try_get::<i64, _>(2)?);
        }
        if !rows.is_empty() {
            let query = self.query(PURGE).bind(tasks).bind(fences).bind(nonces);
            query.execute(&mut *self.conn).await?;
        }
        Ok(rows.len())
    }
}
