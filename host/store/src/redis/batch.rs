//! Calls that go together: what queues while others are under way is cut into pieces, and each piece is one script.
//!
//! There is no timer in it: a lone caller's task is sent at once, and under load the batches make themselves. Several
//! pieces are under way at a time, so that the server need not wait for us; they reach it in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle as Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::fault::{Fault, Result};
use super::reply;
use super::script;
use super::server::Store;
use super::wire::Bytes;
use crate::failpoint;

/// Items of one script at most, and bytes after which none is added: other callers wait while the server runs it.
const PIECE: usize = 100;
const PIECE_BYTES: usize = 4 << 20;
/// Pieces that are under way at a time.
const IN_FLIGHT: u32 = 4;
/// Calls that wait at most; more callers wait to be let in.
const QUEUE: usize = 1024;

/// What goes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Enqueue = 0,
    Finish = 1,
}

/// One task or end, as arguments of a script.
#[derive(Debug)]
pub(super) struct Item {
    pub args: Vec<Vec<u8>>,
    /// It must come after all that were asked for before it.
    pub ordered: bool,
}

impl Item {
    fn size(&self) -> usize {
        self.args.iter().map(Vec::len).sum()
    }
}

/// What became of one: a letter, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub letter: u8,
    pub rest: Vec<u8>,
}

/// A call, while its items are under way.
#[derive(Debug)]
struct Call(Mutex<Calling>);

#[derive(Debug)]
struct Calling {
    answers: Vec<Option<Answer>>,
    left: usize,
    /// Why items were not done, if any were not.
    fault: Option<Fault>,
    reply: Option<oneshot::Sender<Result<Vec<Answer>>>>,
}

impl Call {
    fn new(items: usize, reply: oneshot::Sender<Result<Vec<Answer>>>) -> Arc<Self> {
        let calling =
            Calling { answers: vec![None; items], left: items, fault: None, reply: Some(reply) };
        Arc::new(Self(Mutex::new(calling)))
    }

    fn lock(&self) -> MutexGuard<'_, Calling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts answers where they belong.
    fn answer(&self, from: usize, answers: impl IntoIterator<Item = Answer>) {
        let mut calling = self.lock();
        for (index, answer) in answers.into_iter().enumerate() {
            calling.left -= usize::from(calling.answers[from + index].replace(answer).is_none());
        }
        calling.tell();
    }

    /// So many of its items were not done, or perhaps not, which fails the call: it may be repeated as a whole.
    fn fail(&self, items: usize, fault: &Fault) {
        let mut calling = self.lock();
        calling.left -= items;
        // One that may have been done is the one to tell of.
        if calling.fault.is_none() || matches!(fault, Fault::Lost(_) | Fault::Other(_)) {
            calling.fault = Some(fault.clone());
        }
        calling.tell();
    }

    /// Whether the call has failed; then the rest of it, so many items, need not be sent.
    fn has_failed(&self, rest: usize) -> bool {
        let mut calling = self.lock();
        let failed = calling.fault.is_some();
        if failed {
            calling.left -= rest;
            calling.tell();
        }
        failed
    }
}

impl Calling {
    /// Once nothing of the call is under way, the caller is told: what is under way may still be done.
    fn tell(&mut self) {
        if self.left > 0 {
            return;
        }
        let Some(reply) = self.reply.take() else { return };
        let answers: Vec<Answer> = self.answers.iter_mut().filter_map(Option::take).collect();
        let told = match self.fault.take() {
            None => Ok(answers),
            Some(fault) => Err(fault.after(!answers.is_empty())),
        };
        let _ = reply.send(told); // a caller that went away does not want to know
    }
}

/// What is left of a call: its items from the one with that number on.
#[derive(Debug)]
struct Waiting {
    call: Arc<Call>,
    next: usize,
    items: VecDeque<Item>,
}

/// Whom a part of a piece belongs to: from which of its items on, and how many.
type Share = (Arc<Call>, usize, usize);

/// Cuts calls into pieces.
#[derive(Debug)]
pub(super) struct Batcher(mpsc::Sender<Waiting>);

impl Batcher {
    pub(super) fn start(kind: Kind, store: Arc<Store>, runtime: &Runtime) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        runtime.spawn(serve(kind, store, queue));
        Self(calls)
    }

    /// Has these items sent; their answers in order.
    pub(super) async fn ask(&self, items: Vec<Item>) -> Result<Vec<Answer>> {
        let (reply, answer) = oneshot::channel();
        let call = Call::new(items.len(), reply);
        let waiting = Waiting { call, next: 0, items: items.into() };
        self.0.send(waiting).await.map_err(|_| Fault::Closed)?;
        answer.await.unwrap_or(Err(Fault::Closed))
    }
}

