//! What a worker that drains its queues has left to do.
//!
//! Several questions are asked for that, one after the other, while tasks move on in between. "Nothing" is said only
//! where a second look finds everything as the first one did.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use omniq::{Filter, Info, Name, Pool, Queue, State, Timestamp};
use omniq_model::{Digest, Kind, ModuleRef};

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
    /// Tasks that are due before long and cannot be run as things are.
    stuck: Stuck,
}

/// What stands before tasks that cannot be run: before how many, and one of the things.
pub type Stuck = BTreeMap<Obstacle, (u64, String)>;

/// Why a task cannot be run as things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Its module is not there.
    Missing,
    /// What is stored for its module is not what was pushed.
    Damaged,
    /// It is for a pool that this worker does not have.
    Pool,
}

impl Obstacle {
    /// What there is to say of `count` tasks, and of one of the things that stand before them.
    fn describe(self, count: u64, example: &str) -> String {
        let what = match self {
            Self::Missing => "whose module is not there",
            Self::Damaged => "whose module is damaged in the store",
            Self::Pool => "for a pool that this worker does not have",
        };
        format!("{count} {} {what}, such as `{example}`", noun(count))
    }

    /// What to do about it.
    fn advice(self, example: &str) -> String {
        match self {
            Self::Missing => format!("push `{example}`"),
            Self::Damaged => format!("push `{example}` once more"),
            Self::Pool => String::from("cancel those for other pools and enqueue them anew"),
        }
    }
}

fn noun(count: u64) -> &'static str {
    if count == 1 { "task" } else { "tasks" }
}

impl Left {
    /// What is left where these looks go.
    ///
    /// # Errors
    /// A store failed.
    pub async fn of(look: &impl Look) -> Result<Self, Problem> {
        let counts = look.counts().await?;
        let [ready, running, scheduled] = [State::Ready, State::Running, State::Scheduled]
            .map(|state| counts.iter().map(|of| of.get(state)).sum());
        let mut left = Self { now: ready + running, ..Self::default() };
        if running > 0 || ready > 0 && look.has_open_lane().await? {
            return Ok(left);
        }
        let mut next = Self { paused: ready, ..Self::default() };
        if scheduled > 0 && look.is_any_due_soon().await? {
            match look.stuck(scheduled).await? {
                None => next.soon = scheduled,
                Some(stuck) => next.stuck = stuck,
            }
        }
        // What was claimed between two looks was ready by the first and in no lane by the second; what was let go by the end
        // of a task in another queue was blocked by the first, and that task is gone by the second; and what was due meanwhile
        // is scheduled no more.
        if look.counts().await? != counts {
            left.now = left.now.max(1);
            return Ok(left);
        }
        Ok(next)
    }

    /// # Errors
    /// Tasks are left that nobody can run as things are.
    pub fn held_back(self) -> crate::command::Result {
        let (mut reasons, mut advice) = (Vec::new(), Vec::new());
        if self.paused > 0 {
            reasons.push(format!("{} ready {} in paused queues", self.paused, noun(self.paused)));
            advice.push(String::from("let the queues go on"));
        }
        for (obstacle, (count, example)) in &self.stuck {
            reasons.push(obstacle.describe(*count, example));
            advice.push(obstacle.advice(example));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        advice.push(String::from("and drain again"));
        let message = format!("nothing more can be run; left: {}", reasons.join(", "));
        Err(Problem::new(Kind::WaitTimeout, message).hint(advice.join(", ")))
    }
}

/// The questions.
pub trait Look {
    /// How many tasks of each queue stand where.
    async fn counts(&self) -> Result<Vec<Counts>, Problem>;
    /// Whether tasks are ready in a lane that is not paused.
    async fn has_open_lane(&self) -> Result<bool, Problem>;
    /// Whether one of the scheduled tasks is worth waiting for.
    async fn is_any_due_soon(&self) -> Result<bool, Problem>;
    /// What stands before the scheduled tasks that are worth waiting for; `None`: nothing before one of them, or not all of so
    /// many scheduled ones were seen.
    async fn stuck(&self, scheduled: u64) -> Result<Option<Stuck>, Problem>;
}

/// Tasks that are blocked, scheduled, ready and running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; 4]);

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
pub struct Looks<'a> {
    queue: &'a Queue,
    filters: Vec<Filter>,
    queues: &'a [Name],
    /// How long a scheduled task is waited for.
    patience: Duration,
    /// Not before then is it looked for what stands before tasks: all that are scheduled may have to be read for that.
    rested: Cell<Instant>,
}

/// How many times as long as a look for what stands before tasks there is none.
const REST: u32 = 10;
/// The pools of this process's worker.
const POOLS: [Pool; 2] = [Pool::Async, Pool::Thread];

impl<'a> Looks<'a> {
    /// At these queues; at all if none is named.
    pub fn new(queue: &'a Queue, queues: &'a [Name]) -> Self {
        Self {
            queue,
            filters: filters(queues),
            queues,
            patience: queue.config().retry.max_delay,
            rested: Cell::new(Instant::now()),
        }
    }

