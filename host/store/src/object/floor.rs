//! What appending to a file does on this machine, with the same durability and the same sizes of batches as the store and
//! nothing of what the store does beyond it: the floor that the store is held against.
//!
//! One file, one write and one sync for each batch. Nothing is kept in memory, decided or checked.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::log_file::failed;
use crate::Result;

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
        let bytes = vec![7; count];
        let done = self.file.write_all_at(&bytes, self.end).and_then(|()| self.file.sync_data());
        done.map_err(|error| failed(Path::new("the floor's file"), "append to", &error))?;
        self.end += count as u64;
        Ok(())
    }
}
