//! Schedules: kept, and moved on together with the tasks they make.

use omniq_model::{Name, Schedule, Timestamp, record};
use redis::Value;

use super::fault::{Fault, Result};
use super::server::Store;
use super::wire::{self, Arrival, Bytes};
use super::{reply, script};
use crate::{Fire, Fired};

/// Where a schedule is kept: tenant and name, in their order.
fn field(tenant: &Name, name: &Name) -> Vec<u8> {
    [tenant.as_str().as_bytes(), &[1], name.as_str().as_bytes()].concat()
}

fn digit(yes: bool) -> &'static [u8] {
    if yes { b"1" } else { b"0" }
}

/// A firing with its tasks in their stored form.
#[derive(Debug)]
pub(super) struct RawFire {
    name: Vec<u8>,
    version: u64,
    next: Option<Timestamp>,
    tasks: Vec<Vec<u8>>,
}

impl RawFire {
    pub(super) fn of(fire: Fire) -> Self {
        Self {
            name: field(&fire.tenant, &fire.name),
            version: fire.version,
            next: fire.next,
            tasks: fire.tasks.iter().flat_map(|task| Arrival::of(task).args).collect(),
        }
    }
}

impl Store {
    /// See [`TaskStore::put_schedules`](crate::TaskStore::put_schedules).
    pub(super) async fn put_schedules(&self, schedules: Vec<Schedule>) -> Result<Vec<Option<u64>>> {
        let mut versions = Vec::with_capacity(schedules.len());
        for part in schedules.chunks(50) {
            let args: Vec<Vec<u8>> = part.iter().flat_map(put_args).collect();
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            for version in reply::list(self.look(&script::PUT_SCHEDULES, &args).await?)? {
                let version = u64::try_from(reply::int(&version)?).unwrap_or(0);
                versions.push((version > 0).then_some(version));
            }
        }
        Ok(versions)
    }

    /// See [`TaskStore::remove_schedules`](crate::TaskStore::remove_schedules).
    pub(super) async fn remove_schedules(&self, names: Vec<(Name, Name)>) -> Result<Vec<bool>> {
        let mut removed = Vec::with_capacity(names.len());
        for part in names.chunks(100) {
            let fields: Vec<_> = part.iter().map(|(tenant, name)| field(tenant, name)).collect();
            let args: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            for value in reply::list(self.look(&script::REMOVE_SCHEDULES, &args).await?)? {
                removed.push(reply::int(&value)? > 0);
            }
        }
        Ok(removed)
    }

    /// See [`TaskStore::schedules`](crate::TaskStore::schedules).
    pub(super) async fn schedules(&self, tenant: Option<Name>) -> Result<Vec<Schedule>> {
        let mut all = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(&self.keys[17]).arg(&cursor).arg("COUNT").arg(200);
            let [next, fields] = reply::parts(self.link.query(&command).await?)?;
            let mut fields = reply::all_bytes(fields)?.into_iter();
            while let (Some(_), Some(value)) = (fields.next(), fields.next()) {
                all.push(read(&value)?);
            }
            cursor = reply::bytes(next)?;
            if cursor == b"0" {
                break;
            }
        }
        all.retain(|schedule| tenant.as_ref().is_none_or(|tenant| *tenant == schedule.tenant));
        all.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        all.dedup_by(|a, b| (&a.tenant, &a.name) == (&b.tenant, &b.name)); // a walk may meet one twice
        Ok(all)
    }

    /// See [`TaskStore::due_schedules`](crate::TaskStore::due_schedules).
    pub(super) async fn due_schedules(&self, max: usize) -> Result<Vec<Schedule>> {
        let max = i64::try_from(max).unwrap_or(i64::MAX).to_string();
        let values = reply::list(self.look(&script::DUE_SCHEDULES, &[max.as_bytes()]).await?)?;
        values.into_iter().map(|value| read(&reply::bytes(value)?)).collect()
    }

    /// See [`TaskStore::fire`](crate::TaskStore::fire).
    pub(super) async fn fire(&self, fires: Vec<RawFire>) -> Result<Vec<Fired>> {
        let mut answers = Vec::with_capacity(fires.len());
        for fire in fires {
            let version = fire.version.min(wire::NEVER).to_string();
            let next = wire::instant(fire.next.unwrap_or_default()).to_string();
            let mut args: Vec<&[u8]> =
                vec![&fire.name, version.as_bytes(), digit(fire.next.is_some()), next.as_bytes()];
            args.extend(fire.tasks.iter().map(Vec::as_slice));
            let [answer, said] = reply::parts::<2>(self.change(&script::FIRE, &args).await?)?;
            self.committed(&said).await?;
            let fired = reply::bytes(answer)? == b"F";
            answers.push(if fired { Fired::Fired } else { Fired::Lost });
        }
        Ok(answers)
    }
}

fn put_args(schedule: &Schedule) -> [Vec<u8>; 6] {
    [
        field(&schedule.tenant, &schedule.name),
        schedule.version.min(wire::NEVER).to_string().into_bytes(),
        digit(schedule.next.is_some()).to_vec(),
        wire::instant(schedule.next.unwrap_or_default()).to_string().into_bytes(),
        digit(schedule.paused.is_some()).to_vec(),
        record::encode(schedule),
    ]
}

/// A schedule as it is kept: version and next instant of the record are those of its making.
fn read(value: &[u8]) -> Result<Schedule> {
    let mut bytes = Bytes(value);
    let (version, next) = (bytes.number(7)?, bytes.number(7)?);
    bytes.take(1)?;
    let schedule: Schedule =
        record::decode("schedule", bytes.0).map_err(|error| Fault::Corrupt(error.to_string()))?;
    let at = |kept: u64| Timestamp::from_millis((kept - 1).cast_signed());
    let kept = (next > 0).then(|| at(next));
    // Past the end of time as scripts count, or before its beginning: as it was given.
    let given = schedule.next.filter(|given| Some(wire::instant(*given)) == next.checked_sub(1));
    Ok(Schedule { version, next: given.or(kept), ..schedule })
}

/// A value that is a number, or none.
pub(super) fn number(value: &Value) -> Result<u64> {
    if *value == Value::Nil {
        return Ok(0);
    }
    Ok(u64::try_from(reply::int(value)?).unwrap_or(0))
}
