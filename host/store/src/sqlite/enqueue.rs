//! How tasks come in.

use std::collections::{HashMap, HashSet};

use omniq_model::{OnParentFailure, Scope, State, Task, TaskId, TaskResult, Timestamp, record};
use sqlx::Row;

use super::fault::Result;
use super::live::{KEYED, RUNS_ANYWAY, state, task_id};
use super::names::Code;
use super::pack::{Cell, Pack, packed, packed_ids};
use super::plan::parent_failed;
use super::tx::Tx;
use crate::{Enqueued, Refusal};

/// A task on its way in, with its stored form.
#[derive(Debug)]
pub(super) struct New {
    pub task: Task,
    pub bytes: Vec<u8>,
}

impl New {
    pub(super) fn of(task: Task) -> Self {
        let bytes = task.encode();
        Self { task, bytes }
    }
}

/// A task that is there.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    seq: i64,
    state: State,
    /// Its stored form, if it came earlier in this batch.
    bytes: Option<&'a [u8]>,
}

/// A task that is accepted.
struct Accepted<'a> {
    new: &'a New,
    seq: i64,
    lane: i64,
    state: State,
    due: i64,
    /// Parents that have not ended, each once.
    parents: Vec<i64>,
    /// Why it is over at once.
    result: Option<Vec<u8>>,
}

/// What is known while a batch goes in.
#[derive(Default)]
pub(super) struct Batch<'a> {
    known: HashMap<TaskId, Known<'a>>,
    /// The stored form of those that were there before.
    stored: HashMap<TaskId, Vec<u8>>,
    keys: HashMap<(&'a str, &'a str), (TaskId, State)>,
    accepted: Vec<Accepted<'a>>,
    last_seq: i64,
}

impl<'a> Batch<'a> {
    /// Whether a task has that id.
    pub(super) fn is_known(&self, id: TaskId) -> bool {
        self.known.contains_key(&id)
    }

    /// Who holds the key that `task` wants, if anybody does.
    pub(super) fn holder(&self, task: &Task) -> Option<TaskId> {
        let unique = task.unique.as_ref()?;
        let holder = self.keys.get(&(task.lane.tenant.as_str(), unique.key.as_str()))?;
        Some(holder.0)
    }

    /// What of a task's parents is there and has not ended, each once.
    pub(super) fn open_parents(&self, task: &Task) -> Vec<i64> {
        let known = task.after.iter().filter_map(|id| self.known.get(id));
        let mut open: Vec<i64> =
            known.filter(|known| !known.state.is_terminal()).map(|known| known.seq).collect();
        open.sort_unstable();
        open.dedup();
        open
    }

    /// Gives the next place to a task, which from now on is there. Where it comes with its key, that is held by it as of
    /// `keyed`.
    pub(super) fn admit(
        &mut self,
        new: &'a New,
        state: State,
        keyed: Option<Timestamp>,
        created: Timestamp,
    ) -> i64 {
        self.last_seq += 1;
        let seq = self.last_seq;
        self.known.insert(new.task.id, Known { seq, state, bytes: Some(&new.bytes) });
        if let (Some(now), Some(unique)) = (keyed, &new.task.unique) {
            let window = unique.scope == Scope::Window;
            let lasts =
                if window { now < created + unique.window.get() } else { !state.is_terminal() };
            if lasts {
                let key = (new.task.lane.tenant.as_str(), unique.key.as_str());
                self.keys.insert(key, (new.task.id, state));
            }
        }
        seq
    }
}

