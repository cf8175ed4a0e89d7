//! What a worker that drains its queues has left to do.
//!
//! Several questions are asked for that, one after the other, while tasks move on in between. "Nothing" is said only
//! where a second look finds everything as the first one did.

use std::collections::HashMap;
use std::time::Duration;

use omniq::{Filter, Info, Name, Pool, Queue, State};
use omniq_model::{Kind, ModuleRef};

use crate::output::problem::Problem;

/// What is left to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Tasks that are ready or running.
    pub now: u64,
    /// Tasks that are due before long.
    pub soon: u64,
    /// Ready tasks in paused lanes.
    paused: u64,
    /// Tasks that cannot be run by a worker like this one, and why one of them cannot.
    stuck: u64,
    obstacle: Option<Obstacle>,
}

/// Why a task cannot be run as things are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    /// Its module, `name@version`, is not there.
    Missing(String),
    /// What is stored for its module is not what was pushed.
    Damaged(String),
    /// It is for a pool that this worker does not have.
    Pool(Pool),
}

impl Obstacle {
    /// What there is to say of `count` tasks, one of which it stands before.
    fn describe(&self, count: u64) -> String {
        let noun = noun(count);
        match self {
            Self::Missing(module) => {
                format!("{count} {noun} whose module is not there, such as `{module}`")
            }
            Self::Damaged(module) => {
                format!("{count} {noun} whose module is damaged in the store, such as `{module}`")
            }
            Self::Pool(pool) => {
                format!(
                    "{count} {noun} for a pool that this worker does not have, such as `{pool}`"
                )
            }
        }
    }

    /// What to do about it.
    fn hint(&self) -> String {
        match self {
            Self::Missing(module) => format!("push `{module}`, and drain again"),
            Self::Damaged(module) => format!("push `{module}` once more, and drain again"),
            Self::Pool(_) => String::from(
                "cancel them and enqueue them for `async` or `thread`, or run a worker that has the pool",
            ),
        }
    }
}

fn noun(count: u64) -> &'static str {
    if count == 1 { "task" } else { "tasks" }
}

impl Left {
    /// What is left in these queues; in all if none is named.
    ///
    /// # Errors
    /// A store failed.
    pub async fn of(queue: &Queue, queues: &[Name]) -> Result<Self, Problem> {
        let patience = queue.config().retry.max_delay;
        Self::by(&Looks { queue, filters: filters(queues), queues, patience }).await
    }

    async fn by(look: &impl Look) -> Result<Self, Problem> {
        let counts = look.counts().await?;
        let [ready, running, scheduled] = [State::Ready, State::Running, State::Scheduled]
            .map(|state| counts.iter().map(|of| of.get(state)).sum());
        let mut left = Self { now: ready + running, ..Self::default() };
        if running > 0 || ready > 0 && look.has_open_lane().await? {
            return Ok(left);
        }
        // What was claimed between two looks was ready by the first and in no lane by the second; and what was let go by
        // the end of a task in another queue was blocked by the first, and that task is gone by the second.
        if look.counts().await? != counts {
            left.now = left.now.max(1);
            return Ok(left);
        }
        (left.now, left.paused) = (0, ready);
        if scheduled > 0 && look.is_any_due_soon().await? {
            match look.obstacle().await? {
                None => left.soon = scheduled,
                obstacle => (left.stuck, left.obstacle) = (scheduled, obstacle),
            }
        }
        Ok(left)
    }

    /// # Errors
    /// Tasks are left that nobody can run as things are.
    pub fn held_back(self) -> crate::command::Result {
        let mut reasons = Vec::new();
        if self.paused > 0 {
            reasons.push(format!("{} ready {} in paused queues", self.paused, noun(self.paused)));
        }
        reasons.extend(self.obstacle.as_ref().map(|obstacle| obstacle.describe(self.stuck)));
        if reasons.is_empty() {
            return Ok(());
        }
        let go_on = || String::from("let the queues go on, and drain again");
        let hint = self.obstacle.as_ref().map_or_else(go_on, Obstacle::hint);
        let message = format!("nothing more can be run; left: {}", reasons.join(", "));
        Err(Problem::new(Kind::WaitTimeout, message).hint(hint))
    }
}

