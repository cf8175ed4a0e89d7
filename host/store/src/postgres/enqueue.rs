//! How tasks come in.
//!
//! Tasks that wait for no other and have no unique key go in with one statement, those of all callers that asked meanwhile
//! together. Others are decided in memory, in a transaction that holds what they depend on.

use std::collections::{BTreeSet, HashMap, HashSet};

use omniq_model::{OnParentFailure, Scope, State, Task, TaskId, TaskResult, Timestamp, record};
use sqlx::Row;
use sqlx::types::Uuid;

use super::fault::{Fault, Result};
use super::live::{KEYED, Live, RUNS_ANYWAY, UNTIL_STARTED, state};
use super::names::{Numbers, rank};
use super::plan::{Done, parent_failed};
use super::sql::{Bound, Schema, millis, task_id, uuid};
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

    /// Whether it can go in without a look at anything else.
    pub(super) fn is_plain(&self) -> bool {
        self.task.after.is_empty() && self.task.unique.is_none()
    }

    pub(super) fn flags(&self) -> i16 {
        let mut flags =
            if self.task.on_parent_failure == OnParentFailure::Run { RUNS_ANYWAY } else { 0 };
        if let Some(unique) = &self.task.unique {
            flags |= KEYED;
            if unique.scope == Scope::UntilStarted {
                flags |= UNTIL_STARTED;
            }
        }
        flags
    }
}

/// New rows, column by column.
#[derive(Default)]
pub(super) struct Rows<'a> {
    ids: Vec<Uuid>,
    lanes: Vec<i32>,
    codes: Vec<i32>,
    ranks: Vec<i16>,
    flags: Vec<i16>,
    run_ats: Vec<Option<i64>>,
    delays: Vec<i64>,
    ttls: Vec<Option<i64>>,
    keeps: Vec<i64>,
    waits: Vec<i32>,
    bodies: Vec<&'a [u8]>,
}

/// What `put_tasks` said.
pub(super) struct Put {
    pub made: usize,
    pub seqs: Vec<i64>,
}

impl<'a> Rows<'a> {
    pub(super) fn push(&mut self, new: &'a New, numbers: &Numbers, waits: i32) -> Result<()> {
        let task = &new.task;
        self.ids.push(uuid(task.id));
        self.lanes.push(numbers.lane(&task.lane)?);
        self.codes.push(numbers.code(task)?);
        self.ranks.push(rank(task.priority));
        self.flags.push(new.flags());
        self.run_ats.push(task.run_at.map(Timestamp::as_millis));
        self.delays.push(millis(task.delay.get()));
        self.ttls.push(task.ttl.map(|ttl| millis(ttl.get())));
        self.keeps.push(millis(task.result_ttl.get()));
        self.waits.push(waits);
        self.bodies.push(&new.bytes);
        Ok(())
    }

    pub(super) fn query(&self, schema: &Schema, now: Option<i64>) -> Bound {
        const PUT: &str =
            "select * from $S.put_tasks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let query = schema
            .query(PUT)
            .bind(now)
            .bind(&self.ids)
            .bind(&self.lanes)
            .bind(&self.codes)
            .bind(&self.ranks);
        let query = query.bind(&self.flags).bind(&self.run_ats).bind(&self.delays).bind(&self.ttls);
        query.bind(&self.keeps).bind(&self.waits).bind(&self.bodies)
    }
}

pub(super) fn read_put(row: &sqlx::postgres::PgRow) -> Result<Put> {
    let made: i64 = row.try_get(0)?;
    let seqs = row.try_get::<Option<Vec<i64>>, _>(2)?.unwrap_or_default();
    Ok(Put { made: usize::try_from(made).unwrap_or(usize::MAX), seqs })
}

/// A task that is there.
#[derive(Debug, Clone)]
struct Known {
    state: State,
    /// Its place; 0 of one that is on its way in.
    seq: i64,
    /// Its stored form.
    bytes: Vec<u8>,
}

