//! Sessions: who is alive, what each holds, and the calls about it.

use std::collections::HashSet;
use std::time::Duration;

use omniq_model::{Kind, Retry, SessionId, State, Task, TaskError, TaskId, Timestamp, Token};
use sqlx::{Row, SqliteConnection};

use super::enqueue::millis;
use super::fault::Result;
use super::live::{Live, live, session, task_id};
use super::migrate;
use super::pack::numbers;
use super::plan::Plan;
use super::tx::Tx;
use crate::{Beat, FENCE_STEP, Held, Moved, Restored, Session};

impl Tx<'_> {
    /// See [`TaskStore::open_session`](crate::TaskStore::open_session).
    pub(super) async fn open_session(
        &mut self,
        id: SessionId,
        name: &str,
        lease: Duration,
    ) -> Result<Session> {
        const OPEN: &str = "
            insert into omniq_session(id, name, lease, expires) values(?1, ?2, ?3, ?4)
            on conflict do update set lease = excluded.lease, expires = excluded.expires where expires >= ?5";
        sqlx::query(OPEN)
            .bind(session(id))
            .bind(name.to_owned())
            .bind(millis(lease))
            .bind((self.now + lease).as_millis())
            .bind(self.now.as_millis())
            .execute(&mut *self.conn)
            .await?;
        Ok(Session { id, lease })
    }

    /// The clock has leapt so far: sessions that lived before have their whole lease from now on. Other processes notice
    /// the same leap, and doing it twice does no harm.
    pub(super) async fn spare(&mut self, leapt: Duration) -> Result<()> {
        const SPARE: &str = "
            update omniq_session set expires = ?2 + lease where expires >= ?1 and expires < ?2 + lease";
        sqlx::query(SPARE)
            .bind((self.now - leapt).as_millis())
            .bind(self.now.as_millis())
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// See [`TaskStore::close_session`](crate::TaskStore::close_session).
    pub(super) async fn close_session(&mut self, id: SessionId) -> Result<Vec<Moved>> {
        const CLOSE: &str = "delete from omniq_session where id = ?1";
        let moved = self.reconcile(id, &[]).await?;
        sqlx::query(CLOSE).bind(session(id)).execute(&mut *self.conn).await?;
        Ok(moved)
    }

    /// See [`TaskStore::heartbeat`](crate::TaskStore::heartbeat).
    pub(super) async fn heartbeat(&mut self, of: &Session, held: Held) -> Result<Beat> {
        const RENEW: &str = "
            update omniq_session set expires = ?2, lease = ?3 where id = ?1 and expires >= ?4";
        let renewed = sqlx::query(RENEW)
            .bind(session(of.id))
            .bind((self.now + of.lease).as_millis())
            .bind(millis(of.lease))
            .bind(self.now.as_millis())
            .execute(&mut *self.conn)
            .await?;
        if renewed.rows_affected() == 0 {
            return Ok(Beat::Dead);
        }
        const HELD: &str = "
            select id, fence, nonce, cancel from omniq_task where state = 3 and session = ?1 order by seq";
        let mut holds = Held::default();
        let mut cancel = Vec::new();
        for row in sqlx::query(HELD).bind(session(of.id)).fetch_all(&mut *self.conn).await? {
            let lease = lease(&row)?;
            holds.toggle(lease.0, lease.1, true);
            if row.try_get::<i64, _>(3)? != 0 {
                cancel.push(lease);
            }
        }
        Ok(Beat::Alive { matches: holds == held, cancel })
    }

    /// See [`TaskStore::reconcile`](crate::TaskStore::reconcile).
    pub(super) async fn reconcile(
        &mut self,
        id: SessionId,
        held: &[(TaskId, Token)],
    ) -> Result<Vec<Moved>> {
        const HELD: &str = concat!(
            "select ",
            live!(),
            " from omniq_task t where t.state = 3 and t.session = ?1 order by t.seq"
        );
        let known: HashSet<_> = held.iter().copied().collect();
        let rows = sqlx::query(HELD).bind(session(id)).fetch_all(&mut *self.conn).await?;
        let mut plan = Plan::default();
        let mut moved = Vec::new();
        for row in &rows {
            let task = Live::read(row, 0)?;
            if task.token().is_some_and(|token| known.contains(&(task.id, token))) {
                continue;
            }
            moved.push(self.give_back(&mut plan, task).await?);
        }
        plan.write(self).await?;
        Ok(moved)
    }

    /// Puts a running task back as if it had not been claimed.
    async fn give_back(&mut self, plan: &mut Plan, mut task: Live) -> Result<Moved> {
        task.attempt = (task.attempt - 1).max(0);
        task.nonce = None;
        self.put_back(plan, &mut task, self.now).await?;
        Ok(task.moved(self.lane_name(task.lane).await?, State::Running))
    }

    /// See [`Admin::restored`](crate::Admin::restored).
    pub(super) async fn restored(&mut self) -> Result<Restored> {
        const RUNNING: &str =
            concat!("select ", live!(), " from omniq_task t where t.state = 3 order by t.seq");
        const CLOSE: &str = "delete from omniq_session";
        const RAISE: &str = "
            update omniq_task set fence = min(fence, 9223372036854775807 - ?1) + ?1, nonce = null where fence > 0";
        let rows = sqlx::query(RUNNING).fetch_all(&mut *self.conn).await?;
        let mut plan = Plan::default();
        let mut moved = Vec::with_capacity(rows.len());
        for row in &rows {
            moved.push(self.give_back(&mut plan, Live::read(row, 0)?).await?);
        }
        plan.write(self).await?;
        sqlx::query(CLOSE).execute(&mut *self.conn).await?;
        sqlx::query(RAISE).bind(FENCE_STEP.cast_signed()).execute(&mut *self.conn).await?;
        let incarnation = migrate::TASKS.renew(self.conn).await?;
        Ok(Restored { incarnation: Some(incarnation), moved })
    }

    /// See [`TaskStore::reclaim`](crate::TaskStore::reclaim).
    pub(super) async fn reclaim(&mut self, max: usize) -> Result<Vec<Moved>> {
        // Hops from holder to holder over the index, so that it costs the sessions, not what they hold.
        const DEAD: &str = "
            with recursive holder(id) as (
                select min(session) from omniq_task where state = 3
                 union all
                select (select min(session) from omniq_task where state = 3 and session > holder.id)
                  from holder where holder.id is not null)
            select h.id from holder h left join omniq_session s on s.id = h.id
             where h.id is not null and (s.id is null or s.expires < ?1)";
        const LOST: &str = concat!(
            "select ",
            live!(),
            ", b.bytes from omniq_task t left join omniq_body b on b.seq = t.seq
              where t.state = 3 and t.session in (select value from json_each(?1))
              order by t.seq limit +?2"
        );
        let now = self.now.as_millis();
        let dead: Vec<i64> = sqlx::query_scalar(DEAD).bind(now).fetch_all(&mut *self.conn).await?;
        let mut moved = Vec::new();
        if !dead.is_empty() {
            let rows = sqlx::query(LOST)
                .bind(numbers(dead))
                .bind(i64::try_from(max).unwrap_or(i64::MAX))
                .fetch_all(&mut *self.conn)
                .await?;
            let mut plan = Plan::default();
            for row in &rows {
                let budget = crash_budget(row.try_get(Live::COLUMNS)?);
                moved.push(self.crash(&mut plan, Live::read(row, 0)?, budget).await?);
            }
            plan.write(self).await?;
        }
        self.tidy_sessions().await?;
        Ok(moved)
    }

    /// A task's worker died.
    async fn crash(&mut self, plan: &mut Plan, mut task: Live, budget: i64) -> Result<Moved> {
        task.crashes = task.crashes.saturating_add(1).min(u32::MAX.into());
        task.attempt = (task.attempt - 1).max(0);
        task.nonce = None;
        if task.crashes > budget && !task.cancel {
            let error = crashed(task.crashes);
            plan.end_without(self, task.clone(), State::Failed, error).await?;
            task.state = State::Failed;
        } else {
            self.put_back(plan, &mut task, self.now).await?;
        }
        Ok(task.moved(self.lane_name(task.lane).await?, State::Running))
    }

    /// Forgets sessions whose lease is over and that hold nothing.
    async fn tidy_sessions(&mut self) -> Result<()> {
        const TIDY: &str = "
            delete from omniq_session where expires < ?1
               and not exists(select 1 from omniq_task t where t.state = 3 and t.session = omniq_session.id)";
        sqlx::query(TIDY).bind(self.now.as_millis()).execute(&mut *self.conn).await?;
        Ok(())
    }
}

