//! What processes of one store say to each other: frames of a length and so many bytes.
//!
//! A guest begins with [`hello`] and goes on with requests, each with a number; the owner answers them in any order under
//! that number, and says in between when something has changed.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::log::wire::{In, Out, Read, bad};
use crate::log::{Answer, Command, Fault, Query};

/// Which version of these words this is; only the same one understands them.
const VERSION: u64 = 1;
/// The most bytes of a frame: no call has more, and a length that was not meant as one is noticed.
const MOST: u32 = 1 << 30;

/// What is asked of the owner.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Command(Command),
    Query(Query),
}

impl Request {
    /// The request as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Out::with_capacity(256);
        match self {
            Self::Command(command) => {
                out.byte(0);
                command.write(&mut out);
            }
            Self::Query(query) => {
                out.byte(1);
                query.write(&mut out);
            }
        }
        out.into_bytes()
    }

    /// Whether it goes over many tasks, so that it may take longer than others.
    pub(super) fn is_long(&self) -> bool {
        use {Command as C, Query as Q};
        match self {
            Self::Command(command) => matches!(
                command,
                C::Cancel(_)
                    | C::Retry(_)
                    | C::Remove(_)
                    | C::Purge(_)
                    | C::Import(_)
                    | C::Restored
            ),
            Self::Query(query) => matches!(
                query,
                Q::Schedules(_)
                    | Q::List(..)
                    | Q::Count(_)
                    | Q::Ended(..)
                    | Q::Export(..)
                    | Q::Stats
            ),
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Read<Self> {
        let mut input = In::new(bytes);
        let request = match input.byte()? {
            0 => Self::Command(Command::read(&mut input)?),
            1 => Self::Query(Query::read(&mut input)?),
            other => return Err(bad(format!("this version knows no request {other}"))),
        };
        input.end()?;
        Ok(request)
    }
}

/// What came of a request.
pub(super) type Outcome = Result<Answer, Fault>;

/// An outcome as bytes.
pub(super) fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let mut out = Out::with_capacity(64);
    match outcome {
        Ok(answer) => {
            out.byte(0);
            answer.write(&mut out);
        }
        Err(Fault::Full(reason)) => {
            out.byte(1);
            out.text(reason);
        }
        Err(Fault::Lost(reason)) => {
            out.byte(2);
            out.text(reason);
        }
        Err(Fault::Closed) => out.byte(3),
        Err(Fault::Large(reason)) => {
            out.byte(4);
            out.text(reason);
        }
    }
    out.into_bytes()
}

/// Why a call or an answer cannot be passed on, if so. To try would cut the guest off, with all else that it waits for.
pub(super) fn excess(bytes: &[u8]) -> Option<String> {
    // Beside it stands its number.
    more_than(bytes, MOST as usize - 8)
}

fn more_than(bytes: &[u8], most: usize) -> Option<String> {
    let size = bytes.len();
    (size > most)
        .then(|| format!("it takes {size} bytes, and no more than {most} can be passed on"))
}

/// An outcome as bytes that can be passed on: instead of one that is too large it says so.
pub(super) fn encode_fitting(outcome: &Outcome, is_query: bool) -> Vec<u8> {
    fitting(encode_outcome(outcome), is_query, MOST as usize - 8)
}

fn fitting(bytes: Vec<u8>, is_query: bool, most: usize) -> Vec<u8> {
    let Some(reason) = more_than(&bytes, most) else { return bytes };
    let reason = format!("the answer is too large: {reason}");
    // What a command did is done.
    encode_outcome(&Err(if is_query { Fault::Large(reason) } else { Fault::Lost(reason) }))
}

/// Reads what [`encode_outcome`] wrote.
pub(super) fn decode_outcome(bytes: &[u8]) -> Read<Outcome> {
    let mut input = In::new(bytes);
    let outcome = match input.byte()? {
        0 => Ok(Answer::read(&mut input)?),
        1 => Err(Fault::Full(input.text()?.to_owned())),
        2 => Err(Fault::Lost(input.text()?.to_owned())),
        3 => Err(Fault::Closed),
        4 => Err(Fault::Large(input.text()?.to_owned())),
        other => return Err(bad(format!("this version knows no outcome {other}"))),
    };
    input.end()?;
    Ok(outcome)
}

/// What a guest says first.
pub(super) fn hello() -> Vec<u8> {
    let mut out = Out::default();
    out.text("omniq");
    out.number(VERSION);
    out.text(env!("CARGO_PKG_VERSION"));
    out.into_bytes()
}

/// Why whoever says this is not understood, if so.
pub(super) fn refusal(hello: &[u8]) -> Option<String> {
    let mut input = In::new(hello);
    let words = input.text().and_then(|name| {
        Ok((name, input.number()?, input.text()?)) // later versions may say more
    });
    match words {
        Ok(("omniq", VERSION, _)) => None,
        Ok(("omniq", _, version)) => Some(format!(
            "the process that has the store runs omniq {}, and this one {version}; run the same version in both",
            env!("CARGO_PKG_VERSION")
        )),
        _ => Some("it is no omniq that asks".to_owned()),
    }
}

/// Reads a frame; `None` when the other side has gone.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(head);
    if length > MOST {
        return Err(std::io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut bytes = Vec::with_capacity(length.min(1 << 20) as usize);
    stream.take(length.into()).read_to_end(&mut bytes).await?;
    Ok((bytes.len() as u64 == u64::from(length)).then_some(bytes))
}

/// Writes a frame of these parts, one after the other.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    parts: &[&[u8]],
) -> std::io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| std::io::Error::other("a call of more than 1 GiB"))?;
    stream.write_all(&length.to_le_bytes()).await?;
    for part in parts {
        stream.write_all(part).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_version_is_understood() {
        assert_eq!(refusal(&hello()), None);
        let mut newer = hello();
        newer[6] = 9;
        assert!(refusal(&newer).is_some_and(|why| why.contains("run the same version")));
        assert!(refusal(b"GET / HTTP/1.1").is_some_and(|why| why.contains("no omniq")));
    }

    #[test]
    fn instead_of_an_answer_that_is_too_large_its_size_is_told() {
        let bytes = encode_outcome(&Ok(Answer::Flags(vec![true; 100])));
        let size = bytes.len();
        assert_eq!(fitting(bytes.clone(), true, size), bytes);
        for is_query in [false, true] {
            let told = decode_outcome(&fitting(bytes.clone(), is_query, size - 1)).unwrap();
            let (is_large, reason) = match told {
                Err(Fault::Large(reason)) => (true, reason),
                Err(Fault::Lost(reason)) => (false, reason),
                other => panic!("{other:?}"),
            };
            assert_eq!(is_large, is_query);
            assert!(reason.contains(&format!("it takes {size} bytes")), "{reason}");
        }
    }

    #[tokio::test]
    async fn frames_go_there_and_back_and_a_cut_one_is_none() {
        let mut bytes = Vec::new();
        write(&mut bytes, &[b"on", b"", b"e"]).await.unwrap();
        assert_eq!(read(&mut bytes.as_slice()).await.unwrap().as_deref(), Some(&b"one"[..]));
        for cut in 0..bytes.len() {
            assert_eq!(read(&mut &bytes[..cut]).await.unwrap(), None, "{cut}");
        }
        assert!(read(&mut [0xff; 8].as_slice()).await.is_err());
    }
}
