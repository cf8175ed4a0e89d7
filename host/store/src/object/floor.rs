//! What appending to a file does on this machine, with the same durability and the same sizes of batches as the store and
//! nothing of what the store does beyond it: the floor that the store is held against.
//!
//! One file, one write and one sync for each batch. Keeping rows, that is all; keeping tasks, each batch is an entry of a log
//! over the state machine, on one thread.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult, Timestamp,
};

use super::log_file::failed;
use crate::log::wire::Out;
use crate::log::{Answer, Command, Entry, State};
use crate::{End, How, Lease, Result, Session, Want};

/// Bytes of a task that comes in: about those of one with two small arguments.
const BODY: usize = 160;
/// Bytes of one end: whose, by which token, and a small result.
const END: usize = 48;
/// Bytes of a claim, however many tasks it leases.
const CLAIM: usize = 64;

/// A bare file.
#[derive(Debug)]
pub struct Floor {
    file: File,
    end: u64,
    inserted: usize,
}

impl Floor {
    /// A new file at that path.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| failed(path, "begin", &error))?;
        Ok(Self { file, end: 0, inserted: 0 })
    }

    /// Appends `rows` rows, `batch` in each commit; returns how long it took.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut left = rows;
        while left > 0 {
            let of_batch = left.min(batch.max(1));
            left -= of_batch;
            self.append(of_batch * BODY)?;
        }
        self.inserted += rows;
        Ok(started.elapsed())
    }

    /// Claims and ends all rows, `batch` at a time, in two commits each; returns how many and how long it took.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
        let started = Instant::now();
        let rows = std::mem::take(&mut self.inserted);
        let mut left = rows;
        while left > 0 {
            let of_batch = left.min(batch.max(1));
            left -= of_batch;
            self.append(CLAIM)?;
            self.append(of_batch * END)?;
        }
        Ok((rows, started.elapsed()))
    }

    fn append(&mut self, count: usize) -> Result<()> {
        self.write(&vec![7; count])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let done = self.file.write_all_at(bytes, self.end).and_then(|()| self.file.sync_data());
        done.map_err(|error| failed(Path::new("the floor's file"), "append to", &error))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// A bare file, and the state machine that its entries lead to.
#[derive(Debug)]
pub struct TaskFloor {
    file: Floor,
    state: State,
    session: Option<Session>,
    made: u64,
}

impl TaskFloor {
    /// A new file at that path.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: Floor::open(path)?, state: State::default(), session: None, made: 0 })
    }

    /// Enqueues `rows` tasks, `batch` in each commit; returns how long it took.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "floor".parse().expect("it is a name"),
            version: "1.0.0".parse().expect("it is a name"),
            unknown: Default::default(),
        };
        let started = Instant::now();
        let mut left = rows;
        while left > 0 {
            let count = left.min(batch.max(1));
            left -= count;
            let tasks = (0..count).map(|_| {
                self.made += 1;
                let mut random = [0; 10];
                random[2..].copy_from_slice(&self.made.to_be_bytes());
                let id = TaskId::new(Timestamp::from_millis(0), random);
                Task::new(id, module.clone(), "nothing", Payload::cbor(vec![0xa0; 60]))
            });
            let tasks = tasks.collect();
            self.commit(Command::Enqueue(tasks))?;
        }
        Ok(started.elapsed())
    }

    /// Claims and finishes all tasks, `batch` at a time, in two commits each; returns how many and how long it took.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
        let started = Instant::now();
        let mut drained = 0;
        for nonce in 1.. {
            let session = self.session()?;
            let wants = vec![Want::new(Lane::default(), batch, nonce)];
            let Answer::Leases(leases) = self.commit(Command::Claim(session, wants))? else {
                break;
            };
            if leases.is_empty() {
                break;
            }
            let result = || TaskResult::success(Payload::cbor([0xf6]));
            let end = |lease: &Lease| End {
                id: lease.id,
                token: lease.token,
                how: How::Succeeded(result().into()),
            };
            self.commit(Command::Finish(leases.iter().map(end).collect()))?;
            drained += leases.len();
        }
        Ok((drained, started.elapsed()))
    }

    fn session(&mut self) -> Result<Session> {
        if let Some(session) = &self.session {
            return Ok(*session);
        }
        let open = Command::OpenSession(SessionId::new(1), Duration::from_secs(3600));
        match self.commit(open)? {
            Answer::Session(session) => Ok(*self.session.insert(session)),
            answer => unreachable!("a session opens, not {answer:?}"),
        }
    }

    fn commit(&mut self, command: Command) -> Result<Answer> {
        let now = Timestamp::from_millis(1);
        let (mut bytes, mut entry) = (Out::with_capacity(256), Entry::new(now, 256));
        command.write(&mut bytes);
        entry.add(&bytes.into_bytes());
        self.file.write(&entry.into_bytes())?;
        Ok(command.apply(&mut self.state.core, now))
    }
}
