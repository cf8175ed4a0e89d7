//! How a task is to be treated: the options of `omniq enqueue` that say it.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use omniq::{Name, NewTask, Pool, Scope};
use omniq_model::Kind;

use super::quantity::{Bytes, Count, Span};
use crate::output::problem::Problem;
use crate::queue::TaskRef;

/// The heading these options stand under in the help.
const HEADING: &str = "How it is treated";

/// How a task is to be treated.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct PolicyArgs {
    /// The queue it waits in [default: default]
    #[arg(long, value_name = "NAME")]
    queue: Option<Name>,
    /// Whose task it is [default: default]
    #[arg(long, value_name = "NAME")]
    tenant: Option<Name>,
    /// How urgent it is within its queue: -9 to 9, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Start it this long after now at the earliest
    #[arg(long, value_name = "TIME")]
    delay: Option<Span>,
    /// Start it at this moment at the earliest, such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "MOMENT")]
    at: Option<Moment>,
    /// How often it runs again at most after an attempt that failed [default: the settings', 2]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// How long one attempt may take [default: the worker's, 5m]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Units of fuel of one attempt [default: the worker's, 20G]
    #[arg(long, value_name = "N")]
    fuel: Option<Count>,
    /// Bytes of memory of one attempt [default: the worker's, 256MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// It expires when it has not started by then [default: the settings', never]
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,
    /// How long its result is kept [default: the settings', 1d]
    #[arg(long, value_name = "TIME")]
    result_ttl: Option<Span>,
    /// Enqueue it only if no task that has not ended has this key; else answer with that one
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// How long the key is taken: until the task has `started` or `finished`, or for a TIME
    #[arg(long, value_name = "SCOPE", default_value = "finished", requires = "unique")]
    unique_for: UniqueFor,
    /// A word for filters; repeat it for more
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// Start it after that task has succeeded; repeat it for more
    #[arg(long, value_name = "ID")]
    after: Vec<TaskRef>,
    /// The worker's pool that runs it: `async` or `thread` [default: the worker's]
    #[arg(long, value_name = "POOL")]
    pool: Option<PoolArg>,
}

impl PolicyArgs {
    /// The tasks it waits for.
    pub fn parents(&self) -> &[TaskRef] {
        &self.after
    }

    /// The task with all that is said here but its parents.
    ///
    /// # Errors
    /// A moment is out of range.
    pub fn apply<Q>(&self, mut task: NewTask<Q>) -> Result<NewTask<Q>, Problem> {
        fn set<Q, T>(
            task: NewTask<Q>,
            value: Option<T>,
            set: impl FnOnce(NewTask<Q>, T) -> NewTask<Q>,
        ) -> NewTask<Q> {
            match value {
                Some(value) => set(task, value),
                None => task,
            }
        }
        task = set(task, self.queue.as_ref().map(Name::as_str), NewTask::queue);
        task = set(task, self.tenant.as_ref().map(Name::as_str), NewTask::tenant);
        task = set(task, self.priority, NewTask::priority);
        task = set(task, self.delay, |task, span| task.delay(span.0));
        task = set(task, self.at, |task, moment| task.at(moment.0));
        task = set(task, self.retries, NewTask::retries);
        task = set(task, self.timeout, |task, span| task.timeout(span.0));
        task = set(task, self.fuel, |task, count| task.fuel(count.0));
        task = set(task, self.memory, |task, bytes| task.memory(bytes.0));
        task = set(task, self.ttl, |task, span| task.ttl(span.0));
        task = set(task, self.result_ttl, |task, span| task.result_ttl(span.0));
        task = set(task, self.unique.as_ref(), |task, key| match self.unique_for {
            UniqueFor::Scope(scope) => task.unique(key, scope),
            UniqueFor::Window(window) => task.unique_for(key, window),
        });
        task = set(task, self.pool, |task, pool| task.pool(pool.0));
        task = task.labels(self.label.iter().map(|label| (label.key.clone(), label.value.clone())));
        if let Some(Moment(at)) = self.at
            && at > SystemTime::now() + Duration::from_secs(100 * 365 * 24 * 3600)
        {
            return Err(Problem::new(Kind::Usage, "`--at` is more than a hundred years away"));
        }
        Ok(task)
    }

    /// What would make each of many tasks stand in the way of the others.
    pub fn refuse_for_many(&self) -> Result<(), Problem> {
        if self.unique.is_some() {
            let text = "`--unique` is one key: only the first of many tasks would be enqueued";
            return Err(Problem::new(Kind::Usage, text));
        }
        Ok(())
    }
}

/// How long a unique key is taken.
#[derive(Debug, Clone, Copy)]
enum UniqueFor {
    Scope(Scope),
    Window(Duration),
}

impl FromStr for UniqueFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "started" => Ok(Self::Scope(Scope::UntilStarted)),
            "finished" => Ok(Self::Scope(Scope::UntilFinished)),
            span => span
                .parse()
                .map(|Span(span)| Self::Window(span))
                .map_err(|_| String::from("write `started`, `finished`, or a time such as `1h`")),
        }
    }
}

/// `KEY=VALUE`
#[derive(Debug, Clone)]
struct Label {
    key: String,
    value: String,
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) =
            text.split_once('=').ok_or("write `KEY=VALUE`, such as `customer=acme`")?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// A moment in RFC 3339.
#[derive(Debug, Clone, Copy)]
struct Moment(SystemTime);

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What reads them knows none before 1970, and says the same as of what is none at all.
        let later = text.get(4..).filter(|_| text < "1970").map(|rest| format!("1972{rest}"));
        if later.is_some_and(|later| humantime::parse_rfc3339_weak(&later).is_ok()) {
            return Err(
                "that is too early: moments begin with 1970, and whatever is over starts at once",
            );
        }
        humantime::parse_rfc3339_weak(text)
            .map(Self)
            .map_err(|_| "write a moment in UTC, such as `2026-01-31T12:00:00Z`")
    }
}

/// A pool that this version has.
#[derive(Debug, Clone, Copy)]
pub struct PoolArg(pub Pool);

impl FromStr for PoolArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "async" => Ok(Self(Pool::Async)),
            "thread" => Ok(Self(Pool::Thread)),
            _ => Err("this version has the pools `async` and `thread`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_1970_is_too_early_and_anything_else_is_none() {
        for (text, expected) in [
            ("2026-01-31T12:00:00Z", None),
            ("1970-01-01T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", Some("too early")),
            ("1968-02-29 12:00:00", Some("too early")),
            ("0001-01-01T00:00:00Z", Some("too early")),
            ("1969-13-31T23:59:59Z", Some("write a moment")),
            ("1969", Some("write a moment")),
            ("yesterday", Some("write a moment")),
            ("", Some("write a moment")),
            ("1äöüß", Some("write a moment")),
        ] {
            let error = text.parse::<Moment>().err();
            let is_good = match expected {
                None => error.is_none(),
                Some(part) => error.is_some_and(|error| error.contains(part)),
            };
            assert!(is_good, "{text}: {error:?}");
        }
    }
}
