//! Processes that keep a store beside workers and do nothing else: schedulers fire what is due, reapers take over from the dead,
//! promote and expire. They go at it without a pause, so that they meet, and each writes down what it was told.
//!
//! They are this very binary of tests, started with a variable that says what to be.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use omniq_conformance::history::{Entry, What};
use omniq_model::{Schedule, Timestamp};
use omniq_store::{
    Clock as _, Fire, Fired, Moved, Options, Result, SystemClock, TaskStore, open_tasks,
};

use super::place::Place;
use super::process::{PATIENCE, Process};

/// What a process is to be, the URL of its store, and its number.
const ROLE: &str = "OMNIQ_FAULT_ROLE";
const STORE: &str = "OMNIQ_FAULT_STORE";
const NUMBER: &str = "OMNIQ_FAULT_NUMBER";
/// The file at whose sight they end.
const STOP: &str = "stop";
/// Between two rounds in which there was nothing to do.
const PAUSE: Duration = Duration::from_millis(3);
/// From one firing of a schedule to the next.
pub const PERIOD: Duration = Duration::from_millis(50);

/// Several of them at work.
#[derive(Debug)]
pub struct Crew {
    processes: Vec<Process>,
    stop: PathBuf,
}

impl Crew {
    /// Starts so many of each; `test` is the name of the test that calls [`serve`]. Schedules end at `end`.
    pub fn start(place: &Place, test: &str, of_each: usize, end: Timestamp) -> Self {
        let start = |number: usize| {
            let role = if number < of_each { "scheduler" } else { "reaper" };
            let mut command = Command::new(env::current_exe().expect("a process knows its file"));
            command.args([test, "--exact", "--ignored", "--nocapture"]);
            command.env(ROLE, role).env(STORE, &place.urls().tasks).current_dir(place.path());
            command.env(NUMBER, format!("{number} {}", end.as_millis()));
            Process::start(place.path(), &format!("{role} {number}"), command)
        };
        let processes = (0..2 * of_each).map(start).collect();
        Self { processes, stop: place.path().join(STOP) }
    }

    /// Ends them; gives what each wrote down.
    #[track_caller]
    pub fn dismiss(mut self) -> Vec<Vec<Entry>> {
        fs::write(&self.stop, "").expect("the test's folder takes files");
        let told = self.processes.iter_mut().map(|process| {
            let status = process.wait(PATIENCE);
            assert!(status.success(), "{} ended with {status}\n{}", process.name, process.said());
            let text = process.stdout();
            let entries = text.lines().filter(|line| line.starts_with('{'));
            entries.map(|line| serde_json::from_str(line).expect("it is an entry")).collect()
        });
        told.collect()
    }
}

/// What such a process does. In a run of the tests that was not started by [`Crew::start`] there is nothing to do.
pub fn serve() {
    let Ok(role) = env::var(ROLE) else { return };
    println!(); // what is written before by the harness of the tests stands on a line of its own
    let url = env::var(STORE).expect("it is given a store");
    let numbers = env::var(NUMBER).expect("it is given a number");
    let (number, end) = numbers.split_once(' ').expect("there are two");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
    let number: u32 = number.parse().expect("it is a number");
    let end = Timestamp::from_millis(end.parse().expect("it is a number"));
    runtime.block_on(async {
        let store = open_tasks(&url, &Options::default()).await.expect("the store opens");
        let mut member = Member { store: &*store, client: number * 1_000_000, end };
        while !fs::exists(STOP).expect("the folder can be looked at") {
            let done = if role == "scheduler" { member.fire().await } else { member.reap().await };
            if answered(done).unwrap_or_default() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        answered(store.close().await);
    });
}

/// What a store answered; nothing if none can be had at the moment, as where whoever speaks for a bucket has no time on a busy
/// machine. The call may have been carried out all the same.
fn answered<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.kind().is_passing() => {
            eprintln!("{error:?}");
            None
        }
        Err(error) => panic!("the server runs: {error:?}"),
    }
}

struct Member<'a> {
    store: &'a dyn TaskStore,
    /// Another number for each call, so that the checker takes no two for one.
    client: u32,
    end: Timestamp,
}

impl Member<'_> {
    /// Fires what is due, as every scheduler does; gives how many schedules those were.
    async fn fire(&mut self) -> Result<usize> {
        let due = self.store.due_schedules(10).await?;
        for schedule in &due {
            let nominal = schedule.next.expect("it is due");
            let mut task = schedule.task.clone();
            task.id = Schedule::task_id(&schedule.tenant, &schedule.name, nominal);
            let fire = Fire {
                tenant: schedule.tenant.clone(),
                name: schedule.name.clone(),
                version: schedule.version,
                next: Some(nominal + PERIOD).filter(|next| *next <= self.end),
                tasks: vec![task.clone()],
            };
            let fired = answered(self.store.fire(vec![fire]).await);
            self.note([What::Fire {
                schedule: schedule.name.clone(),
                version: schedule.version,
                nominal,
                task: task.id,
                fired: fired.map(|fired| fired == [Fired::Fired]),
            }]);
        }
        Ok(due.len())
    }

    /// Moves time on; gives how many tasks that were.
    async fn reap(&mut self) -> Result<usize> {
        let promoted = self.store.promote(1000).await?.promoted;
        let mut moved = self.store.reclaim(1000).await?;
        moved.extend(self.store.expire(1000).await?);
        let told = |moved: &Moved| {
            let Moved { id: task, fence, from, to, .. } = *moved;
            What::Move { task, fence, from, to }
        };
        self.note(moved.iter().map(told));
        Ok(promoted + moved.len())
    }

    /// Writes down what one call brought, before anything else can happen to this process.
    fn note(&mut self, what: impl IntoIterator<Item = What>) {
        self.client += 1;
        let t1 = SystemClock::default().now().as_millis();
        for what in what {
            let entry = Entry { t0: i64::MIN, t1, store: None, client: self.client, what };
            println!("{}", serde_json::to_string(&entry).expect("an entry is JSON"));
        }
    }
}
