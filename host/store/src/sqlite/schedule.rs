//! Schedules: kept, and moved on together with the tasks they make.

use omniq_model::{Name, Schedule, Timestamp, record};
use sqlx::Row;

use super::enqueue::New;
use super::fault::{Fault, Result};
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

    pub(super) fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }
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
        const CURRENT: &str = "select version from omniq_schedule where tenant = ?1 and name = ?2";
        const PUT: &str = "
            insert or replace into omniq_schedule(tenant, name, version, next, paused, record)
            values(?1, ?2, ?3, ?4, ?5, ?6)";
        let current: Option<i64> = sqlx::query_scalar(CURRENT)
            .bind(schedule.tenant.as_str().to_owned())
            .bind(schedule.name.as_str().to_owned())
            .fetch_optional(&mut *self.conn)
            .await?;
        if current.unwrap_or(0).cast_unsigned() != schedule.version {
            return Ok(None);
        }
        let version = self.next_version().await?;
        let schedule = Schedule { version: version.cast_unsigned(), ..schedule.clone() };
        sqlx::query(PUT)
            .bind(schedule.tenant.as_str().to_owned())
            .bind(schedule.name.as_str().to_owned())
            .bind(version)
            .bind(schedule.next.map(Timestamp::as_millis))
            .bind(i64::from(schedule.paused.is_some()))
            .bind(record::encode(&schedule))
            .execute(&mut *self.conn)
            .await?;
        Ok(Some(schedule.version))
    }

    /// One counter for all, so that a name that is used again gets a higher version.
    async fn next_version(&mut self) -> Result<i64> {
        const NEXT: &str = "
            insert into omniq_meta(key, value) values('schedule_version', 1)
            on conflict do update set value = value + 1 returning value";
        Ok(sqlx::query_scalar(NEXT).fetch_one(&mut *self.conn).await?)
    }

    /// See [`TaskStore::remove_schedules`](crate::TaskStore::remove_schedules).
    pub(super) async fn remove_schedules(&mut self, names: &[(Name, Name)]) -> Result<Vec<bool>> {
        const REMOVE: &str = "delete from omniq_schedule where tenant = ?1 and name = ?2";
        let mut removed = Vec::with_capacity(names.len());
        for (tenant, name) in names {
            let done = sqlx::query(REMOVE)
                .bind(tenant.as_str().to_owned())
                .bind(name.as_str().to_owned())
                .execute(&mut *self.conn)
                .await?;
            removed.push(done.rows_affected() > 0);
        }
        Ok(removed)
    }

    /// See [`TaskStore::fire`](crate::TaskStore::fire).
    pub(super) async fn fire(&mut self, fires: &[RawFire]) -> Result<Vec<Fired>> {
        let mut answers = Vec::with_capacity(fires.len());
        for raw in fires {
            answers.push(self.fire_one(raw).await?);
        }
        Ok(answers)
    }

    async fn fire_one(&mut self, raw: &RawFire) -> Result<Fired> {
        const FIND: &str = "
            select record, version, paused from omniq_schedule where tenant = ?1 and name = ?2";
        let fire = &raw.fire;
        let row = sqlx::query(FIND)
            .bind(fire.tenant.as_str().to_owned())
            .bind(fire.name.as_str().to_owned())
            .fetch_optional(&mut *self.conn)
            .await?;
        let Some(row) = row else { return Ok(Fired::Lost) };
        let version: i64 = row.try_get(1)?;
        if version.cast_unsigned() != fire.version || row.try_get::<i64, _>(2)? != 0 {
            return Ok(Fired::Lost);
        }
        let schedule: Schedule = record::decode("schedule", row.try_get(0)?)
            .map_err(|error| Fault::Corrupt(error.to_string()))?;
        let next = Schedule { next: fire.next, version: fire.version, ..schedule };
        if self.put_schedule(&next).await?.is_none() {
            return Ok(Fired::Lost);
        }
        // One that is there already was made by an earlier firing of the same instant; one whose unique key is taken
        // is not to be made.
        let tasks: Vec<&New> = raw.tasks.iter().collect();
        self.enqueue(&tasks).await?;
        Ok(Fired::Fired)
    }
}
