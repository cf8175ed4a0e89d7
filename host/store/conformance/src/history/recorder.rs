//! Writes histories down, one JSON object a line, and reads them again.

use std::io::{self, BufRead, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use omniq_model::Timestamp;

use super::entry::{Entry, What};

/// Where the clients of one run write down what they do.
#[derive(Debug, Default)]
pub struct Recorder {
    order: AtomicI64,
    entries: Mutex<Vec<Entry>>,
}

/// A call that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    t0: i64,
    store: Timestamp,
    client: u32,
}

impl Recorder {
    /// A call of `client` begins now, by the store's clock at `store`.
    pub fn begin(&self, client: u32, store: Timestamp) -> Call {
        Call { t0: self.tick(), store, client }
    }

    /// Its answer is there, by the store's clock at `store`: what it said, one item per task.
    pub fn end(&self, call: Call, store: Timestamp, what: impl IntoIterator<Item = What>) {
        let t1 = self.tick();
        let Call { t0, store: before, client } = call;
        let entry = |what| Entry { t0, t1, store: Some((before, store)), client, what };
        let mut entries = self.entries.lock().expect("nothing panics while it writes");
        entries.extend(what.into_iter().map(entry));
    }

    /// Its answer will never be there.
    pub fn lost(&self, call: Call, what: impl IntoIterator<Item = What>) {
        let Call { t0, client, .. } = call;
        let entry = |what| Entry { t0, t1: i64::MAX, store: None, client, what };
        let mut entries = self.entries.lock().expect("nothing panics while it writes");
        entries.extend(what.into_iter().map(entry));
    }

    /// All that was written down.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().expect("nothing panics while it writes").clone()
    }

    /// Writes everything as lines of JSON.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        for entry in self.entries() {
            serde_json::to_writer(&mut *to, &entry)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    fn tick(&self) -> i64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }
}

/// Reads lines of JSON.
///
/// # Errors
/// What the reader says, and a line that is no entry, by its number.
pub fn read(from: impl BufRead) -> io::Result<Vec<Entry>> {
    let parse = |(index, line): (usize, io::Result<String>)| {
        let wrong = |error| io::Error::other(format!("line {}: {error}", index + 1));
        serde_json::from_str(&line?).map_err(wrong)
    };
    from.lines().enumerate().map(parse).collect()
}
