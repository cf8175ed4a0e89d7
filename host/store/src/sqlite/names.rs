//! Lanes and code by number: what repeats in every task is stored once.

use std::collections::HashMap;

use omniq_model::{Lane, ModuleRef, Name, Task};
use sqlx::{Row, SqliteConnection};

use super::fault::{Fault, Result};
use super::leased::Leases;

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
        let ModuleRef { digest, name, version, .. } = &task.module;
        Self {
            digest: *digest.as_bytes(),
            name: name.clone(),
            version: version.clone(),
            function: task.function.clone(),
        }
    }
}

/// Numbers this process has seen. Rows are never removed from their tables, so that a number stays good, unless the
/// transaction that made it is rolled back: then [`Self::forget`].
#[derive(Debug, Default)]
pub(super) struct Names {
    lanes: HashMap<Lane, i64>,
    lane_names: HashMap<i64, Lane>,
    codes: HashMap<Code, i64>,
    /// What is leased out, which a rollback undoes as well.
    pub(super) leases: Leases,
}

/// So that very many tenants do not fill the memory.
const MOST: usize = 50_000;

impl Names {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The number of a lane; it is made if there is none.
    pub(super) async fn lane(&mut self, conn: &mut SqliteConnection, lane: &Lane) -> Result<i64> {
        if let Some(number) = self.lanes.get(lane) {
            return Ok(*number);
        }
        const MAKE: &str =
            "insert into omniq_lane(tenant, queue) values(?1, ?2) on conflict do nothing";
        sqlx::query(MAKE)
            .bind(lane.tenant.as_str().to_owned())
            .bind(lane.queue.as_str().to_owned())
            .execute(&mut *conn)
            .await?;
        self.find_lane(conn, lane).await?.ok_or_else(|| Fault::Other("a lane got no number".into()))
    }

    /// The number of a lane, if it has one.
    pub(super) async fn find_lane(
        &mut self,
        conn: &mut SqliteConnection,
        lane: &Lane,
    ) -> Result<Option<i64>> {
        if let Some(number) = self.lanes.get(lane) {
            return Ok(Some(*number));
        }
        const FIND: &str = "select id from omniq_lane where tenant = ?1 and queue = ?2";
        let number: Option<i64> = sqlx::query_scalar(FIND)
            .bind(lane.tenant.as_str().to_owned())
            .bind(lane.queue.as_str().to_owned())
            .fetch_optional(conn)
            .await?;
        if let Some(number) = number {
            self.learn_lane(number, lane.clone());
        }
        Ok(number)
    }

    fn learn_lane(&mut self, number: i64, lane: Lane) {
        if self.lanes.len() >= MOST {
            self.lanes.clear();
            self.lane_names.clear();
        }
        self.lanes.insert(lane.clone(), number);
        self.lane_names.insert(number, lane);
    }

    /// The lane with that number.
    pub(super) async fn lane_name(
        &mut self,
        conn: &mut SqliteConnection,
        number: i64,
    ) -> Result<Lane> {
        if let Some(lane) = self.lane_names.get(&number) {
            return Ok(lane.clone());
        }
        const NAME: &str = "select tenant, queue from omniq_lane where id = ?1";
        let row = sqlx::query(NAME).bind(number).fetch_one(conn).await?;
        let lane = lane(row.try_get(0)?, row.try_get(1)?)?;
        self.learn_lane(number, lane.clone());
        Ok(lane)
    }

    /// The number of what a task runs; it is made if there is none.
    pub(super) async fn code(&mut self, conn: &mut SqliteConnection, code: Code) -> Result<i64> {
        if let Some(number) = self.codes.get(&code) {
            return Ok(*number);
        }
        const MAKE: &str = "insert into omniq_code(digest, name, version, function)
            values(?1, ?2, ?3, ?4) on conflict do nothing";
        const FIND: &str = "select id from omniq_code
            where digest = ?1 and name = ?2 and version = ?3 and function = ?4";
        for sql in [MAKE, FIND] {
            let found: Option<i64> = sqlx::query_scalar(sql)
                .bind(code.digest.to_vec())
                .bind(code.name.as_str().to_owned())
                .bind(code.version.as_str().to_owned())
                .bind(code.function.clone())
                .fetch_optional(&mut *conn)
                .await?;
            if let Some(number) = found {
                if self.codes.len() >= MOST {
                    self.codes.clear();
                }
                self.codes.insert(code, number);
                return Ok(number);
            }
        }
        Err(Fault::Other("a function got no number".into()))
    }
}

/// A lane as its table holds it.
pub(super) fn lane(tenant: &str, queue: &str) -> Result<Lane> {
    let name = |text: &str| -> Result<Name> {
        text.parse().map_err(|error| Fault::Corrupt(format!("a lane is not readable: {error}")))
    };
    Ok(Lane { tenant: name(tenant)?, queue: name(queue)? })
}
