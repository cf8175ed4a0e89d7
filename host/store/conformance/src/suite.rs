//! Runs cases against a backend, one by one or all together, and holds what was skipped against what was to be.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;

use omniq_store::ErrorKind;

use crate::audit::audit;
use crate::cases::CASES;
use crate::factory::{Factory, Need};
use crate::kit::Kit;

/// The future of a running case.
type Running<'kit> = Pin<Box<dyn Future<Output = ()> + Send + 'kit>>;

/// One case: its name, what it needs beyond a store of tasks, and its story.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group::what_must_hold`.
    pub name: &'static str,
    /// What a backend must have for it.
    pub needs: &'static [Need],
    pub(crate) run: for<'kit> fn(&'kit Kit) -> Running<'kit>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What became of a case that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// All that must hold does.
    Held,
    /// The backend has not what it needs, as its list of skips says.
    Skipped(Need),
}

/// What became of all cases.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that held.
    pub held: Vec<&'static str>,
    /// Cases that were skipped, as they were to be.
    pub skipped: Vec<&'static str>,
    /// Cases that failed, and why.
    pub failed: Vec<(&'static str, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, skipped, failed } = self;
        writeln!(f, "{} held, {} skipped, {} failed", held.len(), skipped.len(), failed.len())?;
        for name in skipped {
            writeln!(f, "skipped {name}")?;
        }
        failed.iter().try_for_each(|(name, why)| writeln!(f, "FAILED {name}: {why}"))
    }
}

/// Runs every case against a fresh place of that backend each.
pub async fn run(factory: &dyn Factory) -> Report {
    let mut report = Report::default();
    for case in CASES {
        match run_case(factory, case.name).await {
            Ok(Passed::Held) => report.held.push(case.name),
            Ok(Passed::Skipped(_)) => report.skipped.push(case.name),
            Err(why) => report.failed.push((case.name, why)),
        }
    }
    if let Err(why) = check_skips(factory) {
        report.failed.push(("skips", why));
    }
    report
}

/// Runs the case of that name, unless the backend has not what it needs.
///
/// # Errors
/// What did not hold; or a skip that was not expected, or one that was and did not happen.
pub async fn run_case(factory: &dyn Factory, name: &str) -> Result<Passed, String> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("there is no such case")?;
    let kit = Kit::new(factory).await;
    let (place, stores) = kit.parts();
    let told = stores.tasks.caps().name;
    if told != factory.name() {
        return Err(format!("the store calls itself `{told}`, its factory `{}`", factory.name()));
    }
    let missing = case.needs.iter().copied().find(|need| !need.is_met(place, stores));
    let expected = expected_skips(factory)?.contains(name);
    match (missing, expected) {
        (Some(need), true) => Ok(Passed::Skipped(need)),
        (Some(need), false) => {
            Err(format!("it needs {need:?}, and {} does not list it as skipped", list(factory)))
        }
        (None, true) => Err(format!("it can be run, and {} says it is skipped", list(factory))),
        (None, false) => tell(kit, case).await,
    }
}

/// Lets the case tell its story in a task of its own, so that a panic is its failure and nobody else's.
async fn tell(kit: Kit, case: &'static Case) -> Result<Passed, String> {
    let story = tokio::spawn(async move {
        (case.run)(&kit).await;
        let answer = kit.store.count(&Default::default()).await;
        // A case that reopened its place leaves a closed store behind.
        if !answer.is_err_and(|error| error.kind() == ErrorKind::Closed) {
            audit(&*kit.store).await;
        }
    });
    match story.await {
        Ok(()) => Ok(Passed::Held),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(message_of(&*panic)),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Where the expected skips of a backend are written down.
fn list(factory: &dyn Factory) -> String {
    format!("{}/skips/{}.txt", env!("CARGO_MANIFEST_DIR"), factory.name())
}

/// The names of the cases that this backend is to skip: one a line, `#` begins a comment.
fn expected_skips(factory: &dyn Factory) -> Result<BTreeSet<String>, String> {
    let path = list(factory);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let names = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Checks that a backend's list of skips names cases there are.
///
/// # Errors
/// The names that mean nothing.
pub fn check_skips(factory: &dyn Factory) -> Result<(), String> {
    let known = |name: &String| CASES.iter().any(|case| case.name == name);
    let unknown: Vec<_> =
        expected_skips(factory)?.into_iter().filter(|name| !known(name)).collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("{} names cases that do not exist: {unknown:?}", list(factory)))
    }
}

/// Makes a test of every case, in modules by guarantee, against the backend that the expression `$factory` gives.
///
/// ```ignore
/// omniq_conformance::suite!(MemoryFactory);
/// ```
#[macro_export]
macro_rules! suite {
    ($factory:expr) => {
        fn __factory() -> impl $crate::Factory {
            $factory
        }
        $crate::for_each_case!($crate::__tests,);

        #[test]
        fn the_list_of_skips_names_cases_there_are() {
            $crate::check_skips(&__factory()).unwrap();
        }
    };
}

/// Makes the tests of [`suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (() $($group:ident { $($case:ident [$($need:ident)*];)* })*) => {
        $(mod $group {
            $(
                #[tokio::test]
                async fn $case() {
                    let name = concat!(stringify!($group), "::", stringify!($case));
                    match $crate::run_case(&super::__factory(), name).await {
                        Ok($crate::Passed::Held) => {}
                        Ok($crate::Passed::Skipped(need)) => println!("skipped: needs {need:?}"),
                        Err(why) => panic!("{why}"),
                    }
                }
            )*
        })*
    };
}
