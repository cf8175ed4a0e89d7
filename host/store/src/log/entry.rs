//! One entry of a log: the commands of one commit and the instant they were decided at, and the state they lead to.

use omniq_model::Timestamp;

use super::Command;
use super::wire::{In, Out, Read, bad};
use crate::core::Core;

/// How entries are written. One of a higher number is refused.
const FORMAT: u8 = 1;

/// Writes one entry, command by command.
#[derive(Debug)]
pub struct Entry(Out);

impl Entry {
    /// An entry of that instant, without commands yet, with room for so many bytes.
    pub fn new(now: Timestamp, room: usize) -> Self {
        let mut out = Out::with_capacity(room + 16);
        out.byte(FORMAT);
        out.instant(now);
        Self(out)
    }

    /// Adds a command, as [`Command::write`] wrote it.
    pub fn add(&mut self, command: &[u8]) {
        self.0.bytes(command);
    }

    /// The entry's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// The state machine, and up to which entry it has come.
#[derive(Debug, Default)]
pub struct State {
    /// The state machine.
    pub core: Core,
    /// The number of the last entry that was applied; the first is 1.
    pub applied: u64,
    /// The instant of the last entry: time never goes back behind it.
    pub now: Timestamp,
}

impl State {
    /// The state of an image that an [`Engine`](super::Engine) has written.
    ///
    /// # Errors
    /// The bytes are damaged, or of a newer version.
    pub fn restore(bytes: &[u8]) -> Read<Self> {
        let mut input = In::new(bytes);
        let (applied, now) = (input.number()?, input.instant()?);
        let core = Core::restore(&mut input)?;
        input.end()?;
        Ok(Self { core, applied, now })
    }

    /// Applies the next entry of the log, whose answers nobody waits for.
    ///
    /// # Errors
    /// The bytes are damaged, or of a newer version. The state is not to be used any more then.
    pub fn replay(&mut self, entry: &[u8]) -> Read<()> {
        let mut input = In::new(entry);
        let format = input.byte()?;
        if format != FORMAT {
            return Err(bad(format!(
                "this version knows no entry of format {format}, so a newer omniq wrote it: go on with that one"
            )));
        }
        self.now = self.now.max(input.instant()?);
        while !input.is_empty() {
            let mut command = In::new(input.bytes()?);
            Command::read(&mut command)?.apply(&mut self.core, self.now);
            command.end()?;
        }
        self.applied += 1;
        self.core.take_changed();
        Ok(())
    }
}
