//! Lanes and code by number: what repeats in every task is stored once.
//!
//! A number is made in a transaction of its own before it is used, and its row is never removed: so what this process has
//! seen stays good, whatever becomes of the transactions that use it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use omniq_model::{Lane, Name, Priority, Task};
use sqlx::{PgConnection, Row};

use super::fault::{Fault, Result};
use super::sql::Schema;

/// What a task runs, as filters see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Code {
    digest: [u8; 32],
    name: Name,
    version: Name,
    function: String,
}

impl Code {
    pub(super) fn of(task: &Task) -> Self {
        Self {
            digest: *task.module.digest.as_bytes(),
            name: task.module.name.clone(),
            version: task.module.version.clone(),
            function: task.function.clone(),
        }
    }
}

/// Where a priority stands: the least comes first.
pub(super) fn rank(priority: Priority) -> i16 {
    Priority::MAX.get() - priority.get()
}

/// A lane's number, and a bit for each rank that was used in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    pub number: i32,
    ranks: i32,
}

#[derive(Debug, Default)]
struct Known {
    lanes: HashMap<Lane, Numbered>,
    lane_names: HashMap<i32, Lane>,
    codes: HashMap<Code, i32>,
}

/// Numbers this process has seen.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Known>);

/// So that very many tenants do not fill the memory.
const MOST: usize = 50_000;

/// The numbers of everything in some tasks.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    lanes: HashMap<Lane, i32>,
    codes: HashMap<Code, i32>,
}

impl Numbers {
    pub(super) fn lane(&self, lane: &Lane) -> Result<i32> {
        self.lanes.get(lane).copied().ok_or_else(|| Fault::Other("a lane got no number".into()))
    }

    pub(super) fn code(&self, task: &Task) -> Result<i32> {
        let number = self.codes.get(&Code::of(task)).copied();
        number.ok_or_else(|| Fault::Other("a function got no number".into()))
    }
}

impl Names {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.lanes.len() >= MOST || known.codes.len() >= MOST {
            *known = Known::default();
        }
        known
    }

    /// What has no number here yet of what these tasks have.
    fn missing<'a>(
        &self,
        tasks: impl Iterator<Item = &'a Task>,
    ) -> (Numbers, HashMap<Lane, i32>, HashSet<Code>) {
        let known = self.known();
        let (mut numbers, mut lanes, mut codes) =
            (Numbers::default(), HashMap::new(), HashSet::new());
        let mut last: Option<&Task> = None;
        for task in tasks {
            let alike = |last: &Task| {
                last.lane == task.lane
                    && last.priority == task.priority
                    && last.module == task.module
                    && last.function == task.function
            };
            if last.is_some_and(alike) {
                continue;
            }
            last = Some(task);
            let bit = 1_i32 << rank(task.priority);
            match known.lanes.get(&task.lane).filter(|lane| lane.ranks & bit != 0) {
                Some(lane) => drop(numbers.lanes.insert(task.lane.clone(), lane.number)),
                None => *lanes.entry(task.lane.clone()).or_insert(0) |= bit,
            }
            let code = Code::of(task);
            match known.codes.get(&code) {
                Some(number) => drop(numbers.codes.insert(code, *number)),
                None => drop(codes.insert(code)),
            }
        }
        (numbers, lanes, codes)
    }

    /// The numbers of all that these tasks have, if they are known here.
    pub(super) fn look<'a>(&self, tasks: impl Iterator<Item = &'a Task>) -> Option<Numbers> {
        let (numbers, lanes, codes) = self.missing(tasks);
        (lanes.is_empty() && codes.is_empty()).then_some(numbers)
    }

    /// The numbers of all that these tasks have; they are made where there are none. To be [learned](Self::learn_made) once
    /// they are committed.
    pub(super) async fn make<'a>(
        &self,
        conn: &mut PgConnection,
        schema: &Schema,
        tasks: impl Iterator<Item = &'a Task>,
    ) -> Result<Made> {
        let (numbers, lanes, missing) = self.missing(tasks);
        let lanes = make_lanes(conn, schema, lanes).await?;
        let mut codes = Vec::with_capacity(missing.len());
        for code in missing {
            let number = make_code(conn, schema, &code).await?;
            codes.push((code, number));
        }
        Ok(Made { numbers, lanes, codes })
    }

    /// Takes over what was made, and is committed by now.
    pub(super) fn learn_made(&self, made: Made) -> Numbers {
        let Made { mut numbers, lanes, codes } = made;
        for (lane, numbered) in lanes {
            numbers.lanes.insert(lane.clone(), numbered.number);
            self.learn(lane, numbered);
        }
        for (code, number) in codes {
            self.known().codes.insert(code.clone(), number);
            numbers.codes.insert(code, number);
        }
        numbers
    }

    fn learn(&self, lane: Lane, numbered: Numbered) {
        let mut known = self.known();
        known.lane_names.insert(numbered.number, lane.clone());
        known.lanes.insert(lane, numbered);
    }

    /// The number of a lane; it is made if there is none.
    pub(super) async fn make_lane(
        &self,
        conn: &mut PgConnection,
        schema: &Schema,
        lane: &Lane,
    ) -> Result<i32> {
        let made = make_lanes(conn, schema, HashMap::from([(lane.clone(), 0)])).await?;
        let (lane, numbered) =
            made.into_iter().next().ok_or_else(|| Fault::Other("a lane got no number".into()))?;
        self.learn(lane, numbered);
        Ok(numbered.number)
    }

    /// The numbers of these lanes as far as they have one, by what is known here.
    pub(super) fn known_lanes<'a>(
        &self,
        lanes: impl Iterator<Item = &'a Lane>,
    ) -> Vec<Option<i32>> {
        let known = self.known();
        lanes.map(|lane| known.lanes.get(lane).map(|lane| lane.number)).collect()
    }

    /// Reads the numbers of these lanes.
    pub(super) async fn find_lanes(
        &self,
        conn: &mut PgConnection,
        schema: &Schema,
        lanes: &[&Lane],
    ) -> Result<()> {
        const FIND: &str = "
            select l.id, l.tenant, l.queue, l.ranks from unnest($1::text[], $2::text[]) as u(tenant, queue)
              join $S.lane l on l.tenant = u.tenant and l.queue = u.queue";
        let column = |name: fn(&Lane) -> &Name| -> Vec<String> {
            lanes.iter().map(|lane| name(lane).as_str().to_owned()).collect()
        };
        let query =
            schema.query(FIND).bind(column(|lane| &lane.tenant)).bind(column(|lane| &lane.queue));
        for row in query.fetch_all(conn).await? {
            let name = lane(row.try_get(1)?, row.try_get(2)?)?;
            self.learn(name, Numbered { number: row.try_get(0)?, ranks: row.try_get(3)? });
        }
        Ok(())
    }

    /// The lane with that number.
    pub(super) async fn lane_name(
        &self,
        conn: &mut PgConnection,
        schema: &Schema,
        number: i32,
    ) -> Result<Lane> {
        const NAME: &str = "select tenant, queue, ranks from $S.lane where id = $1";
        if let Some(lane) = self.known().lane_names.get(&number) {
            return Ok(lane.clone());
        }
        let row = schema.query(NAME).bind(number).fetch_one(conn).await?;
        let lane = lane(row.try_get(0)?, row.try_get(1)?)?;
        self.learn(lane.clone(), Numbered { number, ranks: row.try_get(2)? });
        Ok(lane)
    }
}

