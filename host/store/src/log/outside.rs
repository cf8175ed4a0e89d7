//! Values that are kept beside a log instead of in it, and in the memory of nobody.
//!
//! In commands and in the state machine a payload stands for them that says which value it was. Equal values have equal
//! stand-ins, so that the state machine still tells a repeated enqueue from a conflict.

use omniq_model::{Format, Payload, Task};

use super::wire::{In, Out, Read, bad};

/// The format of stand-ins. No value has it: what a caller gives in this format is kept outside whatever its size.
pub const OUTSIDE: Format = Format::Other(255);

/// What stands for a value that is kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// The SHA-256 of its bytes.
    pub digest: [u8; 32],
    /// How its bytes are to be read.
    pub format: Format,
    /// How many they are.
    pub size: u64,
    /// How long the stored form is of what the value belongs to, with the value in it.
    pub whole: u64,
}

impl Outside {
    /// As a payload.
    pub fn payload(&self) -> Payload {
        let mut out = Out::with_capacity(64);
        self.write(&mut out);
        Payload { format: OUTSIDE, bytes: out.into_bytes() }
    }

    /// What a payload stands for, if it is a stand-in.
    ///
    /// # Errors
    /// It is one, and damaged.
    pub fn of(payload: &Payload) -> Read<Option<Self>> {
        if payload.format != OUTSIDE {
            return Ok(None);
        }
        let mut input = In::new(&payload.bytes);
        let outside = Self::read(&mut input)?;
        input.end()?;
        Ok(Some(outside))
    }

    /// Writes it down.
    pub fn write(&self, out: &mut Out) {
        out.fixed(self.whole);
        out.number(self.size);
        out.byte(self.format.number());
        out.bytes(&self.digest);
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn read(input: &mut In<'_>) -> Read<Self> {
        let (whole, size) = (input.fixed()?, input.number()?);
        let format = Format::from_number(input.byte()?);
        let digest = input.bytes()?;
        let digest = digest.try_into().map_err(|_| bad("a digest does not have 32 bytes"))?;
        Ok(Self { digest, format, size, whole })
    }
}

/// How long the stored form of a task is, with its arguments in it wherever they are.
pub fn whole_len(task: &Task) -> usize {
    match Outside::of(&task.args) {
        Ok(Some(outside)) => usize::try_from(outside.whole).unwrap_or(usize::MAX),
        _ => task.encoded_len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_goes_there_and_back_and_nothing_else_is_one() {
        let outside = Outside { digest: [3; 32], format: Format::Raw, size: 5, whole: 1 << 40 };
        assert_eq!(Outside::of(&outside.payload()), Ok(Some(outside)));
        assert_eq!(Outside::of(&Payload::raw([1, 2])), Ok(None));
        for length in 0..outside.payload().bytes.len() {
            let bytes = outside.payload().bytes[..length].to_vec();
            assert!(Outside::of(&Payload { format: OUTSIDE, bytes }).is_err(), "{length}");
        }
    }
}