/// The questions.
trait Look {
    /// How many tasks of each queue stand where.
    async fn counts(&self) -> Result<Vec<Counts>, Problem>;
    /// Whether tasks are ready in a lane that is not paused.
    async fn has_open_lane(&self) -> Result<bool, Problem>;
    /// Whether one of the scheduled tasks is worth waiting for.
    async fn is_any_due_soon(&self) -> Result<bool, Problem>;
    /// What stands before one of the scheduled tasks, if something stands before all of them.
    async fn obstacle(&self) -> Result<Option<Obstacle>, Problem>;
}

/// Tasks that are blocked, scheduled, ready and running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts([u64; 4]);

impl Counts {
    const STATES: [State; 4] = [State::Blocked, State::Scheduled, State::Ready, State::Running];

    fn get(self, state: State) -> u64 {
        let at = Self::STATES.iter().position(|one| *one == state);
        at.map_or(0, |at| self.0[at])
    }
}

fn filters(queues: &[Name]) -> Vec<Filter> {
    match queues {
        [] => vec![Filter::default()],
        names => {
            let of = |name: &Name| Filter { queue: Some(name.clone()), ..Filter::default() };
            names.iter().map(of).collect()
        }
    }
}

/// The questions, put to a queue.
struct Looks<'a> {
    queue: &'a Queue,
    filters: Vec<Filter>,
    queues: &'a [Name],
    /// How long a scheduled task is waited for.
    patience: Duration,
}

impl Looks<'_> {
    /// Whether `wanted` is said of one of the scheduled tasks.
    async fn any_scheduled(
        &self,
        mut wanted: impl AsyncFnMut(Info) -> Result<bool, Problem>,
    ) -> Result<bool, Problem> {
        const PAGE: usize = 500;
        for filter in &self.filters {
            let filter = Filter { states: vec![State::Scheduled], ..filter.clone() };
            let mut before = None;
            loop {
                let page = self.queue.list(&filter, before, PAGE).await?;
                for info in page.items {
                    if wanted(info).await? {
                        return Ok(true);
                    }
                }
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
        }
        Ok(false)
    }
}

impl Look for Looks<'_> {
    async fn counts(&self) -> Result<Vec<Counts>, Problem> {
        let mut all = Vec::with_capacity(self.filters.len());
        for filter in &self.filters {
            let filter = Filter { states: Counts::STATES.to_vec(), ..filter.clone() };
            let counts = self.queue.count(&filter).await?;
            all.push(Counts(Counts::STATES.map(|state| counts.get(&state).copied().unwrap_or(0))));
        }
        Ok(all)
    }

    async fn has_open_lane(&self) -> Result<bool, Problem> {
        const PAGE: usize = 1000;
        let tasks = &self.queue.stores().tasks;
        let mut after = None;
        loop {
            let page = tasks.ready_lanes(after.as_ref(), PAGE).await.map_err(omniq::Error::from)?;
            let is_ours = |name: &Name| self.queues.is_empty() || self.queues.contains(name);
            if page.iter().any(|lane| is_ours(&lane.queue)) {
                return Ok(true);
            }
            if page.len() < PAGE {
                return Ok(false);
            }
            after = page.last().cloned();
        }
    }

    async fn is_any_due_soon(&self) -> Result<bool, Problem> {
        let tasks = &self.queue.stores().tasks;
        let due = tasks.promote(1000).await.map_err(omniq::Error::from)?;
        let is_soon = due.promoted > 0 || due.next.is_some_and(|next| next <= self.patience);
        if !is_soon || self.queues.is_empty() || due.promoted > 0 {
            return Ok(is_soon);
        }
        // The next one may be of a queue that is none of ours.
        let until = tasks.now().await.map_err(omniq::Error::from)? + self.patience;
        self.any_scheduled(async |info| Ok(info.head.run_at.is_none_or(|at| at <= until))).await
    }

    async fn obstacle(&self) -> Result<Option<Obstacle>, Problem> {
        let modules = self.queue.modules().await?.into_iter();
        let mut found = None;
        // What is known of each module: whether its bytes are what was pushed, once somebody wanted to know.
        let mut known: HashMap<_, _> = modules.map(|module| (module.digest, None)).collect();
        let is_any_free = self.any_scheduled(async |info| {
            let Ok(task) = &info.task else { return Ok(true) };
            let obstacle = if let Some(pool) = task.pool.filter(|pool| !POOLS.contains(pool)) {
                Obstacle::Pool(pool)
            } else {
                match known.get_mut(&task.module.digest) {
                    None => Obstacle::Missing(shown(&task.module)),
                    Some(sound) if was_put_back(&info) => {
                        let is_sound = match *sound {
                            Some(is_sound) => is_sound,
                            // While the store does not answer, nothing speaks against them.
                            None => *sound.insert(
                                self.queue
                                    .is_module_sound(&task.module.digest)
                                    .await
                                    .unwrap_or(true),
                            ),
                        };
                        if is_sound {
                            return Ok(true);
                        }
                        Obstacle::Damaged(shown(&task.module))
                    }
                    Some(_) => return Ok(true),
                }
            };
            found.get_or_insert(obstacle);
            Ok(false)
        });
        Ok(if is_any_free.await? { None } else { found })
    }
}

