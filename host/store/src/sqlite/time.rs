//! What time does: tasks become due, time to live runs out, results are forgotten.

use omniq_model::{State, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::claim::expired;
use super::fault::Result;
use super::live::{Live, live, state};
use super::pack::{Cell, Pack, ids, numbers, packed};
use super::plan::Plan;
use super::tx::Tx;
use crate::{Due, Moved};

/// Bytes that one call forgets: as much has to be written as is forgotten, and heartbeats wait for that.
const FORGOTTEN: i64 = 16 << 20;

/// Rows whose bytes together are no more than one call forgets, and one at least; `column` says how many a row has.
fn within(rows: &[SqliteRow], column: usize) -> Result<&[SqliteRow]> {
    let mut bytes = 0_i64;
    for (index, row) in rows.iter().enumerate() {
        bytes = bytes.saturating_add(row.try_get(column)?);
        if bytes > FORGOTTEN {
            return Ok(&rows[..index.max(1)]);
        }
    }
    Ok(rows)
}

impl Tx<'_> {
    /// See [`TaskStore::promote`](crate::TaskStore::promote).
    pub(super) async fn promote(&mut self, max: usize) -> Result<Due> {
        const DUE: &str = "
            select seq, lane from omniq_task where state = 1 and due <= ?1 order by due, seq limit +?2";
        const PROMOTE: &str = "
            update omniq_task set state = 2 where seq in (select value from json_each(?1))";
        const NEXT: &str = "select min(due) from omniq_task where state = 1";
        let rows = sqlx::query(DUE)
            .bind(self.now.as_millis())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&mut *self.conn)
            .await?;
        let mut seqs = Vec::with_capacity(rows.len());
        for row in &rows {
            seqs.push(row.try_get(0)?);
            self.moves(row.try_get(1)?, State::Scheduled, State::Ready);
        }
        let promoted = seqs.len();
        if promoted > 0 {
            sqlx::query(PROMOTE).bind(numbers(seqs)).execute(&mut *self.conn).await?;
        }
        let next: Option<i64> = sqlx::query_scalar(NEXT).fetch_one(&mut *self.conn).await?;
        let next = next.map(|due| Timestamp::from_millis(due).since(self.now));
        Ok(Due { promoted, next })
    }

    /// See [`TaskStore::expire`](crate::TaskStore::expire).
    pub(super) async fn expire(&mut self, max: usize) -> Result<Vec<Moved>> {
        const EXPIRED: &str = concat!(
            "select ",
            live!(),
            " from omniq_task t
              where t.expires <= ?1 and t.expires is not null and t.attempt = 0 and t.state < 3
              order by t.expires, t.seq limit +?2"
        );
        let mut moved = Vec::new();
        while moved.len() < max {
            let left = max - moved.len();
            let rows = sqlx::query(EXPIRED)
                .bind(self.now.as_millis())
                .bind(i64::try_from(left).unwrap_or(i64::MAX))
                .fetch_all(&mut *self.conn)
                .await?;
            let mut plan = Plan::default();
            let mut moved_on = false;
            for row in &rows {
                let mut task = Live::read(row, 0)?;
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
            if rows.len() < left && !moved_on {
                break;
            }
        }
        Ok(moved)
    }

    /// See [`TaskStore::purge`](crate::TaskStore::purge).
    pub(super) async fn purge(&mut self, max: usize) -> Result<usize> {
        const OVER: &str = "
            select d.seq, d.lane, d.state,
                   length(d.result) + coalesce((select length(b.bytes) from omniq_body b where b.seq = d.seq), 0)
              from omniq_done d where d.forget <= ?1 order by d.forget limit +?2";
        const WINDOWS: &str = "delete from omniq_ukey where until is not null and until <= ?1";
        const COUNTS: &str = "delete from omniq_tally where count = 0";
        let now = self.now.as_millis();
        let rows = sqlx::query(OVER)
            .bind(now)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&mut *self.conn)
            .await?;
        let mut seqs = Vec::with_capacity(rows.len());
        for row in within(&rows, 3)? {
            seqs.push(row.try_get(0)?);
            self.count(row.try_get(1)?, state(row.try_get(2)?), -1);
        }
        self.forget(&seqs).await?;
        sqlx::query(WINDOWS).bind(now).execute(&mut *self.conn).await?;
        sqlx::query(COUNTS).execute(&mut *self.conn).await?;
        Ok(seqs.len())
    }

    /// See [`ResultStore::purge`](crate::ResultStore::purge).
    pub(super) async fn purge_results(&mut self, max: usize) -> Result<usize> {
        const OVER: &str = "
            select seq, length(bytes) from omniq_result where forget <= ?1 order by forget limit +?2";
        const PURGE: &str =
            "delete from omniq_result where seq in (select value from json_each(?1))";
        let rows = sqlx::query(OVER)
            .bind(self.now.as_millis())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&mut *self.conn)
            .await?;
        let seqs: Vec<i64> =
            within(&rows, 1)?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if !seqs.is_empty() {
            sqlx::query(PURGE).bind(numbers(seqs.iter().copied())).execute(&mut *self.conn).await?;
        }
        Ok(seqs.len())
    }

    /// See [`ResultStore::put`](crate::ResultStore::put).
    pub(super) async fn put_results(&mut self, results: &[&crate::StagedResult]) -> Result<()> {
        packed!(
            PUT,
            8,
            "insert into omniq_result(fence, nonce, forget, format, task, bytes)
             select {0}, {1}, {2}, {3}, {4b}, {6b} from {rows} where true on conflict do nothing"
        );
        let mut pack = Pack::default();
        for (index, staged) in results.iter().enumerate() {
            let token = staged.key.token;
            pack.row(&[
                token.fence.cast_signed().into(),
                token.nonce.cast_signed().into(),
                (self.now + staged.ttl.get()).as_millis().into(),
                i64::from(staged.value.format.number()).into(),
                Cell::Bytes(staged.key.task.as_bytes()),
                Cell::Bytes(&staged.value.bytes),
            ]);
            if pack.is_full() || index + 1 == results.len() {
                pack.query(&PUT).execute(&mut *self.conn).await?;
            }
        }
        Ok(())
    }

    /// See [`ResultStore::remove`](crate::ResultStore::remove).
    pub(super) async fn remove_results(&mut self, tasks: &[omniq_model::TaskId]) -> Result<()> {
        const REMOVE: &str = "
            delete from omniq_result where task in (select unhex(value) from json_each(?1))";
        sqlx::query(REMOVE).bind(ids(tasks)).execute(&mut *self.conn).await?;
        Ok(())
    }
}
