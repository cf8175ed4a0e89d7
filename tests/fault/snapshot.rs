//! A client of the same PostgreSQL server forgets to end its transaction: nothing that the queue removes can be cleaned up any
//! more. Work goes on, nothing is lost, and people are told who it is.

use std::time::{Duration, Instant};

use omniq_model::State;
use omniq_services::{Kind, Server};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, until};
use crate::support::sql::Client;
use crate::support::story::{self, Batch};

/// Producers pause while so many tasks wait.
const BACKLOG: u64 = 2000;
/// How often it is counted.
const WINDOW: Duration = Duration::from_secs(5);

/// For how long: 40 s, or `OMNIQ_SNAPSHOT_SECONDS`. A worker warns after 30 s.
fn span() -> Duration {
    let given = std::env::var("OMNIQ_SNAPSHOT_SECONDS").ok();
    let given = given.map(|text| text.parse().expect("`OMNIQ_SNAPSHOT_SECONDS` is a number"));
    Duration::from_secs(given.unwrap_or(40).max(35))
}

#[test]
fn a_client_holds_a_snapshot() {
    let server = Server::start(Kind::Postgres, &[]);
    let place = Place::on_server(Backend::Postgres, &server);
    place.says(&format!("push {STEPS}"));
    let judge = Judge::new(&place);
    let mut worker = place.start("worker", ["worker"]);
    let mut holder = Client::of(&server);
    let process = holder.process();
    holder.run("begin isolation level repeatable read; select 1").expect("the server runs");

    let (held, mut batches, mut ended) = (Instant::now(), Vec::new(), Vec::new());
    let in_state = |state| judge.states().get(&state).copied().unwrap_or_default();
    while held.elapsed() < span() {
        if in_state(State::Ready) < BACKLOG {
            let number = batches.len() as u64;
            let batch = Batch::twice(&format!("batch-{number}"), number * 1000, 200);
            batch.enqueue(&place);
            batches.push(batch);
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
        if held.elapsed() > WINDOW * (1 + ended.len() as u32) {
            ended.push(in_state(State::Succeeded));
        }
    }
    println!("ended in each {WINDOW:?} of a held snapshot: {:?}", differences(&ended));
    assert!(differences(&ended).iter().all(|ended| *ended > 0), "work goes on");

    // The one who looks is told, and so is whoever reads the log.
    let who = format!("process {process}");
    let seen = [place.says("storage check"), place.says("doctor")];
    for said in &seen {
        assert!(said.contains("a snapshot has been held") && said.contains(&who), "{said}");
    }
    let log = worker.stderr();
    let alarm =
        log.lines().find(|line| line.contains("WARN") && line.contains("a snapshot is held"));
    let alarm = alarm.unwrap_or_else(|| panic!("no alarm\n{}", worker.said()));
    assert!(alarm.contains(&format!("pid={process} ")), "{alarm}");
    println!("{alarm}");

    holder.run("rollback").expect("the server runs");
    until("the alarm to be over", PATIENCE, || {
        !place.says("storage check").contains("a snapshot has been held")
    });
    judge.drained(PATIENCE * 2);
    judge.reconciled(PATIENCE);
    worker.signal(Signal::TERM);
    assert!(worker.wait(PATIENCE).success(), "{}", worker.said());
    story::check(&judge, &batches);
}

/// How much each number is above the one before, from 0 on.
fn differences(numbers: &[u64]) -> Vec<u64> {
    let before = std::iter::once(0).chain(numbers.iter().copied());
    numbers.iter().zip(before).map(|(number, before)| number.saturating_sub(before)).collect()
}