/// The pools of this process's worker.
const POOLS: [Pool; 2] = [Pool::Async, Pool::Thread];

/// Whether the last worker that had it could not run it.
fn was_put_back(info: &Info) -> bool {
    info.head.error.as_ref().is_some_and(|error| error.kind == Kind::Unavailable.name())
}

fn shown(module: &ModuleRef) -> String {
    format!("{}@{}", module.name, module.version)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::*;

    /// What each look at the counts finds, and the answers to the other questions.
    struct Script {
        counts: RefCell<VecDeque<Vec<[u64; 4]>>>,
        open: bool,
        soon: bool,
        obstacle: Option<Obstacle>,
    }

    impl Look for Script {
        async fn counts(&self) -> Result<Vec<Counts>, Problem> {
            let mut counts = self.counts.borrow_mut();
            let next = if counts.len() > 1 { counts.pop_front() } else { counts.front().cloned() };
            Ok(next.unwrap_or_default().into_iter().map(Counts).collect())
        }

        async fn has_open_lane(&self) -> Result<bool, Problem> {
            Ok(self.open)
        }

        async fn is_any_due_soon(&self) -> Result<bool, Problem> {
            Ok(self.soon)
        }

        async fn obstacle(&self) -> Result<Option<Obstacle>, Problem> {
            Ok(self.obstacle.clone())
        }
    }

    fn script<const N: usize>(counts: [&[[u64; 4]]; N]) -> Script {
        let counts = RefCell::new(counts.into_iter().map(<[_]>::to_vec).collect());
        Script { counts, open: false, soon: false, obstacle: None }
    }

    #[track_caller]
    fn check(script: &Script, expected: Left) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(Left::by(script)).unwrap(), expected);
    }

    #[test]
    fn what_can_run_is_to_be_waited_for() {
        let left = |now, soon| Left { now, soon, ..Left::default() };
        check(&script([&[[0; 4]]]), left(0, 0));
        check(&script([&[[0, 0, 0, 2]]]), left(2, 0));
        check(&Script { open: true, ..script([&[[0, 0, 3, 0], [0, 0, 1, 0]]]) }, left(4, 0));
        check(&script([&[[0, 5, 0, 0]]]), left(0, 0));
        check(&Script { soon: true, ..script([&[[0, 5, 0, 0]]]) }, left(0, 5));
        // What waits for tasks of other queues is not this one's.
        check(&script([&[[7, 0, 0, 0]]]), left(0, 0));
    }

    #[test]
    fn what_nobody_can_run_is_said() {
        check(&script([&[[0, 0, 3, 0]]]), Left { paused: 3, ..Left::default() });
        let obstacle = Some(Obstacle::Missing("m@1".into()));
        let held = Script { soon: true, obstacle: obstacle.clone(), ..script([&[[0, 2, 0, 0]]]) };
        check(&held, Left { stuck: 2, obstacle, ..Left::default() });
    }

    #[test]
    fn what_moves_between_two_looks_is_not_taken_for_nothing() {
        // Claimed between the looks at the counts and at the lanes.
        check(&script([&[[0, 0, 1, 0]], &[[0, 0, 0, 1]]]), Left { now: 1, ..Left::default() });
        // Let go in the first queue by an end in the second, after the first was looked at.
        let hop = script([&[[1, 0, 0, 0], [0; 4]], &[[0, 0, 1, 0], [0; 4]]]);
        check(&hop, Left { now: 1, ..Left::default() });
        // Came in since the first look.
        check(&script([&[[0; 4]], &[[0, 0, 1, 0]]]), Left { now: 1, ..Left::default() });
    }
}