/// A task of a batch that is accepted.
struct Accepted<'a> {
    new: &'a New,
    state: State,
    /// Parents that have not ended, each once.
    parents: Vec<TaskId>,
    /// Why it is over at once.
    result: Option<Vec<u8>>,
}

/// What is known while a batch goes in.
#[derive(Default)]
struct Batch<'a> {
    known: HashMap<TaskId, Known>,
    parents: HashMap<TaskId, (i64, State)>,
    keys: HashMap<(&'a str, &'a str), (TaskId, State)>,
    accepted: Vec<Accepted<'a>>,
}

impl Tx<'_> {
    /// See [`TaskStore::enqueue`](crate::TaskStore::enqueue). The numbers of all that these tasks have are known.
    pub(super) async fn enqueue(
        &mut self,
        tasks: &[&New],
        numbers: &Numbers,
    ) -> Result<Vec<Enqueued>> {
        let mut batch = Batch::default();
        self.hold_keys(tasks).await?;
        self.look_up(&mut batch, tasks).await?;
        self.look_up_parents(&mut batch, tasks).await?;
        self.look_up_keys(&mut batch, tasks).await?;
        let answers = tasks.iter().map(|new| self.accept(&mut batch, new)).collect();
        self.insert(batch, numbers).await?;
        Ok(answers)
    }

    /// Keeps others from taking the same keys until the transaction is over.
    async fn hold_keys(&mut self, tasks: &[&New]) -> Result<()> {
        let keys: BTreeSet<(&str, &str)> =
            tasks.iter().filter_map(|new| key_of(&new.task)).collect();
        self.lock_keys(&keys).await
    }

    /// The same for these keys, always in one order so that nobody waits in a circle.
    pub(super) async fn lock_keys(&mut self, keys: &BTreeSet<(&str, &str)>) -> Result<()> {
        const LOCK: &str = "
            select pg_advisory_xact_lock(k.lock) from (
                select distinct hashtextextended('$S' || u.tenant || ' ', 0) # hashtextextended(encode(u.key, 'hex'), 1) as lock
                  from unnest($1::text[], $2::bytea[]) as u(tenant, key) order by 1) k";
        if keys.is_empty() {
            return Ok(());
        }
        let (tenants, keys): (Vec<String>, Vec<Vec<u8>>) = keys
            .iter()
            .map(|(tenant, key)| ((*tenant).to_owned(), key.as_bytes().to_vec()))
            .unzip();
        self.query(LOCK).bind(tenants).bind(keys).execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Finds which of these tasks are there.
    async fn look_up(&mut self, batch: &mut Batch<'_>, tasks: &[&New]) -> Result<()> {
        let ids: Vec<TaskId> = tasks.iter().map(|new| new.task.id).collect();
        let rows = known(self.schema, &ids).fetch_all(&mut *self.conn).await?;
        for row in &rows {
            let (id, known) = read_known(row)?;
            batch.known.insert(id, known);
        }
        Ok(())
    }

    /// Finds the tasks that others are to wait for, and holds those that have not ended where they are.
    async fn look_up_parents(&mut self, batch: &mut Batch<'_>, tasks: &[&New]) -> Result<()> {
        const PARENTS: &str = "select * from $S.hold_parents($1)";
        let ids: BTreeSet<TaskId> =
            tasks.iter().flat_map(|new| new.task.after.iter().copied()).collect();
        let mut missing: Vec<Uuid> = ids.into_iter().map(uuid).collect();
        // One that was on the move has to come to rest; each look waits for whoever moves it.
        for _ in 0..20 {
            if missing.is_empty() {
                return Ok(());
            }
            let rows = self
                .query(PARENTS)
                .bind(std::mem::take(&mut missing))
                .fetch_all(&mut *self.conn)
                .await?;
            for row in &rows {
                let id: Uuid = row.try_get(0)?;
                match row.try_get::<Option<i16>, _>(2)? {
                    Some(number) => {
                        batch.parents.insert(task_id(id), (row.try_get(1)?, state(number)));
                    }
                    None => missing.push(id),
                }
            }
        }
        Err(Fault::Again("a task that others are to wait for does not come to rest".into()))
    }

    /// Finds who holds the keys that are wanted. A window that is over holds nothing.
    async fn look_up_keys<'a>(&mut self, batch: &mut Batch<'a>, tasks: &[&'a New]) -> Result<()> {
        const HOLDERS: &str = "
            select u.place, t.id, x.state
              from unnest($1::text[], $2::bytea[]) with ordinality as u(tenant, key, place)
              join $S.ukey k on k.tenant = u.tenant and k.key = u.key and (k.until is null or k.until > $3)
              join $S.task t on t.seq = k.holder
              left join lateral (select x.state from $S.state x
                                  where x.seq = t.seq and x.id = t.id and x.lane = t.lane and x.rank = t.rank offset 0) x
                on true";
        let keys: Vec<(&str, &str)> = tasks.iter().filter_map(|new| key_of(&new.task)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let (tenants, bytes): (Vec<String>, Vec<Vec<u8>>) = keys
            .iter()
            .map(|(tenant, key)| ((*tenant).to_owned(), key.as_bytes().to_vec()))
            .unzip();
        let query = self.query(HOLDERS).bind(tenants).bind(bytes).bind(self.now.as_millis());
        for row in query.fetch_all(&mut *self.conn).await? {
            let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
            let held = row.try_get::<Option<i16>, _>(2)?.map_or(State::Ready, state);
            if let Some(key) = keys.get(place) {
                batch.keys.insert(*key, (task_id(row.try_get(1)?), held));
            }
        }
        Ok(())
    }

    fn accept<'a>(&mut self, batch: &mut Batch<'a>, new: &'a New) -> Enqueued {
        let task = &new.task;
        if let Some(known) = batch.known.get(&task.id) {
            return outcome(task.id, known, &new.bytes);
        }
        let key = key_of(task);
        if let Some((id, state)) = key.and_then(|key| batch.keys.get(&key)) {
            return Enqueued::Duplicate { id: *id, state: *state };
        }
        let (mut parents, mut failed) = (Vec::new(), None);
        for id in &task.after {
            let known = batch.parents.get(id).map(|(_, state)| *state);
            let Some(state) = known.or_else(|| batch.known.get(id).map(|known| known.state)) else {
                return Enqueued::Refused(Refusal::UnknownParent(*id));
            };
            if !state.is_terminal() {
                parents.push(*id);
            } else if state != State::Succeeded && failed.is_none() {
                failed = Some((*id, state));
            }
        }
        parents.sort_unstable();
        parents.dedup();
        let accepted = self.place(new, parents, failed);
        let state = accepted.state;
        batch.known.insert(task.id, Known { state, seq: 0, bytes: new.bytes.clone() });
        batch.accepted.push(accepted);
        if let (Some(key), Some(unique)) = (key, &task.unique)
            && (unique.scope == Scope::Window || !state.is_terminal())
            && (unique.scope != Scope::Window || !unique.window.get().is_zero())
        {
            batch.keys.insert(key, (task.id, state));
        }
        Enqueued::Created
    }

    fn place<'a>(
        &mut self,
        new: &'a New,
        parents: Vec<TaskId>,
        failed: Option<(TaskId, State)>,
    ) -> Accepted<'a> {
        let task = &new.task;
        let failed = failed.filter(|_| task.on_parent_failure != OnParentFailure::Run);
        let state = match () {
            () if failed.is_some() => State::Cancelled,
            () if !parents.is_empty() => State::Blocked,
            () if task.starts_at(self.now) > self.now => State::Scheduled,
            () => State::Ready,
        };
        self.notes(state);
        let why = failed.map(|(parent, state)| parent_failed(parent, state));
        Accepted {
            new,
            state,
            parents: if state == State::Blocked { parents } else { Vec::new() },
            result: why.map(|error| record::encode(&TaskResult::failure(error))),
        }
    }

    async fn insert(&mut self, batch: Batch<'_>, numbers: &Numbers) -> Result<()> {
        let accepted = batch.accepted;
        if accepted.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::default();
        for task in &accepted {
            let waits = i32::try_from(task.parents.len()).unwrap_or(i32::MAX);
            rows.push(task.new, numbers, if task.result.is_some() { -1 } else { waits })?;
        }
        let row =
            rows.query(self.schema, Some(self.now.as_millis())).fetch_one(&mut *self.conn).await?;
        let put = read_put(&row)?;
        if put.made < accepted.len() {
            return Err(Fault::Again("the same task came in by another way".into()));
        }
        let places = accepted.iter().map(|task| task.new.task.id).zip(put.seqs.iter().copied());
        let places: HashMap<TaskId, i64> = places.collect();
        self.insert_edges(&accepted, &places, &batch.parents).await?;
        self.insert_ended(&accepted, &put.seqs, numbers).await?;
        let keys = accepted.iter().zip(&put.seqs).filter_map(|(task, seq)| {
            Taken::of(*seq, &task.new.task, self.now, task.state, self.now)
        });
        let keys = keys.collect();
        self.take_keys(keys).await
    }

    async fn insert_edges(
        &mut self,
        accepted: &[Accepted<'_>],
        places: &HashMap<TaskId, i64>,
        held: &HashMap<TaskId, (i64, State)>,
    ) -> Result<()> {
        const INSERT: &str = "
            insert into $S.edge(parent, child) select * from unnest($1::bigint[], $2::bigint[])";
        let (mut parents, mut children) = (Vec::new(), Vec::new());
        for task in accepted {
            for id in &task.parents {
                let parent = places.get(id).copied().or_else(|| held.get(id).map(|(seq, _)| *seq));
                let (Some(parent), Some(child)) = (parent, places.get(&task.new.task.id)) else {
                    return Err(Fault::Other(
                        "a task that others are to wait for has no place".into(),
                    ));
                };
                parents.push(parent);
                children.push(*child);
            }
        }
        if !parents.is_empty() {
            self.query(INSERT).bind(parents).bind(children).execute(&mut *self.conn).await?;
            // Claims passed over what was held here.
            self.work = true;
        }
        Ok(())
    }

    /// Tasks that are over at once, since one they wait for has failed.
    async fn insert_ended(
        &mut self,
        accepted: &[Accepted<'_>],
        seqs: &[i64],
        numbers: &Numbers,
    ) -> Result<()> {
        let mut done = Done::default();
        for (task, seq) in accepted.iter().zip(seqs) {
            let Some(result) = &task.result else { continue };
            let new = &task.new.task;
            let live = Live {
                state: task.state,
                seq: *seq,
                keep: millis(new.result_ttl.get()),
                fence: 0,
                due: 0,
                id: new.id,
                lane: numbers.lane(&new.lane)?,
                size: 0,
                attempt: 0,
                crashes: 0,
                waits: 0,
                rank: rank(new.priority),
                flags: task.new.flags(),
                nonce: None,
                session: None,
                expires: None,
                started: None,
                error: None,
                awaited: false,
            };
            done.push(&live, self.now, result.clone());
        }
        done.insert(self).await
    }

    /// Takes a task's key; see [`Taken::of`].
    pub(super) async fn take_key(
        &mut self,
        seq: i64,
        task: &Task,
        created: Timestamp,
        state: State,
    ) -> Result<()> {
        let key = Taken::of(seq, task, created, state, self.now);
        self.take_keys(key.into_iter().collect()).await
    }

    /// Takes keys, which are free, all at once. No two are the same: whoever comes second with one does not get it.
    pub(super) async fn take_keys(&mut self, keys: Vec<Taken>) -> Result<()> {
        const TAKE: &str = "
            insert into $S.ukey(tenant, key, holder, scope, until)
            select * from unnest($1::text[], $2::bytea[], $3::bigint[], $4::smallint[], $5::bigint[])
            on conflict (tenant, key) do update set holder = excluded.holder, scope = excluded.scope, until = excluded.until";
        if keys.is_empty() {
            return Ok(());
        }
        let (mut tenants, mut names, mut holders) = (Vec::new(), Vec::new(), Vec::new());
        let (mut scopes, mut untils) = (Vec::new(), Vec::new());
        for key in keys {
            tenants.push(key.tenant);
            names.push(key.key);
            holders.push(key.holder);
            scopes.push(key.scope);
            untils.push(key.until);
        }
        let query = self.query(TAKE).bind(tenants).bind(names).bind(holders);
        query.bind(scopes).bind(untils).execute(&mut *self.conn).await?;
        Ok(())
    }
}

/// A key that a task takes.
#[derive(Debug)]
pub(super) struct Taken {
    tenant: String,
    key: Vec<u8>,
    holder: i64,
    scope: i16,
    until: Option<i64>,
}

impl Taken {
    /// What a task that was created then takes, as long as its state does. A window that is over by now takes nothing.
    pub(super) fn of(
        seq: i64,
        task: &Task,
        created: Timestamp,
        state: State,
        now: Timestamp,
    ) -> Option<Self> {
        let unique = task.unique.as_ref()?;
        let until = (unique.scope == Scope::Window).then(|| created + unique.window.get());
        until.map_or(!state.is_terminal(), |until| now < until).then(|| Self {
            tenant: task.lane.tenant.as_str().to_owned(),
            key: unique.key.as_bytes().to_vec(),
            holder: seq,
            scope: i16::from(unique.scope.number()),
            until: until.map(Timestamp::as_millis),
        })
    }
}

/// The key a task wants, with its tenant.
fn key_of(task: &Task) -> Option<(&str, &str)> {
    task.unique.as_ref().map(|unique| (task.lane.tenant.as_str(), unique.key.as_str()))
}

/// Asks which of these tasks are there.
fn known(schema: &Schema, ids: &[TaskId]) -> Bound {
    const KNOWN: &str = "
        select t.id, x.state, t.seq, t.body from unnest($1::uuid[]) as u(id)
         cross join lateral (select * from $S.task t where t.id = u.id offset 0) t
          left join lateral (select x.state from $S.state x
                              where x.seq = t.seq and x.id = t.id and x.lane = t.lane and x.rank = t.rank offset 0) x
            on true";
    schema.query(KNOWN).bind(super::sql::uuids(ids))
}

fn read_known(row: &sqlx::postgres::PgRow) -> Result<(TaskId, Known)> {
    let state = row.try_get::<Option<i16>, _>(1)?.map_or(State::Ready, state);
    Ok((task_id(row.try_get(0)?), Known { state, seq: row.try_get(2)?, bytes: row.try_get(3)? }))
}

fn outcome(id: TaskId, known: &Known, bytes: &[u8]) -> Enqueued {
    let duplicate = Enqueued::Duplicate { id, state: known.state };
    if known.bytes == bytes { duplicate } else { Enqueued::Conflict }
}

/// What there is to say about plain tasks, of which not all were made by the call that said `put`.
///
/// Of those with the same id only the first can have been made.
pub(super) async fn answers_of(
    conn: &mut sqlx::PgConnection,
    schema: &Schema,
    tasks: &[&New],
    put: &Put,
) -> Result<Vec<Enqueued>> {
    let ids: Vec<TaskId> = tasks.iter().map(|new| new.task.id).collect();
    let rows = known(schema, &ids).fetch_all(conn).await?;
    let known: HashMap<TaskId, Known> = rows.iter().map(read_known).collect::<Result<_>>()?;
    let mut made: HashSet<i64> = put.seqs.iter().copied().collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for new in tasks {
        answers.push(match known.get(&new.task.id) {
            Some(known) if made.remove(&known.seq) => Enqueued::Created,
            Some(known) => outcome(new.task.id, known, &new.bytes),
            // It was there a moment ago, and was forgotten since.
            None => return Err(Fault::Again("a task was forgotten meanwhile".into())),
        });
    }
    Ok(answers)
}
