//! Sessions: who is alive, what each holds, and the calls about it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use omniq_model::{Kind, Retry, SessionId, State, Task, TaskError, TaskId, Token};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::fault::Result;
use super::live::{CANCEL, Live, session};
use super::migrate;
use super::plan::Plan;
use super::sql::{Bound, Schema, count, millis, task_id};
use super::tx::Tx;
use crate::{Beat, FENCE_STEP, Held, Moved, Restored, Session};

/// Asks to keep a session alive, and what it holds.
pub(super) fn heartbeat(schema: &Schema, now: Option<i64>, of: &Session) -> Bound {
    const BEAT: &str = "select * from $S.heartbeat($1, $2, $3)";
    schema.query(BEAT).bind(now).bind(session(of.id)).bind(millis(of.lease))
}

/// Reads the answer to [`heartbeat`].
pub(super) fn read_beat(rows: &[PgRow], held: Held) -> Result<Beat> {
    if rows.is_empty() {
        return Ok(Beat::Dead);
    }
    let mut holds = Held::default();
    let mut cancel = Vec::new();
    for row in rows {
        let Some(id) = row.try_get::<Option<sqlx::types::Uuid>, _>(0)? else { continue };
        let token = token(row.try_get(1)?, row.try_get(2)?);
        holds.toggle(task_id(id), token, true);
        if row.try_get::<i16, _>(3)? & CANCEL != 0 {
            cancel.push((task_id(id), token));
        }
    }
    Ok(Beat::Alive { matches: holds == held, cancel })
}

/// Asks for the running tasks of a session that somebody wants stopped.
pub(super) fn cancels(schema: &Schema, of: SessionId) -> Bound {
    const CANCELS: &str = "
        select id, fence, nonce from $S.lease where session = $1 and flags & 4 <> 0 order by seq";
    schema.query(CANCELS).bind(session(of))
}

/// Reads the answer to [`cancels`].
pub(super) fn read_cancels(rows: &[PgRow]) -> Result<Vec<(TaskId, Token)>> {
    rows.iter()
        .map(|row| Ok((task_id(row.try_get(0)?), token(row.try_get(1)?, row.try_get(2)?))))
        .collect()
}

fn token(fence: i64, nonce: Option<i64>) -> Token {
    Token { fence: fence.cast_unsigned(), nonce: nonce.unwrap_or_default().cast_unsigned() }
}

