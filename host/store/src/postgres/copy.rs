//! Tasks on their way to another store and from one.

use std::collections::{BTreeSet, HashMap, HashSet};

use omniq_model::{State, Task, TaskId, TaskResult, Timestamp, record};
use sqlx::types::Uuid;
use sqlx::{PgConnection, Row};

use super::database::{Database, Use};
use super::enqueue::New;
use super::fault::{Fault, Result};
use super::live::{CANCEL, number, state};
use super::names::{Numbers, rank};
use super::read;
use super::sql::{Schema, count as limit, millis, task_id, uuid, uuids};
use super::tx::Tx;
use crate::{CopyPage, Imported, Info, TaskCopy};

/// Bytes of tasks and results after which a page ends.
pub(super) const PAGE_BYTES: i64 = 16 << 20;

/// Rows of tasks that have not ended.
macro_rules! insert {
    ($table:literal) => {
        concat!(
            "insert into $S.",
            $table,
            "(seq, keep, fence, due, id, lane, size, attempt, crashes, waits, rank, flags, expires, started, error)
             select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::int[], $7::int[],
                                  $8::int[], $9::int[], $10::int[], $11::smallint[], $12::smallint[], $13::bigint[],
                                  $14::bigint[], $15::bytea[])"
        )
    };
}

/// See [`Admin::export`](crate::Admin::export).
pub(super) async fn export(
    db: &Database,
    now: Timestamp,
    after: Option<u64>,
    max: usize,
) -> Result<CopyPage> {
    let after = after.map_or(-1, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
    db.read(Use::Keyed, move |conn, schema| {
        Box::pin(async move {
            let Some((last, more)) = page(conn, schema, after, max).await? else {
                return Ok(CopyPage::default());
            };
            let infos = read::between(conn, schema, after, last).await?;
            let expiries = expiries(conn, schema, after, last).await?;
            let holders = holders(conn, schema, now, &infos).await?;
            let items = infos.into_iter().map(|info| {
                let seq = info.head.seq.cast_signed();
                TaskCopy {
                    // Tasks without a time to live that came before step 5 of the schema have the last instant.
                    expires: expiries.get(&seq).copied().filter(|at| at.as_millis() < i64::MAX),
                    holds_key: holders.contains(&seq),
                    info,
                }
            });
            let next = more.then(|| last.cast_unsigned());
            Ok(CopyPage { items: items.collect(), next })
        })
    })
    .await
}

/// Where the page after `after` ends, and whether more follow; `None` where nothing does.
async fn page(
    conn: &mut PgConnection,
    schema: &Schema,
    after: i64,
    max: usize,
) -> Result<Option<(i64, bool)>> {
    const SIZES: &str = "
        select t.seq, octet_length(t.body)::bigint + coalesce(octet_length(d.result), 0)::bigint
          from (select x.* from $S.task x where x.seq > $1 order by x.seq limit $2) t
          left join $S.done d on d.seq = t.seq order by t.seq";
    let query = schema.query(SIZES).bind(after).bind(limit(max.saturating_add(1)));
    let rows = query.fetch_all(conn).await?;
    let (mut bytes, mut last) = (0_i64, None);
    for row in rows.iter().take(max) {
        bytes = bytes.saturating_add(row.try_get(1)?);
        if last.is_some() && bytes > PAGE_BYTES {
            return Ok(last.map(|last| (last, true)));
        }
        last = Some(row.try_get(0)?);
    }
    Ok(last.map(|last| (last, rows.len() > max)))
}

/// When tasks expire that have not ended.
async fn expiries(
    conn: &mut PgConnection,
    schema: &Schema,
    after: i64,
    last: i64,
) -> Result<HashMap<i64, Timestamp>> {
    const EXPIRIES: &str = "
        with t as materialized (select x.* from $S.task x where x.seq > $1 and x.seq <= $2)
        select x.seq, x.expires from t
          join $S.ready x on x.lane = t.lane and x.rank = t.rank and x.seq = t.seq
         where x.expires is not null
         union all
        select x.seq, x.expires from t join $S.scheduled x on x.seq = t.seq where x.expires is not null
         union all
        select x.seq, x.expires from t join $S.blocked x on x.seq = t.seq where x.expires is not null
         union all
        select x.seq, x.expires from t join $S.lease x on x.id = t.id where x.expires is not null";
    let rows = schema.query(EXPIRIES).bind(after).bind(last).fetch_all(conn).await?;
    let expiry = |row: &sqlx::postgres::PgRow| {
        Ok((row.try_get(0)?, Timestamp::from_millis(row.try_get(1)?)))
    };
    rows.iter().map(expiry).collect()
}

/// Which of these tasks hold their keys.
async fn holders(
    conn: &mut PgConnection,
    schema: &Schema,
    now: Timestamp,
    infos: &[Info],
) -> Result<HashSet<i64>> {
    const HOLDERS: &str = "
        select k.holder from $S.ukey k where k.holder = any($1) and (k.until is null or k.until > $2)";
    let keyed =
        infos.iter().filter(|info| info.task.as_ref().is_ok_and(|task| task.unique.is_some()));
    let seqs: Vec<i64> = keyed.map(|info| info.head.seq.cast_signed()).collect();
    if seqs.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = schema.query(HOLDERS).bind(seqs).bind(now.as_millis()).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A task on its way in from another store.
#[derive(Debug)]
pub(super) struct Landing {
    /// As it lands.
    copy: TaskCopy,
    /// Its stored form; `None` where it cannot be read.
    new: Option<New>,
}

impl Landing {
    pub(super) fn of(copy: TaskCopy) -> Self {
        let copy = copy.landed();
        let known = !matches!(copy.info.head.state, State::Other(_));
        let task = copy.info.task.as_ref().ok().filter(|_| known);
        let new = task.map(|task| New::of(Task::clone(task)));
        Self { copy, new }
    }

    /// The task, where it can be read.
    pub(super) fn task(&self) -> Option<&Task> {
        self.new.as_ref().map(|new| &new.task)
    }

    /// The key that it brings along.
    fn key(&self) -> Option<(&str, &str)> {
        let task = self.task().filter(|_| self.copy.holds_key)?;
        task.unique.as_ref().map(|unique| (task.lane.tenant.as_str(), unique.key.as_str()))
    }
}

/// A task that is taken in.
struct Landed<'a> {
    copy: &'a TaskCopy,
    new: &'a New,
    seq: i64,
    state: State,
    due: i64,
    /// Places of parents that have not ended, each once.
    parents: Vec<i64>,
}

/// What is known while tasks land.
#[derive(Default)]
struct Ground<'a> {
    known: HashSet<TaskId>,
    /// Tasks that others may wait for: their places and states.
    parents: HashMap<TaskId, (i64, State)>,
    keys: HashMap<(&'a str, &'a str), TaskId>,
}

