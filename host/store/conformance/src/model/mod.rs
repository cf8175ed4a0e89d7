//! The test against the model: the same random calls, at the same instants, are made to the state machine that defines
//! the promises and to a store, and every answer is compared; at the end, everything there is.
//!
//! Time is virtual. A run that fails is shrunk to the fewest commands that still fail, and its seed is kept in a file, so
//! that the next test begins with it.

mod call;
mod command;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use omniq_model::{State, TaskId, Timestamp};
use omniq_store::core::Core;
use omniq_store::{Clock as _, Filter, Info};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use self::call::{Answer, Call};
use self::command::{Command, command};
use self::world::World;
use crate::audit::audit;
use crate::factory::Factory;
use crate::kit::Kit;

/// Makes `runs` runs of half of `commands` to `commands` commands each; `PROPTEST_CASES` in the environment says another number of runs.
/// Seeds of runs that fail are kept in the file `seeds`.
///
/// # Panics
/// When the store and the state machine differ; the message has the commands and both answers.
pub fn check_model(factory: &dyn Factory, runs: u32, commands: usize, seeds: &'static str) {
    let runs = match std::env::var("PROPTEST_CASES") {
        Ok(text) => text.parse().expect("PROPTEST_CASES is a number"),
        Err(_) => runs,
    };
    let persistence = Some(Box::new(FileFailurePersistence::Direct(seeds)) as Box<_>);
    let config = Config { cases: runs, failure_persistence: persistence, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let lists = proptest::collection::vec(command(), commands / 2..=commands);
    let moves = Mutex::new(Moves::new());
    let checked = TestRunner::new(config).run(&lists, |commands| {
        let run = runtime.block_on(run(factory, &commands)).map_err(TestCaseError::fail)?;
        let mut all = moves.lock().expect("nothing panics while it counts");
        run.into_iter().for_each(|(seen, count)| *all.entry(seen).or_default() += count);
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}\n{seeds} has the seed");
    }
    let moves = moves.into_inner().expect("nothing panics while it counts");
    println!("{runs} runs, moves seen:");
    moves.iter().for_each(|((from, to), count)| println!("{count:>6} {from} to {to}"));
    if runs >= 100 {
        let missing: Vec<_> = possible_moves().filter(|seen| !moves.contains_key(seen)).collect();
        assert!(missing.is_empty(), "{runs} runs never went this way: {missing:?}");
    }
}

/// How often tasks went from one state to another.
type Moves = BTreeMap<(State, State), u64>;

/// Every move there is. A parent that fails cancels its children today, it does not fail them.
fn possible_moves() -> impl Iterator<Item = (State, State)> {
    let all = || State::ALL.iter().copied();
    let pairs = all().flat_map(move |from| all().map(move |to| (from, to)));
    pairs.filter(|(from, to)| {
        from.may_become(*to) && (*from, *to) != (State::Blocked, State::Failed)
    })
}

/// One run.
async fn run(factory: &dyn Factory, commands: &[Command]) -> Result<Moves, String> {
    let kit = Kit::new(factory).await;
    let mut twin =
        Twin { kit: &kit, core: Core::new(), states: BTreeMap::new(), moves: Moves::new() };
    let mut world = World::default();
    for (step, command) in commands.iter().enumerate() {
        if let Command::Advance(millis) = command {
            kit.advance(Duration::from_millis(*millis));
        }
        for call in world.calls(command, kit.now()) {
            let answer = twin.call(step, &call).await?;
            world.learn(&call, &answer);
            // What a firing did to a version is known from the schedules.
            if matches!(call, Call::Fire(_)) {
                let answer = twin.call(step, &Call::Schedules).await?;
                world.learn(&Call::Schedules, &answer);
            }
        }
        twin.check_moves(step)?;
    }
    twin.compare_everything(commands.len()).await?;
    audit(&*kit.store).await;
    let moves = std::mem::take(&mut twin.moves);
    kit.store.close().await.map_err(|error| error.to_string())?;
    Ok(moves)
}

/// The state machine and a store that must not differ from it.
struct Twin<'kit> {
    kit: &'kit Kit,
    core: Core,
    /// Where each task stood after the step before.
    states: BTreeMap<TaskId, State>,
    moves: Moves,
}

impl Twin<'_> {
    async fn call(&mut self, step: usize, call: &Call) -> Result<Answer, String> {
        let expected = call.on_core(&mut self.core, self.kit.now());
        let answer = call.on_store(&*self.kit.store).await;
        let answer = answer.map_err(|error| format!("step {step}: {call:?}: {error}"))?;
        let texts = [&expected, &answer].map(|answer| format!("{answer:#?}"));
        if texts[0] == texts[1] {
            Ok(expected)
        } else {
            let [expected, got] = texts;
            let now = self.kit.clock.now().as_millis();
            let differs = first_difference(&expected, &got);
            Err(format!(
                "step {step}, at {now}: {call:#?}\nfirst difference: {differs}\nexpected {expected}\ngot {got}"
            ))
        }
    }

    /// Checks that every task of the state machine moved as the table of moves allows.
    fn check_moves(&mut self, step: usize) -> Result<(), String> {
        let now = self.core.list(&Filter::default(), None, usize::MAX).items;
        let now: BTreeMap<_, _> =
            now.iter().map(|info: &Info| (info.id, info.head.state)).collect();
        for (id, state) in &now {
            let Some(before) = self.states.get(id) else { continue };
            // A claim that finds a parent past its time may lease the child in the same call.
            let released = (*before, *state) == (State::Blocked, State::Running);
            if before != state && !before.may_become(*state) && !released {
                return Err(format!("step {step}: task {id} went from {before} to {state}"));
            }
            if before != state {
                *self.moves.entry((*before, *state)).or_default() += 1;
            }
        }
        self.states = now;
        Ok(())
    }

    async fn compare_everything(&mut self, step: usize) -> Result<(), String> {
        let start = (Timestamp::from_millis(0), TaskId::from_bytes([0; 16]));
        for call in [
            Call::List(Filter::default(), None, 10_000),
            Call::Count(Filter::default()),
            Call::Ended(start, 10_000),
            Call::ReadyLanes(None, 100),
            Call::Schedules,
            Call::DueSchedules,
        ] {
            self.call(step, &call).await?;
        }
        Ok(())
    }
}

/// The first line in which two texts differ, and the line of the answer it belongs to.
fn first_difference(expected: &str, got: &str) -> String {
    let mut lines = expected.lines().zip(got.lines());
    match lines.find(|(expected, got)| expected != got) {
        Some((expected, got)) => format!("{} against {}", expected.trim(), got.trim()),
        None => "one is longer than the other".to_owned(),
    }
}