impl Tx<'_> {
    /// See [`TaskStore::open_session`](crate::TaskStore::open_session).
    pub(super) async fn open_session(
        &mut self,
        id: SessionId,
        name: &str,
        lease: Duration,
    ) -> Result<Session> {
        const OPEN: &str = "
            insert into $S.session(id, name, lease, expires) values($1, $2, $3, $4)
            on conflict (id) do update set lease = excluded.lease, expires = excluded.expires
             where session.expires >= $5";
        self.query(OPEN)
            .bind(session(id))
            .bind(name.replace('\0', "\u{fffd}")) // text has no such character
            .bind(millis(lease))
            .bind((self.now + lease).as_millis())
            .bind(self.now.as_millis())
            .execute(&mut *self.conn)
            .await?;
        Ok(Session { id, lease })
    }

    /// See [`TaskStore::close_session`](crate::TaskStore::close_session).
    pub(super) async fn close_session(&mut self, id: SessionId) -> Result<Vec<Moved>> {
        const CLOSE: &str = "delete from $S.session where id = $1";
        self.query(CLOSE).bind(session(id)).execute(&mut *self.conn).await?;
        self.reconcile(id, &[]).await
    }

    /// See [`TaskStore::reconcile`](crate::TaskStore::reconcile).
    pub(super) async fn reconcile(
        &mut self,
        id: SessionId,
        held: &[(TaskId, Token)],
    ) -> Result<Vec<Moved>> {
        const HOLDS: &str = "select id, fence, nonce from $S.lease where session = $1";
        let known: HashSet<_> = held.iter().copied().collect();
        let rows = self.query(HOLDS).bind(session(id)).fetch_all(&mut *self.conn).await?;
        let mut lost = read_cancels(&rows)?;
        lost.retain(|lease| !known.contains(lease));
        let lost: Vec<TaskId> = lost.into_iter().map(|(id, _)| id).collect();
        let mut plan = Plan::default();
        let mut moved = Vec::new();
        for task in self.hold(&lost).await? {
            let is_known = task.token().is_some_and(|token| known.contains(&(task.id, token)));
            if task.session != Some(session(id)) || is_known {
                continue;
            }
            moved.push(self.give_back(&mut plan, task).await?);
        }
        plan.write(self).await?;
        Ok(moved)
    }

    /// Puts a running task back as if it had not been claimed.
    async fn give_back(&mut self, plan: &mut Plan, mut task: Live) -> Result<Moved> {
        task.give_attempt_back();
        task.nonce = None;
        self.put_back(plan, &mut task, self.now).await?;
        Ok(task.moved(self.lane_name(task.lane).await?, State::Running))
    }

    /// See [`Admin::restored`](crate::Admin::restored).
    pub(super) async fn restored(&mut self) -> Result<Restored> {
        // Claims and ends that are under way are waited for, and none begins until the commit: a claim that takes a task
        // from under this would have a fence of before.
        const LOCK: &str = "lock table $S.lease in exclusive mode";
        const CLOSE: &str = "delete from $S.session";
        const RUNNING: &str = "select l.id from $S.lease l order by l.seq";
        // In the order in which tasks go from one to the next, so that none on its way is missed. Each on its own: it sees
        // what was committed while the one before it waited for a row.
        const RAISE: [&str; 3] = [
            "update $S.blocked set fence = least(fence, 9223372036854775807 - $1) + $1, nonce = null where fence > 0",
            "update $S.scheduled set fence = least(fence, 9223372036854775807 - $1) + $1, nonce = null where fence > 0",
            "update $S.ready set fence = least(fence, 9223372036854775807 - $1) + $1, nonce = null where fence > 0",
        ];
        self.query(LOCK).execute(&mut *self.conn).await?;
        self.query(CLOSE).execute(&mut *self.conn).await?;
        let rows = self.query(RUNNING).fetch_all(&mut *self.conn).await?;
        let running: Vec<TaskId> =
            rows.iter().map(|row| Ok(task_id(row.try_get(0)?))).collect::<Result<_>>()?;
        let mut plan = Plan::default();
        let mut moved = Vec::with_capacity(running.len());
        for task in self.hold(&running).await? {
            moved.push(self.give_back(&mut plan, task).await?);
        }
        plan.write(self).await?;
        for raise in RAISE {
            self.query(raise).bind(FENCE_STEP.cast_signed()).execute(&mut *self.conn).await?;
        }
        let incarnation = migrate::renew(self.conn, self.schema).await?;
        Ok(Restored { incarnation: Some(incarnation), moved })
    }

    /// See [`TaskStore::reclaim`](crate::TaskStore::reclaim).
    pub(super) async fn reclaim(&mut self, max: usize) -> Result<Vec<Moved>> {
        // Hops from holder to holder over the index, so that it costs the sessions, not what they hold. In every pass, also
        // of sessions that were found dead before: a claim may have been committed after that look.
        const DEAD: &str = "
            with recursive holder(id) as (
                (select l.session from $S.lease l where l.session is not null order by l.session limit 1)
                 union all
                select (select l.session from $S.lease l where l.session > holder.id order by l.session limit 1)
                  from holder where holder.id is not null)
            select h.id, s.id is null from holder h left join $S.session s on s.id = h.id
             where h.id is not null and (s.id is null or s.expires < $1)";
        // Whoever is being kept alive at this moment has its row locked, and is not dead. One that is dead here is so for good:
        // a heartbeat that read the clock before and waits for its row must not find it as it was.
        const BURY: &str = "
            with d as materialized (
                select s.id from $S.session s where s.id = any($1) and s.expires < $2 for update skip locked
            )
            update $S.session s set expires = -9223372036854775808 where s.id = any(array(select d.id from d)) returning s.id";
        // Somebody may stand still with one of them locked: the others do not wait for that.
        const LOST: &str = "
            select id from $S.lease where session = any($1) order by seq limit $2 for update skip locked";
        let now = self.now.as_millis();
        let rows = self.query(DEAD).bind(now).fetch_all(&mut *self.conn).await?;
        let (mut dead, mut over) = (Vec::<i64>::new(), Vec::<i64>::new());
        for row in &rows {
            let is_unknown = row.try_get(1)?;
            if is_unknown { &mut dead } else { &mut over }.push(row.try_get(0)?);
        }
        if !over.is_empty() {
            let rows = self.query(BURY).bind(over).bind(now).fetch_all(&mut *self.conn).await?;
            for row in &rows {
                dead.push(row.try_get(0)?);
            }
        }
        let mut moved = Vec::new();
        if !dead.is_empty() {
            let query = self.query(LOST).bind(dead.clone()).bind(count(max));
            let rows = query.fetch_all(&mut *self.conn).await?;
            let lost: Vec<TaskId> =
                rows.iter().map(|row| Ok(task_id(row.try_get(0)?))).collect::<Result<_>>()?;
            let mut lost = self.hold(&lost).await?;
            lost.retain(|task| task.session.is_some_and(|of| dead.contains(&of)));
            let budgets = self.crash_budgets(&lost).await?;
            let mut plan = Plan::default();
            let over = lost.iter().filter(|task| task.dies_of(budgets.get(&task.id).copied()));
            let over: Vec<i64> = over.filter(|task| task.awaited).map(|task| task.seq).collect();
            plan.read_ahead(self, over, State::Failed).await?;
            for task in lost {
                let budget = budgets.get(&task.id).copied();
                moved.push(self.crash(&mut plan, task, budget).await?);
            }
            plan.write(self).await?;
        }
        self.tidy_sessions().await?;
        Ok(moved)
    }

    /// How often a worker may die under each of these tasks; of one that cannot be read, as often as usual.
    async fn crash_budgets(&mut self, tasks: &[Live]) -> Result<HashMap<TaskId, u32>> {
        const BODIES: &str = "
            select t.id, t.body from unnest($1::uuid[]) as u(id)
             cross join lateral (select t.id, t.body from $S.task t where t.id = u.id offset 0) t";
        // Bodies that are in memory at a time; most calls have far fewer.
        const BYTES: i64 = 16 << 20;
        let (mut budgets, mut left) = (HashMap::with_capacity(tasks.len()), tasks);
        while !left.is_empty() {
            let mut bytes = 0_i64;
            let fits = |task: &&Live| {
                bytes = bytes.saturating_add(task.size.into());
                bytes <= BYTES
            };
            let (some, rest) = left.split_at(left.iter().take_while(fits).count().max(1));
            left = rest;
            let ids: Vec<TaskId> = some.iter().map(|task| task.id).collect();
            let query = self.query(BODIES).bind(super::sql::uuids(&ids));
            for row in query.fetch_all(&mut *self.conn).await? {
                if let Ok(task) = Task::decode(row.try_get(1)?) {
                    budgets.insert(task_id(row.try_get(0)?), task.retry.crashes);
                }
            }
        }
        Ok(budgets)
    }

    /// A task's worker died.
    async fn crash(
        &mut self,
        plan: &mut Plan,
        mut task: Live,
        budget: Option<u32>,
    ) -> Result<Moved> {
        let dies = task.dies_of(budget);
        task.crashes = task.crashes.saturating_add(1);
        task.give_attempt_back();
        task.nonce = None;
        if dies {
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
            delete from $S.session s where s.id = any(array(
                select s.id from $S.session s where s.expires < $1
                   and not exists (select 1 from $S.lease l where l.session = s.id) for update of s skip locked))";
        self.query(TIDY).bind(self.now.as_millis()).execute(&mut *self.conn).await?;
        Ok(())
    }
}

impl Live {
    /// Whether one crash more is too much for it, by its budget or the usual one.
    fn dies_of(&self, budget: Option<u32>) -> bool {
        let budget = budget.unwrap_or(Retry::default().crashes);
        i64::from(self.crashes.saturating_add(1)) > i64::from(budget) && !self.has(CANCEL)
    }
}

fn crashed(crashes: i32) -> TaskError {
    let times = if crashes == 1 { "once".to_owned() } else { format!("{crashes} times") };
    TaskError::new(Kind::Crashed, format!("its worker died under it {times}"))
}
