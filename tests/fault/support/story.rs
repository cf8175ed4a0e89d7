//! Tasks of every kind in one queue, and what must have become of them in the end, whoever died meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use omniq_conformance::history::Entry;
use omniq_model::{State, TaskId};
use omniq_store::Info;

use super::judge::Judge;
use super::place::Place;
use super::process::{PATIENCE, Process};

/// Lines of arguments that one command enqueues, under ids that follow from the batch's name: so it may be repeated.
#[derive(Debug, Clone)]
pub struct Batch {
    name: String,
    options: Vec<String>,
    function: &'static str,
    lines: Vec<String>,
}

/// How a task must end.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// With this number.
    Number(u64),
    /// With so many bytes.
    Bytes(usize),
    /// With anything.
    Something,
    /// Without a result.
    Failed,
}

impl Batch {
    /// So many calls of `twice` with the numbers from `first`.
    pub fn twice(name: &str, first: u64, count: u64) -> Self {
        Self::new(name, "twice", (first..first + count).map(|number| format!("[{number}]")))
    }

    /// One call of `function` for each line of arguments in JSON.
    pub fn new(
        name: &str,
        function: &'static str,
        lines: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let lines = lines.into_iter().map(Into::into).collect();
        Self { name: name.to_owned(), options: Vec::new(), function, lines }
    }

    /// With an option of `omniq enqueue`, such as `--retries=1`.
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// The ids that its tasks have, in the order of the lines, as `omniq enqueue --batch` makes them.
    pub fn ids(&self) -> Vec<TaskId> {
        let id = |line: usize| {
            TaskId::derived(&[b"batch", self.name.as_bytes(), &(line as u64).to_be_bytes()])
        };
        (1..=self.lines.len()).map(id).collect()
    }

    /// Whether its results are too large to lie in the records.
    pub fn has_bytes(&self) -> bool {
        self.function == "bulk"
    }

    /// The command that enqueues it.
    pub fn command(&self, place: &Place) -> Command {
        let file = self.file(place);
        let mut command = place.command(["enqueue", "steps", self.function, "--batch", &self.name]);
        command.args(&self.options).arg("--ndjson").arg(file);
        command
    }

    fn file(&self, place: &Place) -> PathBuf {
        let file = place.path().join(format!("{}.ndjson", self.name));
        if !file.exists() {
            fs::write(&file, self.lines.join("\n") + "\n").expect("the test's folder takes files");
        }
        file
    }

    /// Starts that command.
    pub fn start(&self, place: &Place) -> Process {
        Process::start(place.path(), &format!("enqueue {}", self.name), self.command(place))
    }

    /// Enqueues it.
    #[track_caller]
    pub fn enqueue(&self, place: &Place) {
        let mut process = self.start(place);
        let status = process.wait(PATIENCE);
        assert!(status.success(), "{} ended with {status}\n{}", process.name, process.said());
        let told = acknowledged(&process.stdout());
        assert_eq!(told, self.ids().into_iter().collect(), "the ids are the ones that were told");
    }

    /// How each of its tasks must end.
    pub fn expected(&self) -> BTreeMap<TaskId, Expected> {
        let number = |line: &str| {
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap_or_default()
        };
        let expected = |line: &String| match self.function {
            "twice" => Expected::Number(number(line) * 2),
            "bulk" => Expected::Bytes(number(line) as usize),
            "refuse" => Expected::Failed,
            _ => Expected::Something,
        };
        self.ids().into_iter().zip(self.lines.iter().map(expected)).collect()
    }
}

/// The ids on whole lines: the last one may have been cut off by a death.
pub fn acknowledged(stdout: &str) -> BTreeSet<TaskId> {
    let whole = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
    whole.lines().map(|line| line.parse().expect("each line is an id")).collect()
}

/// Tasks of every kind: quick ones, some with a result that is kept apart, some that fail, some that wait for others.
pub fn every_kind() -> Vec<Batch> {
    let parent = Batch::new("parent", "rest", ["[100]"]);
    let after = format!("--after={}", parent.ids()[0]);
    vec![
        Batch::twice("quick", 1, 20),
        Batch::new("bulk", "bulk", ["[20000]"; 3]),
        Batch::new("refuse", "refuse", ["[]"; 2]).option("--retries=1"),
        parent,
        Batch::twice("child", 100, 2).option(after),
        Batch::new("late", "draw", ["[]"; 2]).option("--delay=300ms"),
    ]
}

/// Holds what is in the stores against what must have become of these batches, all of which were acknowledged; prints
/// the checker's report.
///
/// # Panics
/// Something is not as it must be.
#[track_caller]
pub fn check<'a>(judge: &Judge, batches: impl IntoIterator<Item = &'a Batch>) {
    check_with(judge, batches, Vec::new());
}

/// The same, with what others wrote down who did something to the queue.
///
/// # Panics
/// Something is not as it must be.
#[track_caller]
pub fn check_with<'a>(
    judge: &Judge,
    batches: impl IntoIterator<Item = &'a Batch>,
    mut offers: Vec<Entry>,
) {
    let expected: BTreeMap<_, _> = batches.into_iter().flat_map(Batch::expected).collect();
    offers.extend(expected.keys().copied().map(Entry::acked));
    judge.verdict(&offers).assert_clean();
    let infos: BTreeMap<_, _> = judge.infos().into_iter().map(|info| (info.id, info)).collect();
    for (id, expected) in expected {
        check_one(judge, &infos[&id], &expected);
    }
}

/// Holds one task against how it must have ended.
///
/// # Panics
/// It has ended otherwise.
#[track_caller]
pub fn check_one(judge: &Judge, info: &Info, expected: &Expected) {
    let id = info.id;
    let state = match expected {
        Expected::Failed => State::Failed,
        _ => State::Succeeded,
    };
    assert_eq!(info.head.state, state, "task {id}: {:?}", info.head);
    let value = judge.value(info);
    let value = value
        .as_deref()
        .map(|cbor| ciborium::from_reader::<ciborium::Value, _>(cbor).expect("a result is CBOR"));
    match (expected, value) {
        (Expected::Failed, None) | (Expected::Something, Some(_)) => {}
        (Expected::Number(number), Some(ciborium::Value::Integer(found))) => {
            assert_eq!(i128::from(found), i128::from(*number), "task {id}");
        }
        (Expected::Bytes(length), Some(ciborium::Value::Bytes(found))) => {
            assert_eq!(found.len(), *length, "task {id}");
        }
        (expected, value) => panic!("task {id} must end with {expected:?}, not with {value:?}"),
    }
}