impl Tx<'_> {
    /// See [`TaskStore::enqueue`](crate::TaskStore::enqueue).
    pub(super) async fn enqueue(&mut self, tasks: &[&New]) -> Result<Vec<Enqueued>> {
        let mut batch = Batch::default();
        self.look_up(&mut batch, tasks).await?;
        self.look_up_keys(&mut batch, tasks).await?;
        let mut answers = Vec::with_capacity(tasks.len());
        for new in tasks {
            answers.push(self.accept(&mut batch, new).await?);
        }
        self.insert(&batch.accepted).await?;
        Ok(answers)
    }

    /// Finds which of these tasks, and of those they wait for, are there.
    pub(super) async fn look_up(&mut self, batch: &mut Batch<'_>, tasks: &[&New]) -> Result<()> {
        packed!(
            FIND,
            2,
            "select b.seq, b.id, coalesce(t.state, d.state)
               from {rows} cross join omniq_body b on b.id = {0b} left join omniq_task t on t.seq = b.seq
                                                                 left join omniq_done d on d.seq = b.seq
              union all
             select seq, null, null from sqlite_sequence where name = 'omniq_body'"
        );
        let own = tasks.iter().map(|new| &new.task.id);
        let parents = tasks.iter().flat_map(|new| &new.task.after);
        let rows = packed_ids(own.chain(parents)).query(&FIND).fetch_all(&mut *self.conn).await?;
        for row in &rows {
            let seq = row.try_get(0)?;
            match row.try_get::<Option<&[u8]>, _>(1)? {
                None => batch.last_seq = seq,
                Some(id) => {
                    let state = state(row.try_get(2)?);
                    batch.known.insert(task_id(id)?, Known { seq, state, bytes: None });
                }
            }
        }
        let wanted: HashSet<_> = tasks.iter().map(|new| new.task.id).collect();
        let there = batch.known.iter().filter(|(id, _)| wanted.contains(id));
        let there: HashMap<i64, TaskId> = there.map(|(id, known)| (known.seq, *id)).collect();
        if there.is_empty() {
            return Ok(());
        }
        const BODIES: &str =
            "select seq, bytes from omniq_body where seq in (select value from json_each(?1))";
        let seqs = super::pack::numbers(there.keys().copied());
        for row in sqlx::query(BODIES).bind(seqs).fetch_all(&mut *self.conn).await? {
            if let Some(id) = there.get(&row.try_get::<i64, _>(0)?) {
                batch.stored.insert(*id, row.try_get(1)?);
            }
        }
        Ok(())
    }

    /// Finds who holds the keys that are wanted. A window that is over holds nothing.
    pub(super) async fn look_up_keys<'a>(
        &mut self,
        batch: &mut Batch<'a>,
        tasks: &[&'a New],
    ) -> Result<()> {
        const HOLDER: &str = "
            select coalesce(t.id, d.id), coalesce(t.state, d.state)
              from omniq_ukey k left join omniq_task t on t.seq = k.holder
                                left join omniq_done d on d.seq = k.holder
             where k.tenant = ?1 and k.key = ?2 and (k.until is null or k.until > ?3)";
        for new in tasks {
            let Some(unique) = &new.task.unique else { continue };
            let key = (new.task.lane.tenant.as_str(), unique.key.as_str());
            if batch.keys.contains_key(&key) {
                continue;
            }
            let row = sqlx::query(HOLDER)
                .bind(key.0.to_owned())
                .bind(key.1.to_owned())
                .bind(self.now.as_millis())
                .fetch_optional(&mut *self.conn)
                .await?;
            if let Some(row) = row
                && let Some(id) = row.try_get::<Option<&[u8]>, _>(0)?
            {
                batch.keys.insert(key, (task_id(id)?, state(row.try_get(1)?)));
            }
        }
        Ok(())
    }

    async fn accept<'a>(&mut self, batch: &mut Batch<'a>, new: &'a New) -> Result<Enqueued> {
        let task = &new.task;
        if let Some(known) = batch.known.get(&task.id) {
            let stored = known.bytes.or(batch.stored.get(&task.id).map(Vec::as_slice));
            let same = stored == Some(&new.bytes[..]);
            let duplicate = Enqueued::Duplicate { id: task.id, state: known.state };
            return Ok(if same { duplicate } else { Enqueued::Conflict });
        }
        let key =
            task.unique.as_ref().map(|unique| (task.lane.tenant.as_str(), unique.key.as_str()));
        if let Some((id, state)) = key.and_then(|key| batch.keys.get(&key)) {
            return Ok(Enqueued::Duplicate { id: *id, state: *state });
        }
        let mut parents = Vec::new();
        let mut failed = None;
        for id in &task.after {
            let Some(known) = batch.known.get(id) else {
                return Ok(Enqueued::Refused(Refusal::UnknownParent(*id)));
            };
            if !known.state.is_terminal() {
                parents.push(known.seq);
            } else if known.state != State::Succeeded && failed.is_none() {
                failed = Some((*id, known.state));
            }
        }
        parents.sort_unstable();
        parents.dedup();
        let accepted = self.place(batch, new, parents, failed).await?;
        let (seq, state) = (accepted.seq, accepted.state);
        batch.known.insert(task.id, Known { seq, state, bytes: Some(&new.bytes) });
        batch.accepted.push(accepted);
        let lasts = |scope| scope == Scope::Window || !state.is_terminal();
        if let (Some(key), Some(unique)) = (key, &task.unique)
            && lasts(unique.scope)
            && (unique.scope != Scope::Window || !unique.window.get().is_zero())
        {
            batch.keys.insert(key, (task.id, state));
        }
        Ok(Enqueued::Created)
    }

    async fn place<'a>(
        &mut self,
        batch: &mut Batch<'a>,
        new: &'a New,
        parents: Vec<i64>,
        failed: Option<(TaskId, State)>,
    ) -> Result<Accepted<'a>> {
        let task = &new.task;
        let failed = failed.filter(|_| task.on_parent_failure != OnParentFailure::Run);
        let starts = task.starts_at(self.now);
        let state = match () {
            () if failed.is_some() => State::Cancelled,
            () if !parents.is_empty() => State::Blocked,
            () if starts > self.now => State::Scheduled,
            () => State::Ready,
        };
        let lane = self.names.lane(self.conn, &task.lane).await?;
        self.count(lane, state, 1);
        self.notes(state);
        batch.last_seq += 1;
        let why = failed.map(|(parent, state)| parent_failed(parent, state));
        Ok(Accepted {
            new,
            seq: batch.last_seq,
            lane,
            state,
            due: starts.as_millis(),
            parents: if state == State::Blocked { parents } else { Vec::new() },
            result: why.map(|error| record::encode(&TaskResult::failure(error))),
        })
    }

    async fn insert(&mut self, accepted: &[Accepted<'_>]) -> Result<()> {
        if accepted.is_empty() {
            return Ok(());
        }
        self.insert_tasks(accepted).await?;
        self.insert_ended(accepted).await?;
        self.insert_edges(accepted).await?;
        self.take_keys(accepted).await
    }

    /// Bodies of all, and rows of those that are not over at once.
    async fn insert_tasks(&mut self, accepted: &[Accepted<'_>]) -> Result<()> {
        packed!(
            INSERT,
            15,
            "insert into omniq_body(seq, id, bytes) select {0}, {11b}, {13b} from {rows};
             insert into omniq_task(seq, lane, code, state, rank, due, expires, ttl, keep, flags, waits, id,
                    attempt, crashes, fence, nonce, cancel, created)
             select {0}, {1}, {2}, {3}, {4}, {5}, {6?}, {7?}, {8}, {9}, {10}, {11b}, 0, 0, 0, null, 0, ?4
               from {rows} where {3} < 4"
        );
        let now = self.now.as_millis();
        let mut pack = Pack::default();
        for (index, task) in accepted.iter().enumerate() {
            let row = self.columns(task).await?;
            let id = Cell::Bytes(task.new.task.id.as_bytes());
            pack.row(&[&row[..], &[id, Cell::Bytes(&task.new.bytes)]].concat());
            if pack.is_full() || index + 1 == accepted.len() {
                pack.query(&INSERT).bind(now).execute(&mut *self.conn).await?;
            }
        }
        Ok(())
    }

    /// The columns of a new task: seq, lane, code, state, rank, due, expires, ttl, keep, flags, waits.
    async fn columns(&mut self, accepted: &Accepted<'_>) -> Result<[Cell<'static>; 11]> {
        let task = &accepted.new.task;
        let code = self.names.code(self.conn, Code::of(task)).await?;
        let ttl = task.ttl.map(|ttl| millis(ttl.get()));
        let keyed = if task.unique.is_some() { KEYED } else { 0 };
        let runs = task.on_parent_failure == OnParentFailure::Run;
        Ok([
            accepted.seq.into(),
            accepted.lane.into(),
            code.into(),
            i64::from(accepted.state.number()).into(),
            i64::from(-task.priority.get()).into(),
            accepted.due.into(),
            task.expires_at(self.now).map(Timestamp::as_millis).into(),
            ttl.into(),
            millis(task.result_ttl.get()).into(),
            (keyed | if runs { RUNS_ANYWAY } else { 0 }).into(),
            i64::try_from(accepted.parents.len()).unwrap_or(i64::MAX).into(),
        ])
    }

    /// Tasks that are over at once, since one they wait for has failed.
    async fn insert_ended(&mut self, accepted: &[Accepted<'_>]) -> Result<()> {
        packed!(
            INSERT,
            16,
            "insert into omniq_done(seq, lane, code, state, rank, ttl, keep, flags, id, result, forget,
                    attempt, crashes, fence, nonce, cancel, created, finished)
             select {0}, {1}, {2}, {3}, {4}, {7?}, {8}, {9}, {11b}, {13b}, {15}, 0, 0, 0, null, 0, ?4, ?4 from {rows}"
        );
        let mut pack = Pack::default();
        for task in accepted {
            let Some(result) = &task.result else { continue };
            let row = self.columns(task).await?;
            let forget = self.now + task.new.task.result_ttl.get();
            let id = Cell::Bytes(task.new.task.id.as_bytes());
            let rest = [id, Cell::Bytes(result), forget.as_millis().into()];
            pack.row(&[&row[..], &rest].concat());
        }
        if !pack.is_empty() {
            let now = self.now.as_millis();
            pack.query(&INSERT).bind(now).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    async fn insert_edges(&mut self, accepted: &[Accepted<'_>]) -> Result<()> {
        let edges = accepted.iter().map(|task| (task.seq, task.parents.as_slice()));
        self.insert_edges_to(edges).await
    }

    /// Lets each task wait for these others.
    pub(super) async fn insert_edges_to(
        &mut self,
        edges: impl Iterator<Item = (i64, &[i64])>,
    ) -> Result<()> {
        packed!(INSERT, 2, "insert into omniq_edge(parent, child) select {0}, {1} from {rows}");
        let mut pack = Pack::default();
        for (child, parents) in edges {
            for parent in parents {
                pack.row(&[(*parent).into(), child.into()]);
            }
        }
        if !pack.is_empty() {
            pack.query(&INSERT).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    async fn take_keys(&mut self, accepted: &[Accepted<'_>]) -> Result<()> {
        for task in accepted {
            if task.new.task.unique.is_some() {
                self.take_key(task.seq, &task.new.task, self.now, task.state).await?;
            }
        }
        Ok(())
    }

    /// Takes a task's key, which is free, as long as its state does. A window that is over by now takes nothing.
    pub(super) async fn take_key(
        &mut self,
        seq: i64,
        task: &Task,
        created: Timestamp,
        state: State,
    ) -> Result<()> {
        const TAKE: &str = "
            insert or replace into omniq_ukey(tenant, key, holder, scope, until) values(?1, ?2, ?3, ?4, ?5)";
        let Some(unique) = &task.unique else { return Ok(()) };
        let until = (unique.scope == Scope::Window).then(|| created + unique.window.get());
        let takes = until.map_or(!state.is_terminal(), |until| self.now < until);
        if takes {
            sqlx::query(TAKE)
                .bind(task.lane.tenant.as_str().to_owned())
                .bind(unique.key.clone())
                .bind(seq)
                .bind(i64::from(unique.scope.number()))
                .bind(until.map(Timestamp::as_millis))
                .execute(&mut *self.conn)
                .await?;
        }
        Ok(())
    }
}

/// Milliseconds; the most there are for what is longer.
pub(super) fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
