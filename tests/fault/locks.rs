//! A worker stands still in the midst of a transaction, with rows locked on a PostgreSQL server that others need: the server
//! ends that transaction when a call would have been given up, and others go on.

use std::time::{Duration, Instant};

use omniq_model::EventKind;
use omniq_services::{Kind, Server};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process, until};
use crate::support::sql::Client;
use crate::support::story::{self, Batch};

/// A call is given up after ten seconds; the rest is for leases, sweeps and a busy machine.
const RECOVERY: Duration = Duration::from_secs(40);

#[test]
fn a_worker_stands_still_in_the_midst_of_a_transaction() {
    let server = Server::start(Kind::Postgres, &[]);
    let place = Place::on_server(Backend::Postgres, &server)
        .with("OMNIQ_RETRY_DELAY", "10ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "10ms");
    place.says(&format!("push {STEPS}"));
    let judge = Judge::new(&place);
    let mut zombie = place.start("zombie", ["worker"]);
    // Whatever fails and is tried again takes a transaction of several statements.
    let mut batches = Vec::new();
    let mut watcher = Client::of(&server);
    let caught = (0..40).any(|number| {
        let batch = Batch::new(&format!("batch-{number}"), "refuse", vec!["[]"; 50]);
        batches.push(batch.option("--retries=20"));
        batches[number].enqueue(&place);
        is_caught(&zombie, &mut watcher)
    });
    assert!(caught, "it was never caught in the midst of a transaction");

    let stopped = Instant::now();
    let mut heir = place.start("heir", ["worker"]);
    judge.drained(PATIENCE * 2);
    let took = stopped.elapsed();
    println!("all had ended {took:?} after a worker stopped in the midst of a transaction");
    assert!(took < RECOVERY, "it took {took:?}\n{}", heir.said());
    zombie.signal(Signal::CONT);
    until("the zombie to be told", PATIENCE, || {
        judge.events().iter().any(|event| event.kind == EventKind::Fenced)
    });
    judge.reconciled(PATIENCE);
    for worker in [&mut zombie, &mut heir] {
        worker.signal(Signal::TERM);
        let status = worker.wait(PATIENCE);
        assert!(status.success(), "it ended with {status}\n{}", worker.said());
    }
    story::check(&judge, &batches);
}

/// Stops a process again and again, until it stands in a transaction that has locked rows of leases.
fn is_caught(process: &Process, watcher: &mut Client) -> bool {
    const LOCKED: &str = "
        select count(*) from pg_stat_activity a join pg_locks l using (pid)
         where a.state = 'idle in transaction' and l.relation::regclass::text like '%.lease'
           and l.mode in ('RowShareLock', 'RowExclusiveLock')";
    for _ in 0..200 {
        process.signal(Signal::STOP);
        // A statement that is under way ends whatever becomes of its client.
        let stands = (0..3).all(|_| {
            std::thread::sleep(Duration::from_millis(3));
            watcher.number(LOCKED) > 0
        });
        if stands {
            return true;
        }
        process.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}