async fn serve(kind: Kind, store: Arc<Store>, mut queue: mpsc::Receiver<Waiting>) {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT as usize));
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(call) = queue.recv().await else { return };
            waiting.push_back(call);
        }
        let Ok(mut permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let mut piece = Piece::default();
        while !piece.is_full() {
            if waiting.is_empty() {
                let Ok(call) = queue.try_recv() else { break };
                waiting.push_back(call);
            }
            piece.fill(&mut waiting);
        }
        if piece.items == 0 {
            continue; // all that waited was the rest of what has failed
        }
        if piece.ordered {
            // What it may refer to must be there, also where the way to the server is not straight.
            let Ok(rest) = Arc::clone(&permits).acquire_many_owned(IN_FLIGHT - 1).await else {
                return;
            };
            permit.merge(rest);
        }
        tokio::spawn(piece.send(kind, Arc::clone(&store), permit));
    }
}

/// Items of one script.
#[derive(Debug, Default)]
struct Piece {
    args: Vec<Vec<u8>>,
    shares: Vec<Share>,
    items: usize,
    bytes: usize,
    ordered: bool,
}

impl Piece {
    fn is_full(&self) -> bool {
        self.items >= PIECE || self.bytes >= PIECE_BYTES
    }

    /// Takes items of the call that waits longest.
    fn fill(&mut self, waiting: &mut VecDeque<Waiting>) {
        let Some(mut first) = waiting.pop_front() else { return };
        if first.call.has_failed(first.items.len()) {
            return;
        }
        let from = first.next;
        while !self.is_full()
            && let Some(item) = first.items.pop_front()
        {
            self.items += 1;
            self.bytes += item.size();
            self.ordered |= item.ordered;
            self.args.extend(item.args);
            first.next += 1;
        }
        self.shares.push((Arc::clone(&first.call), from, first.next - from));
        if !first.items.is_empty() {
            waiting.push_front(first);
        }
    }

    async fn send(self, kind: Kind, store: Arc<Store>, permit: OwnedSemaphorePermit) {
        let answers = ask(kind, &store, &self.args, self.items).await;
        match answers {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for (call, from, count) in &self.shares {
                    call.answer(*from, answers.by_ref().take(*count));
                }
            }
            Err(fault) => self.shares.iter().for_each(|(call, _, count)| call.fail(*count, &fault)),
        }
        drop(permit);
    }
}

async fn ask(kind: Kind, store: &Store, args: &[Vec<u8>], items: usize) -> Result<Vec<Answer>> {
    let script = match kind {
        Kind::Enqueue => &script::ENQUEUE,
        Kind::Finish => &script::FINISH,
    };
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let [answers, said] = reply::parts(store.change(script, &args).await?)?;
    let bytes = reply::bytes(answers)?;
    store.committed(&said).await?;
    let answers = read(kind, Bytes(&bytes))?;
    if answers.len() != items {
        let reason = format!("{} of {items} were answered by `{}`", answers.len(), script.name);
        return Err(Fault::Other(reason));
    }
    Ok(answers)
}

fn read(kind: Kind, mut bytes: Bytes<'_>) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while !bytes.0.is_empty() {
        let letter = bytes.byte()?;
        let width = match (kind, letter) {
            (Kind::Finish, _) => 1,
            (Kind::Enqueue, b'D') => 17,
            (Kind::Enqueue, b'U') => 16,
            (Kind::Enqueue, _) => 0,
        };
        answers.push(Answer { letter, rest: bytes.take(width)?.to_vec() });
    }
    Ok(answers)
}

/// A place where tests of crashes kill the process, such as `redis.finish.after_call`.
pub(super) fn hit(script: &str, place: &str) {
    if cfg!(any(debug_assertions, feature = "failpoints")) {
        failpoint::hit(&format!("redis.{script}.{place}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer { letter: b'C', rest: Vec::new() }
    }

    #[test]
    fn a_call_fails_once_nothing_of_it_is_under_way_and_tells_whether_a_part_was_done() {
        let unreached = || Fault::Unreached("no connection".into());
        let lost = || Fault::Lost("no answer".into());
        type Piece = std::result::Result<(), Fault>;
        let check = |pieces: [Piece; 2], unknown: bool| {
            let (reply, mut told) = oneshot::channel();
            let call = Call::new(5, reply);
            for (index, piece) in pieces.iter().enumerate() {
                assert!(told.try_recv().is_err(), "a piece is under way");
                match piece {
                    Ok(()) => call.answer(index * 2, [answer(), answer()]),
                    Err(fault) => call.fail(2, fault),
                }
            }
            assert!(call.has_failed(1), "what has not been sent is not sent");
            let fault = told.try_recv().expect("it is told").expect_err("it failed");
            let kind = fault.into_error("redis://here", "enqueue tasks").kind();
            assert_eq!(kind.is_unknown(), unknown, "{pieces:?}");
        };
        check([Err(unreached()), Err(unreached())], false);
        check([Err(unreached()), Ok(())], true);
        check([Ok(()), Err(unreached())], true);
        check([Ok(()), Err(Fault::Full("OOM".into()))], true);
        check([Err(unreached()), Err(lost())], true);
        check([Err(lost()), Err(unreached())], true);
    }
}
