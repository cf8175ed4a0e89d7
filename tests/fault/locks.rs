//! A worker stands still in the midst of a transaction, with rows locked on a PostgreSQL server that others need: tasks of other
//! dead workers do not wait for it, and the server ends that transaction when a call would have been given up.

use std::time::{Duration, Instant};

use omniq_model::{EventKind, State};
use omniq_services::{Kind, Server};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process, until};
use crate::support::sql::Client;
use crate::support::story::{self, Batch};

/// When calls are given up here, and what is added for leases, sweeps and a busy machine.
const TIMEOUT: &str = "timeout=20";
const RECOVERY: Duration = Duration::from_secs(20 + 30);
/// The process of the server that has locked rows of leases in a transaction and waits for its client to say more; `$1`: that
/// one, or 0: any. The answer is 0 if there is none.
const LOCKED: &str = "
    select coalesce(min(a.pid), 0) from pg_stat_activity a join pg_locks l using (pid)
     where a.state = 'idle in transaction' and $1 in (0, a.pid) and l.relation::regclass::text like '%.lease'
       and l.mode in ('RowShareLock', 'RowExclusiveLock')";

#[test]
fn a_worker_stands_still_in_the_midst_of_a_transaction() {
    let server = Server::start(Kind::Postgres, &[]);
    let place = Place::on_server(Backend::Postgres, &server)
        .asking(TIMEOUT)
        .with("OMNIQ_RETRY_DELAY", "10ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "10ms");
    place.says(&format!("push {STEPS}"));
    let judge = Judge::new(&place);
    let mut zombie = place.start("zombie", ["worker"]);
    // Whatever fails and is tried again takes a transaction of several statements.
    let mut batches = Vec::new();
    let mut watcher = Client::of(&server);
    let holder = (0..40).find_map(|number| {
        let batch = Batch::new(&format!("batch-{number}"), "refuse", vec!["[]"; 50]);
        batches.push(batch.option("--retries=20"));
        batches[number].enqueue(&place);
        catch(&zombie, &mut watcher)
    });
    let holder = holder.expect("it is caught in the midst of a transaction, sooner or later");

    let stopped = Instant::now();
    let slow = Batch::new("slow", "rest", ["[4000]"; 4]);
    slow.enqueue(&place);
    let mut dead = place.start("dead worker", ["worker"]);
    for id in slow.ids() {
        judge.until(id, PATIENCE, |info| info.head.state == State::Running);
    }
    dead.kill();
    let mut heir = place.start("heir", ["worker"]);
    for id in slow.ids() {
        judge.until(id, PATIENCE, |info| info.head.fence == 2);
    }
    println!("another worker's tasks ran again {:?} after that", stopped.elapsed());
    let holds = watcher.number(LOCKED, holder) == holder;
    assert!(holds, "tasks of another worker waited for it\n{}", heir.said());
    batches.push(slow);
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

/// Stops a process again and again, until it stands in a transaction that has locked rows of leases; gives the server's side of
/// it.
fn catch(process: &Process, watcher: &mut Client) -> Option<i32> {
    for _ in 0..200 {
        process.signal(Signal::STOP);
        // A statement that is under way ends whatever becomes of its client.
        let looks = [0; 3].map(|any| {
            std::thread::sleep(Duration::from_millis(3));
            watcher.number(LOCKED, any)
        });
        if looks[0] != 0 && looks == [looks[0]; 3] {
            return Some(looks[0]);
        }
        process.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