/// The latest instant that a process has seen in this file: when a session was last kept alive, or a task ended.
pub(super) async fn seen(conn: &mut SqliteConnection) -> Result<Option<Timestamp>> {
    const SEEN: &str = "
        select max(at) from (select max(expires - lease) as at from omniq_session
                              union all select max(finished) from omniq_done)";
    let seen: Option<i64> = sqlx::query_scalar(SEEN).fetch_one(conn).await?;
    Ok(seen.map(Timestamp::from_millis))
}

/// See [`TaskStore::cancels`](crate::TaskStore::cancels); a read.
pub(super) async fn cancels(
    conn: &mut SqliteConnection,
    id: SessionId,
) -> Result<Vec<(TaskId, Token)>> {
    const CANCELS: &str = "
        select id, fence, nonce from omniq_task
         where state = 3 and session = ?1 and cancel = 1 order by seq";
    let rows = sqlx::query(CANCELS).bind(session(id)).fetch_all(conn).await?;
    rows.iter().map(lease).collect()
}

fn lease(row: &sqlx::sqlite::SqliteRow) -> Result<(TaskId, Token)> {
    let fence: i64 = row.try_get(1)?;
    let nonce: Option<i64> = row.try_get(2)?;
    let nonce = nonce.unwrap_or_default().cast_unsigned();
    Ok((task_id(row.try_get(0)?)?, Token { fence: fence.cast_unsigned(), nonce }))
}

/// How often a worker may die under a task; of one that cannot be read, as often as usual.
fn crash_budget(bytes: Option<&[u8]>) -> i64 {
    let task = bytes.and_then(|bytes| Task::decode(bytes).ok());
    task.map_or(Retry::default().crashes, |task| task.retry.crashes).into()
}

fn crashed(crashes: i64) -> TaskError {
    let times = if crashes == 1 { "once".to_owned() } else { format!("{crashes} times") };
    TaskError::new(Kind::Crashed, format!("its worker died under it {times}"))
}