/// Numbers that were made, and may not be committed yet.
#[derive(Debug, Default)]
pub(super) struct Made {
    numbers: Numbers,
    lanes: Vec<(Lane, Numbered)>,
    codes: Vec<(Code, i32)>,
}

async fn make_lanes(
    conn: &mut PgConnection,
    schema: &Schema,
    lanes: HashMap<Lane, i32>,
) -> Result<Vec<(Lane, Numbered)>> {
    const MAKE: &str = "
        insert into $S.lane(tenant, queue, ranks) select * from unnest($1::text[], $2::text[], $3::int[])
            on conflict (tenant, queue) do update set ranks = lane.ranks | excluded.ranks
        returning id, tenant, queue, ranks";
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let mut lanes: Vec<(Lane, i32)> = lanes.into_iter().collect();
    lanes.sort_unstable(); // two processes take the rows in the same order
    let column = |name: fn(&Lane) -> &Name| -> Vec<String> {
        lanes.iter().map(|(lane, _)| name(lane).as_str().to_owned()).collect()
    };
    let ranks: Vec<i32> = lanes.iter().map(|(_, ranks)| *ranks).collect();
    let query = schema
        .query(MAKE)
        .bind(column(|lane| &lane.tenant))
        .bind(column(|lane| &lane.queue))
        .bind(ranks);
    let mut made = Vec::with_capacity(lanes.len());
    for row in query.fetch_all(conn).await? {
        let name = lane(row.try_get(1)?, row.try_get(2)?)?;
        made.push((name, Numbered { number: row.try_get(0)?, ranks: row.try_get(3)? }));
    }
    Ok(made)
}

async fn make_code(conn: &mut PgConnection, schema: &Schema, code: &Code) -> Result<i32> {
    const FIND: &str = "
        select id from $S.code where digest = $1 and name = $2 and version = $3 and key = sha256($4)";
    const MAKE: &str = "
        insert into $S.code(digest, name, version, function) values($1, $2, $3, $4) on conflict do nothing returning id";
    // Another process may make it in between: then the last look finds it.
    for sql in [FIND, MAKE, FIND] {
        let row = schema
            .query(sql)
            .bind(code.digest.to_vec())
            .bind(code.name.as_str().to_owned())
            .bind(code.version.as_str().to_owned())
            .bind(code.function.as_bytes().to_vec())
            .fetch_optional(&mut *conn)
            .await?;
        if let Some(row) = row {
            return Ok(row.try_get(0)?);
        }
    }
    Err(Fault::Other("a function got no number".into()))
}

/// A lane as its table holds it.
pub(super) fn lane(tenant: &str, queue: &str) -> Result<Lane> {
    let name = |text: &str| -> Result<Name> {
        text.parse().map_err(|error| Fault::Corrupt(format!("a lane is not readable: {error}")))
    };
    Ok(Lane { tenant: name(tenant)?, queue: name(queue)? })
}
