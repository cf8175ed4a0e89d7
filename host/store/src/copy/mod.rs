//! Copies a whole queue from one set of stores to another: modules, held lanes, schedules, tasks in every state, the
//! values of results, events. Any two backends will do.
//!
//! Everything is taken in idempotently by its name or id, in an order that is safe to stop at any point: what a record
//! refers to is there before the record. So a copy that was interrupted is resumed by starting it again. It changes
//! nothing in the stores it copies from.
//!
//! Nothing may work on either side meanwhile: what is copied is each task as it stood when its page was read. Running
//! tasks land as ready ones with a higher fence ([`TaskCopy::landed`](crate::TaskCopy::landed)).

mod events;
mod modules;
mod tasks;
mod verify;

use std::fmt;
use std::sync::Arc;

use omniq_model::{Lane, Name, TaskId};

use crate::{Admin, Error, EventStore, ModuleStore, Result, ResultStore, TaskStore, WorkerSeen};

/// Tasks, results, events and modules of a queue; those that are kept nowhere of their own are `None`.
#[derive(Debug, Clone)]
pub struct Side {
    /// Where tasks live.
    pub tasks: Arc<dyn TaskStore>,
    /// Where large results live; `None`: all are in the records of their tasks.
    pub results: Option<Arc<dyn ResultStore>>,
    /// Where events live, if any are to be copied.
    pub events: Option<Arc<dyn EventStore>>,
    /// Where modules live, if any are to be copied.
    pub modules: Option<Arc<dyn ModuleStore>>,
}

/// Copies `from` one side `to` another.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Where everything is.
    pub from: Side,
    /// Where everything is to be.
    pub to: Side,
}

/// What is being copied or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Modules are copied.
    Modules,
    /// Tasks are copied, with the values of their results.
    Tasks,
    /// Events are copied.
    Events,
    /// Tasks are compared.
    Comparing,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// With what.
    pub phase: Phase,
    /// So many are done.
    pub done: u64,
    /// Of so many, where that is known.
    pub of: Option<u64>,
}

/// Why something was not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// The task, or its state, cannot be read.
    Unreadable(TaskId),
    /// Another task holds the unique key of the first one there.
    KeyTaken(TaskId, TaskId),
    /// Another module has that name and version there.
    Module(Name, Name),
    /// Another schedule has that tenant and name there.
    Schedule(Name, Name),
    /// The value of the task's result is not where its record says.
    Value(TaskId),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(id) => write!(f, "task `{id}` cannot be read"),
            Self::KeyTaken(id, holder) => {
                write!(f, "task `{id}`: its unique key is held there by `{holder}`")
            }
            Self::Module(name, version) => {
                write!(f, "module `{name}@{version}` has other bytes there")
            }
            Self::Schedule(tenant, name) => {
                write!(f, "another schedule `{name}` of the tenant `{tenant}` is there")
            }
            Self::Value(id) => write!(f, "the result of task `{id}` is lost where it was"),
        }
    }
}

/// What was copied. What was there already from an earlier run counts too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copied {
    /// Tasks.
    pub tasks: u64,
    /// Of those, tasks that were there already.
    pub tasks_there: u64,
    /// Of those, tasks that ran and are ready again.
    pub released: u64,
    /// Values of results that are kept apart from their tasks.
    pub values: u64,
    /// Versions of modules.
    pub modules: u64,
    /// Schedules.
    pub schedules: u64,
    /// Lanes that are held back.
    pub paused: u64,
    /// Events.
    pub events: u64,
    /// What was not copied.
    pub left: Vec<Left>,
}

/// What differs between the two sides after a copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Tasks that are the same on both sides, with the values of their results.
    pub same: u64,
    /// Tasks that ran and were to be stopped, and what waited for them: they are there, and were settled there as their
    /// policies say.
    pub settled: u64,
    /// Tasks that are not the same there.
    pub unequal: u64,
    /// The first of those that are not there at all.
    pub missing: Vec<TaskId>,
    /// The first of those that differ, and in what.
    pub different: Vec<(TaskId, &'static str)>,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.unequal == 0
    }
}

/// Who works where nobody should.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workers {
    /// On the side that is copied from.
    pub from: Vec<WorkerSeen>,
    /// On the side that is copied to.
    pub to: Vec<WorkerSeen>,
}

/// Tasks of one page.
const PAGE: usize = 500;

impl Side {
    fn admin(&self) -> Result<&dyn Admin> {
        let backend = self.tasks.caps().name;
        self.tasks.admin().ok_or(Error::Unsupported { backend, action: "copy tasks" })
    }
}

impl Copy {
    /// Checks that both sides can do their part and are two; tells who works on them.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when both sides are the same store; otherwise what a store says.
    pub async fn check(&self) -> Result<Workers> {
        let (from, to) = (self.from.admin()?, self.to.admin()?);
        let incarnation = |report: crate::Report| report.layout.map(|layout| layout.incarnation);
        let (one, other) = (incarnation(from.check().await?), incarnation(to.check().await?));
        if one.is_some() && one == other {
            return Err(Error::Config(
                "both sides are the same store of tasks; name another one to copy to".into(),
            ));
        }
        Ok(Workers { from: from.stats().await?.workers, to: to.stats().await?.workers })
    }

    /// Copies everything, and tells how far it has come.
    ///
    /// # Errors
    /// What a store says; the same call goes on where it stopped.
    pub async fn run(&self, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<Copied> {
        let mut copied = Copied::default();
        self.modules(&mut copied, tell).await?;
        self.paused_lanes(&mut copied).await?;
        self.schedules(&mut copied).await?;
        self.tasks(&mut copied, tell).await?;
        self.events(&mut copied, tell).await?;
        Ok(copied)
    }

    async fn paused_lanes(&self, copied: &mut Copied) -> Result<()> {
        let paused: Vec<Lane> = self.from.admin()?.stats().await?.paused;
        for lane in &paused {
            self.to.tasks.pause(lane, true).await?;
            copied.paused += 1;
        }
        Ok(())
    }

    async fn schedules(&self, copied: &mut Copied) -> Result<()> {
        let there = self.to.tasks.schedules(None).await?;
        for mut schedule in self.from.tasks.schedules(None).await? {
            schedule.version = 0;
            let same_name = there
                .iter()
                .find(|other| (&other.tenant, &other.name) == (&schedule.tenant, &schedule.name));
            if let Some(other) = same_name {
                let mut other = other.clone();
                other.version = 0;
                if other == schedule {
                    copied.schedules += 1;
                } else {
                    copied.left.push(Left::Schedule(schedule.tenant, schedule.name));
                }
                continue;
            }
            let (tenant, name) = (schedule.tenant.clone(), schedule.name.clone());
            match self.to.tasks.put_schedules(vec![schedule]).await?.pop().flatten() {
                Some(_) => copied.schedules += 1,
                None => copied.left.push(Left::Schedule(tenant, name)),
            }
        }
        Ok(())
    }
}