impl Tx<'_> {
    /// See [`Admin::import`](crate::Admin::import). The numbers of all that these tasks have are known.
    pub(super) async fn import(
        &mut self,
        landings: &[Landing],
        numbers: &Numbers,
    ) -> Result<Vec<Imported>> {
        let keys: BTreeSet<(&str, &str)> = landings.iter().filter_map(Landing::key).collect();
        self.lock_keys(&keys).await?;
        let mut ground = self.ground(landings, &keys).await?;
        let mut seqs = self.places(landings.len()).await?.into_iter();
        let mut answers = Vec::with_capacity(landings.len());
        let mut landed = Vec::new();
        for landing in landings {
            let Some(new) = &landing.new else {
                answers.push(Imported::Unreadable);
                continue;
            };
            if ground.known.contains(&new.task.id) {
                answers.push(Imported::There);
                continue;
            }
            let key = landing.key();
            if let Some(holder) = key.and_then(|key| ground.keys.get(&key)) {
                answers.push(Imported::KeyTaken(*holder));
                continue;
            }
            let seq = seqs.next().ok_or_else(|| Fault::Other("a task got no place".into()))?;
            let task = self.land(&ground, &landing.copy, new, seq);
            ground.known.insert(new.task.id);
            ground.parents.insert(new.task.id, (seq, task.state));
            if let Some(key) = key.filter(|_| lasts(&new.task, &landing.copy, task.state, self.now))
            {
                ground.keys.insert(key, new.task.id);
            }
            landed.push(task);
            answers.push(Imported::Created);
        }
        self.insert_landed(&landed, numbers).await?;
        Ok(answers)
    }

    async fn ground<'a>(
        &mut self,
        landings: &'a [Landing],
        keys: &BTreeSet<(&'a str, &'a str)>,
    ) -> Result<Ground<'a>> {
        const KNOWN: &str = "
            select t.id from unnest($1::uuid[]) as u(id) join $S.task t on t.id = u.id";
        let mut ground = Ground::default();
        let ids: Vec<TaskId> = landings.iter().map(|landing| landing.copy.info.id).collect();
        let rows = self.query(KNOWN).bind(uuids(&ids)).fetch_all(&mut *self.conn).await?;
        for row in &rows {
            ground.known.insert(task_id(row.try_get(0)?));
        }
        let blocked = |landing: &&Landing| landing.copy.info.head.state == State::Blocked;
        let tasks = landings.iter().filter(blocked).filter_map(Landing::task);
        let parents: BTreeSet<TaskId> = tasks.flat_map(|task| task.after.clone()).collect();
        self.hold_for(parents, &mut ground).await?;
        self.find_holders(keys, &mut ground).await?;
        Ok(ground)
    }

    /// Holds the tasks that others are to wait for where they are, as far as they are there.
    async fn hold_for(&mut self, ids: BTreeSet<TaskId>, ground: &mut Ground<'_>) -> Result<()> {
        const PARENTS: &str = "select * from $S.hold_parents($1)";
        let mut missing: Vec<Uuid> = ids.into_iter().map(uuid).collect();
        for _ in 0..20 {
            if missing.is_empty() {
                return Ok(());
            }
            let asked = std::mem::take(&mut missing);
            for row in self.query(PARENTS).bind(asked).fetch_all(&mut *self.conn).await? {
                let id: Uuid = row.try_get(0)?;
                match row.try_get::<Option<i16>, _>(2)? {
                    Some(number) => {
                        ground.parents.insert(task_id(id), (row.try_get(1)?, state(number)));
                    }
                    None => missing.push(id),
                }
            }
        }
        Err(Fault::Again("a task that others are to wait for does not come to rest".into()))
    }

    async fn find_holders<'a>(
        &mut self,
        keys: &BTreeSet<(&'a str, &'a str)>,
        ground: &mut Ground<'a>,
    ) -> Result<()> {
        const HOLDERS: &str = "
            select u.place, t.id
              from unnest($1::text[], $2::bytea[]) with ordinality as u(tenant, key, place)
              join $S.ukey k on k.tenant = u.tenant and k.key = u.key and (k.until is null or k.until > $3)
              join $S.task t on t.seq = k.holder";
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<(&str, &str)> = keys.iter().copied().collect();
        let (tenants, bytes): (Vec<String>, Vec<Vec<u8>>) = keys
            .iter()
            .map(|(tenant, key)| ((*tenant).to_owned(), key.as_bytes().to_vec()))
            .unzip();
        let query = self.query(HOLDERS).bind(tenants).bind(bytes).bind(self.now.as_millis());
        for row in query.fetch_all(&mut *self.conn).await? {
            let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
            if let Some(key) = keys.get(place) {
                ground.keys.insert(*key, task_id(row.try_get(1)?));
            }
        }
        Ok(())
    }

    /// So many places at the end of the order of arrival.
    async fn places(&mut self, most: usize) -> Result<Vec<i64>> {
        const PLACES: &str = "select nextval('$S.arrival') from generate_series(1, $1::bigint)";
        let rows = self.query(PLACES).bind(limit(most)).fetch_all(&mut *self.conn).await?;
        let mut places: Vec<i64> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        places.sort_unstable();
        Ok(places)
    }

    fn land<'a>(
        &mut self,
        ground: &Ground<'_>,
        copy: &'a TaskCopy,
        new: &'a New,
        seq: i64,
    ) -> Landed<'a> {
        let (task, head) = (&new.task, &copy.info.head);
        let blocked = head.state == State::Blocked;
        let known = task.after.iter().filter_map(|id| ground.parents.get(id));
        let open = known.filter(|(_, state)| blocked && !state.is_terminal());
        let mut parents: Vec<i64> = open.map(|(seq, _)| *seq).collect();
        parents.sort_unstable();
        parents.dedup();
        let starts = task.starts_at(head.created);
        let state = match head.state {
            State::Blocked if !parents.is_empty() => State::Blocked,
            State::Blocked if starts > self.now => State::Scheduled,
            State::Blocked => State::Ready,
            state => state,
        };
        self.notes(state);
        let due = head.run_at.filter(|_| !blocked).unwrap_or(starts).as_millis();
        Landed { copy, new, seq, state, due, parents }
    }

    async fn insert_landed(&mut self, landed: &[Landed<'_>], numbers: &Numbers) -> Result<()> {
        if landed.is_empty() {
            return Ok(());
        }
        for task in landed {
            let lane = numbers.lane(&task.new.task.lane)?;
            self.count(lane, task.state, 1);
        }
        self.insert_bodies(landed, numbers).await?;
        for (of, sql) in [
            (State::Ready, insert!("ready")),
            (State::Scheduled, insert!("scheduled")),
            (State::Blocked, insert!("blocked")),
        ] {
            self.insert_live(landed, numbers, of, sql).await?;
        }
        self.insert_ended_then(landed, numbers).await?;
        self.insert_waits(landed).await?;
        for task in landed.iter().filter(|task| task.copy.holds_key) {
            let created = task.copy.info.head.created;
            self.take_key(task.seq, &task.new.task, created, task.state).await?;
        }
        Ok(())
    }

    async fn insert_bodies(&mut self, landed: &[Landed<'_>], numbers: &Numbers) -> Result<()> {
        const INSERT: &str = "
            insert into $S.task(seq, created, due, keep, id, lane, code, waits, rank, flags, ttl, body)
            select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::int[], $7::int[],
                                 $8::int[], $9::smallint[], $10::smallint[], $11::bigint[], $12::bytea[])
            on conflict (id) do nothing";
        let all = |value: &dyn Fn(&Landed<'_>) -> i64| landed.iter().map(value).collect::<Vec<_>>();
        let tasks = || landed.iter().map(|task| &task.new.task);
        let lanes = tasks().map(|task| numbers.lane(&task.lane)).collect::<Result<Vec<_>>>()?;
        let codes = tasks().map(|task| numbers.code(task)).collect::<Result<Vec<_>>>()?;
        let waits: Vec<i32> = landed.iter().map(Landed::waits).collect();
        let ttls: Vec<Option<i64>> =
            tasks().map(|task| task.ttl.map(|ttl| millis(ttl.get()))).collect();
        let bodies: Vec<&[u8]> = landed.iter().map(|task| task.new.bytes.as_slice()).collect();
        let query = self
            .query(INSERT)
            .bind(all(&|task| task.seq))
            .bind(all(&|task| task.copy.info.head.created.as_millis()))
            .bind(all(&|task| task.due))
            .bind(all(&|task| task.keep()))
            .bind(tasks().map(|task| uuid(task.id)).collect::<Vec<_>>());
        let query = query.bind(lanes).bind(codes).bind(waits).bind(ranks(landed));
        let query = query.bind(flags(landed)).bind(ttls).bind(bodies);
        let made = query.execute(&mut *self.conn).await?.rows_affected();
        if made < landed.len() as u64 {
            return Err(Fault::Again("the same task came in by another way".into()));
        }
        Ok(())
    }

    async fn insert_live(
        &mut self,
        landed: &[Landed<'_>],
        numbers: &Numbers,
        of: State,
        sql: &'static str,
    ) -> Result<()> {
        let rows: Vec<&Landed<'_>> = landed.iter().filter(|task| task.state == of).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let all = |value: &dyn Fn(&Landed<'_>) -> i64| {
            rows.iter().map(|row| value(row)).collect::<Vec<_>>()
        };
        let lanes = rows.iter().map(|row| numbers.lane(&row.new.task.lane));
        let query = self
            .query(sql)
            .bind(all(&|row| row.seq))
            .bind(all(&|row| row.keep()))
            .bind(all(&|row| fence(row)))
            .bind(all(&|row| row.due))
            .bind(rows.iter().map(|row| uuid(row.new.task.id)).collect::<Vec<_>>());
        let small = |value: &dyn Fn(&Landed<'_>) -> usize| -> Vec<i32> {
            rows.iter().map(|row| i32::try_from(value(row)).unwrap_or(i32::MAX)).collect()
        };
        let query = query
            .bind(lanes.collect::<Result<Vec<_>>>()?)
            .bind(small(&|row| row.new.bytes.len()))
            .bind(small(&|row| row.copy.info.head.attempt as usize))
            .bind(small(&|row| row.copy.info.head.crashes as usize))
            .bind(rows.iter().map(|row| row.waits()).collect::<Vec<_>>());
        let maybe = |value: &dyn Fn(&Landed<'_>) -> Option<Timestamp>| -> Vec<Option<i64>> {
            rows.iter().map(|row| value(row).map(Timestamp::as_millis)).collect()
        };
        let errors: Vec<Option<Vec<u8>>> =
            rows.iter().map(|row| row.copy.info.head.error.as_ref().map(record::encode)).collect();
        let query = query
            .bind(rows.iter().map(|row| rank(row.new.task.priority)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.new.flags()).collect::<Vec<_>>())
            .bind(maybe(&|row| row.copy.expires))
            .bind(maybe(&|row| row.copy.info.head.started))
            .bind(errors);
        query.execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Tasks that ended where they come from, each on the day of its end.
    async fn insert_ended_then(&mut self, landed: &[Landed<'_>], numbers: &Numbers) -> Result<()> {
        const DAYS: &str = "select $S.make_day('done', d.at) from unnest($1::bigint[]) as d(at)";
        const INSERT: &str = "
            insert into $S.done(finished, seq, forget, fence, id, lane, attempt, crashes, rank, flags, state, started, result)
            select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::int[], $7::int[],
                                 $8::int[], $9::smallint[], $10::smallint[], $11::smallint[], $12::bigint[], $13::bytea[])";
        const DAY: i64 = 86_400_000;
        let rows: Vec<&Landed<'_>> =
            landed.iter().filter(|task| task.state.is_terminal()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let now = self.now;
        let at = |row: &Landed<'_>| row.copy.info.head.finished.unwrap_or(now);
        let days: BTreeSet<i64> =
            rows.iter().map(|row| at(row).as_millis().div_euclid(DAY)).collect();
        let days: Vec<i64> = days.into_iter().map(|day| day.saturating_mul(DAY)).collect();
        self.query(DAYS).bind(days).execute(&mut *self.conn).await?;
        let all = |value: &dyn Fn(&Landed<'_>) -> i64| {
            rows.iter().map(|row| value(row)).collect::<Vec<_>>()
        };
        let small = |value: &dyn Fn(&Landed<'_>) -> u32| -> Vec<i32> {
            rows.iter().map(|row| i32::try_from(value(row)).unwrap_or(i32::MAX)).collect()
        };
        let lanes = rows.iter().map(|row| numbers.lane(&row.new.task.lane));
        let flags = rows.iter().map(|row| {
            let cancel = if row.copy.info.head.cancel_requested { CANCEL } else { 0 };
            row.new.flags() | cancel
        });
        let results = rows.iter().map(|row| match &row.copy.info.head.result {
            Some(result) => record::encode(result),
            None => record::encode(&TaskResult::default()),
        });
        let query = self
            .query(INSERT)
            .bind(all(&|row| at(row).as_millis()))
            .bind(all(&|row| row.seq))
            .bind(all(&|row| at(row).as_millis().saturating_add(row.keep())))
            .bind(all(&|row| fence(row)))
            .bind(rows.iter().map(|row| uuid(row.new.task.id)).collect::<Vec<_>>())
            .bind(lanes.collect::<Result<Vec<_>>>()?);
        let query = query
            .bind(small(&|row| row.copy.info.head.attempt))
            .bind(small(&|row| row.copy.info.head.crashes))
            .bind(rows.iter().map(|row| rank(row.new.task.priority)).collect::<Vec<_>>())
            .bind(flags.collect::<Vec<_>>())
            .bind(rows.iter().map(|row| number(row.state)).collect::<Vec<_>>());
        let started = rows.iter().map(|row| row.copy.info.head.started.map(Timestamp::as_millis));
        let query = query.bind(started.collect::<Vec<_>>()).bind(results.collect::<Vec<_>>());
        query.execute(&mut *self.conn).await?;
        Ok(())
    }

    async fn insert_waits(&mut self, landed: &[Landed<'_>]) -> Result<()> {
        const INSERT: &str = "
            insert into $S.edge(parent, child) select * from unnest($1::bigint[], $2::bigint[])";
        let edges =
            landed.iter().flat_map(|task| task.parents.iter().map(|parent| (*parent, task.seq)));
        let (parents, children): (Vec<i64>, Vec<i64>) = edges.unzip();
        if !parents.is_empty() {
            self.query(INSERT).bind(parents).bind(children).execute(&mut *self.conn).await?;
            self.work = true; // claims passed over what was held here
        }
        Ok(())
    }
}

impl Landed<'_> {
    fn keep(&self) -> i64 {
        millis(self.new.task.result_ttl.get())
    }

    fn waits(&self) -> i32 {
        i32::try_from(self.parents.len()).unwrap_or(i32::MAX)
    }
}

fn fence(row: &Landed<'_>) -> i64 {
    i64::try_from(row.copy.info.head.fence).unwrap_or(i64::MAX)
}

fn ranks(landed: &[Landed<'_>]) -> Vec<i16> {
    landed.iter().map(|task| rank(task.new.task.priority)).collect()
}

fn flags(landed: &[Landed<'_>]) -> Vec<i16> {
    landed.iter().map(|task| task.new.flags()).collect()
}

/// Whether a task that comes with its key holds it from now on.
fn lasts(task: &Task, copy: &TaskCopy, state: State, now: Timestamp) -> bool {
    let Some(unique) = &task.unique else { return false };
    if unique.scope == omniq_model::Scope::Window {
        return now < copy.info.head.created + unique.window.get();
    }
    !state.is_terminal()
}