    /// Until when tasks are worth waiting for.
    async fn until(&self) -> Result<Timestamp, Problem> {
        let now = self.queue.stores().tasks.now().await.map_err(omniq::Error::from)?;
        Ok(now + self.patience)
    }

    /// Whether `wanted` is said of one of the scheduled tasks, which are given with whether they are worth waiting for.
    async fn any_scheduled(
        &self,
        mut wanted: impl AsyncFnMut(Info, bool) -> Result<bool, Problem>,
    ) -> Result<bool, Problem> {
        const PAGE: usize = 500;
        let until = self.until().await?;
        for filter in &self.filters {
            let filter = Filter { states: vec![State::Scheduled], ..filter.clone() };
            let mut before = None;
            loop {
                let page = self.queue.list(&filter, before, PAGE).await?;
                for info in page.items {
                    let is_soon = info.head.run_at.is_none_or(|at| at <= until);
                    if wanted(info, is_soon).await? {
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

    /// What stands before a task, and the name of that; of each module it is noted whether its bytes are those that were
    /// pushed, once somebody wants to know.
    async fn obstacle(
        &self,
        info: &Info,
        modules: &mut HashMap<Digest, Option<bool>>,
    ) -> Result<Option<(Obstacle, String)>, Problem> {
        let Ok(task) = &info.task else { return Ok(None) };
        let module = &task.module;
        if let Some(pool) = task.pool.filter(|pool| !POOLS.contains(pool)) {
            return Ok(Some((Obstacle::Pool, pool.to_string())));
        }
        let Some(known) = modules.get_mut(&module.digest) else {
            return Ok(Some((Obstacle::Missing, shown(module))));
        };
        if !was_put_back(info) {
            return Ok(None);
        }
        let is_sound = match *known {
            Some(is_sound) => is_sound,
            // While the store does not answer, nothing speaks against them.
            None => {
                let is_sound = self.queue.is_module_sound(&module.digest).await.unwrap_or(true);
                *known.insert(is_sound)
            }
        };
        Ok((!is_sound).then(|| (Obstacle::Damaged, shown(module))))
    }
}

/// Whether the last worker that had it could not run it, since it did not get the module.
fn was_put_back(info: &Info) -> bool {
    let kinds = [Kind::Unavailable.name(), Kind::NotFound.name()];
    info.head.error.as_ref().is_some_and(|error| kinds.contains(&&*error.kind))
}

fn shown(module: &ModuleRef) -> String {
    format!("{}@{}", module.name, module.version)
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
        self.any_scheduled(async |_, is_soon| Ok(is_soon)).await
    }

    async fn stuck(&self, scheduled: u64) -> Result<Option<Stuck>, Problem> {
        let began = Instant::now();
        if began < self.rested.get() {
            return Ok(None);
        }
        let modules = self.queue.modules().await?.into_iter();
        let mut modules: HashMap<_, _> = modules.map(|module| (module.digest, None)).collect();
        let (mut stuck, mut seen) = (Stuck::new(), 0);
        let is_any_free = self.any_scheduled(async |info, is_soon| {
            seen += 1;
            if !is_soon {
                return Ok(false);
            }
            let Some((obstacle, name)) = self.obstacle(&info, &mut modules).await? else {
                return Ok(true);
            };
            stuck.entry(obstacle).or_insert((0, name)).0 += 1;
            Ok(false)
        });
        let is_any_free = is_any_free.await?;
        self.rested.set(Instant::now() + began.elapsed() * REST);
        // One that was missed is under way, and may be scheduled again by the next look at the counts.
        Ok((!is_any_free && seen == scheduled).then_some(stuck))
    }
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
        stuck: Option<Stuck>,
        /// What is counted once it was looked for what is stuck.
        moves: RefCell<Option<Vec<[u64; 4]>>>,
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

        async fn stuck(&self, _: u64) -> Result<Option<Stuck>, Problem> {
            if let Some(moved) = self.moves.take() {
                self.counts.replace(VecDeque::from([moved]));
            }
            Ok(self.stuck.clone())
        }
    }

    fn script<const N: usize>(counts: [&[[u64; 4]]; N]) -> Script {
        let counts = RefCell::new(counts.into_iter().map(<[_]>::to_vec).collect());
        Script { counts, open: false, soon: false, stuck: None, moves: RefCell::default() }
    }

    #[track_caller]
    fn check(script: &Script, expected: Left) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(Left::of(script)).unwrap(), expected);
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
        let stuck = Stuck::from([(Obstacle::Missing, (2, String::from("m@1")))]);
        let held = |counts| Script { soon: true, stuck: Some(stuck.clone()), ..counts };
        let expected = Left { stuck: stuck.clone(), ..Left::default() };
        check(&held(script([&[[0, 2, 0, 0]]])), expected);
        // Another one was due while those were looked at.
        let due = held(script([&[[0, 3, 0, 0]]]));
        due.moves.replace(Some(vec![[0, 2, 1, 0]]));
        check(&due, Left { now: 1, ..Left::default() });
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
