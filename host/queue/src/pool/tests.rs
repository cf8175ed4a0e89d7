//! What every pool must do, run on both.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omniq_model::{Pool, SessionId, TaskId, Timestamp, Token};
use omniq_sandbox::Call;
use omniq_store::Session;

use super::{Executor, Ran, Report, Unrun, open};
use crate::worker::{Attempt, Job, Program, Why};

#[derive(Debug)]
struct Listener(Mutex<Sender<(u64, Ran)>>);

impl Report for Listener {
    fn ended(&self, attempt: Attempt, ran: Ran) {
        // The test may have seen enough.
        let _ = self.0.lock().unwrap().send((attempt.token.fence, ran));
    }

    fn hungry(&self) {}
}

fn start(kind: Pool) -> (Arc<dyn Executor>, Receiver<(u64, Ran)>) {
    let (sender, receiver) = channel();
    let report: Arc<dyn Report> = Arc::new(Listener(Mutex::new(sender)));
    (open(kind, 4, 2, &report).unwrap().unwrap(), receiver)
}

fn job(fence: u64, program: Program) -> Box<Job> {
    let attempt = Attempt {
        id: TaskId::derived(&[b"t"]),
        token: Token { fence, nonce: 0 },
        session: Session { id: SessionId::new(1), lease: Duration::from_secs(1) },
        number: 1,
        created: Timestamp::default(),
        task: None,
        stop: Arc::default(),
    };
    Box::new(Job { attempt, program, call: Call::default(), since: std::time::Instant::now() })
}

#[test]
fn a_mistake_of_the_host_ends_one_job_and_no_pool() {
    for kind in [Pool::Async, Pool::Thread] {
        let (pool, ended) = start(kind);
        pool.submit((0..100).map(|fence| job(fence, Program::Panic)).collect());
        let mut fences: Vec<u64> = (0..100)
            .map(|_| {
                let (fence, ran) = ended.recv_timeout(Duration::from_secs(20)).unwrap();
                assert_eq!(ran.unwrap_err(), Unrun::Panicked("a mistake".into()));
                fence
            })
            .collect();
        fences.sort_unstable();
        assert_eq!(fences, (0..100).collect::<Vec<_>>(), "{kind}");
        assert_eq!((pool.load().held(), pool.load().running()), (0, 0));
    }
}

#[test]
fn what_was_stopped_before_it_began_never_runs() {
    for kind in [Pool::Async, Pool::Thread] {
        let (pool, ended) = start(kind);
        let job = job(1, Program::Panic);
        job.attempt.stop.stop(Why::LeaseLost);
        pool.submit(vec![job]);
        let (_, ran) = ended.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(ran.unwrap_err(), Unrun::Stopped);
        assert_eq!((pool.load().held(), pool.load().running()), (0, 0));
    }
}

#[test]
fn a_pool_that_was_stopped_takes_nothing_and_harms_nobody() {
    for kind in [Pool::Async, Pool::Thread] {
        let (pool, ended) = start(kind);
        pool.stop();
        pool.submit(vec![job(1, Program::Panic)]);
        assert!(ended.recv_timeout(Duration::from_millis(100)).is_err(), "{kind}");
        pool.drain();
        pool.stop();
    }
}

#[test]
fn there_is_no_pool_of_other_kinds() {
    let (sender, _) = channel();
    let report: Arc<dyn Report> = Arc::new(Listener(Mutex::new(sender)));
    for kind in [Pool::Process, Pool::Green, Pool::Other(9)] {
        assert!(open(kind, 1, 1, &report).unwrap().is_none());
    }
}
