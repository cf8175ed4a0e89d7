//! Schedules: kept, and moved on together with the tasks they make.

use omniq_model::{Name, Schedule, Task, Timestamp, record};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::enqueue::New;
use super::fault::{Fault, Result};
use super::names::Numbers;
use super::sql::{Bound, Schema, Sql, count};
use super::tx::Tx;
use crate::{Fire, Fired};

/// One firing, its tasks in their stored form.
#[derive(Debug)]
pub(super) struct RawFire {
    fire: Fire,
    tasks: Vec<New>,
}

impl RawFire {
    pub(super) fn of(mut fire: Fire) -> Self {
        let tasks = std::mem::take(&mut fire.tasks).into_iter().map(New::of).collect();
        Self { fire, tasks }
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &Task> + Clone {
        self.tasks.iter().map(|new| &new.task)
    }
}

/// Asks for the schedules of a tenant, or of all.
pub(super) fn schedules(schema: &Schema, tenant: Option<&Name>) -> Bound {
    let mut sql = Sql::default();
    sql.push("select record, version from $S.schedule where true");
    if let Some(tenant) = tenant {
        sql.push(" and tenant = ").text(tenant.as_str());
    }
    sql.push(" order by tenant, name");
    sql.into_query(schema)
}

/// Asks for the schedules whose time has come.
pub(super) fn due_schedules(schema: &Schema, now: Option<i64>, max: usize) -> Bound {
    const DUE: &str = "
        select record, version from $S.schedule
         where not paused and next is not null and next <= coalesce($1, $S.now()) order by next, tenant, name limit $2";
    schema.query(DUE).bind(now).bind(count(max))
}

/// Reads the answers to [`schedules`] and [`due_schedules`].
pub(super) fn read_schedules(rows: &[PgRow]) -> Result<Vec<Schedule>> {
    rows.iter().map(read_schedule).collect()
}

fn read_schedule(row: &PgRow) -> Result<Schedule> {
    let schedule: Schedule = record::decode("schedule", row.try_get(0)?)
        .map_err(|error| Fault::Corrupt(error.to_string()))?;
    let version: i64 = row.try_get(1)?;
    Ok(Schedule { version: version.cast_unsigned(), ..schedule })
}

impl Tx<'_> {
    /// See [`TaskStore::put_schedules`](crate::TaskStore::put_schedules).
    pub(super) async fn put_schedules(
        &mut self,
        schedules: &[Schedule],
    ) -> Result<Vec<Option<u64>>> {
        let mut versions = Vec::with_capacity(schedules.len());
        for schedule in schedules {
            versions.push(self.put_schedule(schedule).await?);
        }
        Ok(versions)
    }

    async fn put_schedule(&mut self, schedule: &Schedule) -> Result<Option<u64>> {
        // One counter for all, so that a name that is used again gets a higher version.
        const CREATE: &str = "
            insert into $S.schedule(tenant, name, version, next, paused, record)
            select $1, $2, nextval('$S.schedule_version'), $4, $5, $6
             where $3::bigint = 0 and not exists (select 1 from $S.schedule where tenant = $1 and name = $2)
            on conflict do nothing returning version";
        const CHANGE: &str = "
            update $S.schedule set version = nextval('$S.schedule_version'), next = $4, paused = $5, record = $6
             where tenant = $1 and name = $2 and version = $3 returning version";
        let sql = if schedule.version == 0 { CREATE } else { CHANGE };
        let query = self
            .query(sql)
            .bind(schedule.tenant.as_str().to_owned())
            .bind(schedule.name.as_str().to_owned())
            .bind(schedule.version.cast_signed())
            .bind(schedule.next.map(Timestamp::as_millis))
            .bind(schedule.paused.is_some())
            .bind(record::encode(schedule));
        let row = query.fetch_optional(&mut *self.conn).await?;
        let version = row.map(|row| row.try_get::<i64, _>(0)).transpose()?;
        Ok(version.map(i64::cast_unsigned))
    }

    /// See [`TaskStore::remove_schedules`](crate::TaskStore::remove_schedules).
    pub(super) async fn remove_schedules(&mut self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        const REMOVE: &str = "delete from $S.schedule where tenant = $1 and name = $2";
        let mut removed = Vec::with_capacity(names.len());
        for (tenant, name) in names {
            let query =
                self.query(REMOVE).bind(tenant.as_str().to_owned()).bind(name.as_str().to_owned());
            removed.push(query.execute(&mut *self.conn).await?.rows_affected() > 0);
        }
        Ok(removed)
    }

    /// See [`TaskStore::fire`](crate::TaskStore::fire). The numbers of all that the tasks have are known.
    pub(super) async fn fire(
        &mut self,
        fires: &[RawFire],
        numbers: &Numbers,
    ) -> Result<Vec<Fired>> {
        let mut answers = Vec::with_capacity(fires.len());
        for raw in fires {
            answers.push(self.fire_one(raw, numbers).await?);
        }
        Ok(answers)
    }

    async fn fire_one(&mut self, raw: &RawFire, numbers: &Numbers) -> Result<Fired> {
        const FIND: &str = "
            select record, version from $S.schedule
             where tenant = $1 and name = $2 and version = $3 and not paused for update";
        let fire = &raw.fire;
        let query = self
            .query(FIND)
            .bind(fire.tenant.as_str().to_owned())
            .bind(fire.name.as_str().to_owned())
            .bind(fire.version.cast_signed());
        let Some(row) = query.fetch_optional(&mut *self.conn).await? else {
            return Ok(Fired::Lost);
        };
        let next = Schedule { next: fire.next, ..read_schedule(&row)? };
        if self.put_schedule(&next).await?.is_none() {
            return Ok(Fired::Lost);
        }
        // One that is there already was made by an earlier firing of the same instant; one whose unique key is taken
        // is not to be made.
        let tasks: Vec<&New> = raw.tasks.iter().collect();
        self.enqueue(&tasks, numbers).await?;
        Ok(Fired::Fired)
    }
}
