//! Calls that come in crowds: what was asked for while the last batches were under way goes together.
//!
//! There is no timer: a lone caller's call goes at once, and under load the batches make themselves. Two batches of a kind
//! are under way at a time, so that the server works on one while the other's answer is read and the next is put together.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::command::Command;
use super::database::Database;
use super::enqueue::{self, New, Rows, answers_of};
use super::fault::{Fault, Result};
use super::finish::{self, RawEnd};
use crate::{Enqueued, Finished, failpoint};

/// Calls that wait at most; more callers wait to be let in.
const QUEUE: usize = 1024;
/// Items in one batch at most, and bytes after which none is added.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// Batches of a kind under way.
const FLIGHTS: usize = 2;

/// What comes in crowds.
pub(super) trait Item: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// Bytes it brings into the store.
    fn size(&self) -> usize;

    /// Whether it can go with others in one statement.
    fn is_plain(&self) -> bool;

    /// Carries plain items out; answers in their order.
    fn run(
        db: &Database,
        items: Vec<Self>,
    ) -> impl Future<Output = (Vec<Self>, Result<Vec<Self::Answer>>)> + Send;

    /// Carries any items out in one transaction.
    fn transact(
        db: &Database,
        items: Vec<Self>,
    ) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send;
}

/// A call and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask<I: Item> {
    items: Vec<I>,
    reply: oneshot::Sender<Result<Vec<I::Answer>>>,
}

/// Where calls are handed in.
#[derive(Debug)]
pub(super) struct Batchers {
    pub enqueues: mpsc::Sender<Ask<New>>,
    pub ends: mpsc::Sender<Ask<RawEnd>>,
}

/// The other ends.
pub(super) struct Queues {
    enqueues: mpsc::Receiver<Ask<New>>,
    ends: mpsc::Receiver<Ask<RawEnd>>,
}

impl Batchers {
    pub(super) fn new() -> (Self, Queues) {
        let (enqueues, new) = mpsc::channel(QUEUE);
        let (ends, raw) = mpsc::channel(QUEUE);
        (Self { enqueues, ends }, Queues { enqueues: new, ends: raw })
    }
}

impl Queues {
    /// Begins to serve; ends when the database is gone.
    pub(super) fn serve(self, db: &Arc<Database>) {
        db.runtime.spawn(serve(Arc::downgrade(db), self.enqueues));
        db.runtime.spawn(serve(Arc::downgrade(db), self.ends));
    }
}

/// Hands a call in and waits for its answer.
pub(super) async fn ask<I: Item>(
    queue: &mpsc::Sender<Ask<I>>,
    items: Vec<I>,
) -> Result<Vec<I::Answer>> {
    let (reply, answer) = oneshot::channel();
    queue.send(Ask { items, reply }).await.map_err(|_| Fault::Closed)?;
    answer.await.map_err(|_| Fault::Lost("it went away before it answered".into()))?
}

async fn serve<I: Item>(db: Weak<Database>, mut queue: mpsc::Receiver<Ask<I>>) {
    let flights = Arc::new(Semaphore::new(FLIGHTS));
    while let Some(first) = queue.recv().await {
        let Ok(flight) = Arc::clone(&flights).acquire_owned().await else { return };
        let Some(db) = db.upgrade() else { return };
        let weigh = |ask: &Ask<I>| (ask.items.len(), ask.items.iter().map(I::size).sum::<usize>());
        let (mut count, mut bytes) = weigh(&first);
        let mut asks = vec![first];
        while count < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = queue.try_recv()
        {
            let (more, larger) = weigh(&next);
            (count, bytes) = (count + more, bytes + larger);
            asks.push(next);
        }
        tokio::spawn(async move {
            answer(&db, asks).await;
            drop(flight);
        });
    }
}

/// Carries a batch out and answers.
async fn answer<I: Item>(db: &Database, asks: Vec<Ask<I>>) {
    let (plain, special): (Vec<_>, Vec<_>) =
        asks.into_iter().partition(|ask| ask.items.iter().all(I::is_plain));
    for (asks, is_plain) in [(plain, true), (special, false)] {
        if !asks.is_empty() {
            answer_alike(db, asks, is_plain).await;
        }
    }
}

async fn answer_alike<I: Item>(db: &Database, asks: Vec<Ask<I>>, is_plain: bool) {
    let counts: Vec<usize> = asks.iter().map(|ask| ask.items.len()).collect();
    let (items, replies): (Vec<_>, Vec<_>) =
        asks.into_iter().map(|ask| (ask.items, ask.reply)).unzip();
    let items: Vec<I> = items.into_iter().flatten().collect();
    let (items, done) =
        if is_plain { I::run(db, items).await } else { (Vec::new(), I::transact(db, items).await) };
    match done {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for (count, reply) in counts.into_iter().zip(replies) {
                let _ = reply.send(Ok(answers.by_ref().take(count).collect())); // whoever went away does not want to know
            }
        }
        // One may be to blame: each for itself.
        Err(fault) if fault.is_of_data() && replies.len() > 1 && !items.is_empty() => {
            let mut items = items.into_iter();
            for (count, reply) in counts.into_iter().zip(replies) {
                let (_, answer) = I::run(db, items.by_ref().take(count).collect()).await;
                let _ = reply.send(answer);
            }
        }
        Err(fault) => {
            for reply in replies {
                let _ = reply.send(Err(fault.clone()));
            }
        }
    }
}

impl Item for New {
    type Answer = Enqueued;

    fn size(&self) -> usize {
        self.bytes.len()
    }

    fn is_plain(&self) -> bool {
        New::is_plain(self)
    }

    async fn run(db: &Database, items: Vec<Self>) -> (Vec<Self>, Result<Vec<Enqueued>>) {
        let done = enqueue_plain(db, &items).await;
        (items, done)
    }

    async fn transact(db: &Database, items: Vec<Self>) -> Result<Vec<Enqueued>> {
        db.command(&Command::Enqueue(items)).await?.try_into()
    }
}

/// Enqueues tasks that depend on nothing, with one statement.
async fn enqueue_plain(db: &Database, tasks: &[New]) -> Result<Vec<Enqueued>> {
    let all = || tasks.iter().map(|new| &new.task);
    let numbers = match db.names.look(all()) {
        Some(numbers) => numbers,
        None => {
            let mut conn = db.acquire().await?;
            let made = db.bounded(&mut conn, async |conn| {
                db.apart(conn, async |conn| db.names.make(conn, &db.schema, all()).await).await
            });
            db.names.learn_made(made.await?)
        }
    };
    let mut rows = Rows::default();
    let mut seen = HashSet::with_capacity(tasks.len());
    for new in tasks {
        // A second one with the same id is told what became of the first.
        if seen.insert(new.task.id) {
            rows.push(new, &numbers, 0)?;
        }
    }
    failpoint::hit("postgres.enqueue.before_commit");
    let now = db.now();
    let put = db.fetch(|schema| rows.query(schema, now)).await?;
    failpoint::hit("postgres.enqueue.after_commit");
    let put = put.first().ok_or_else(|| Fault::Other("an answer had no row".into()))?;
    let put = enqueue::read_put(put)?;
    if put.made > 0 {
        db.watch.committed(true, false);
    }
    if put.made == tasks.len() {
        return Ok(vec![Enqueued::Created; tasks.len()]);
    }
    let tasks: Vec<&New> = tasks.iter().collect();
    let answers = async {
        let mut conn = db.acquire().await?;
        db.bounded(&mut conn, async |conn| {
            db.apart(conn, async |conn| answers_of(conn, &db.schema, &tasks, &put).await).await
        })
        .await
    };
    answers.await.map_err(Fault::after_a_part)
}

impl Item for RawEnd {
    type Answer = Finished;

    fn size(&self) -> usize {
        self.result.len()
    }

    fn is_plain(&self) -> bool {
        true // the statement itself leaves out what is not
    }

    async fn run(db: &Database, items: Vec<Self>) -> (Vec<Self>, Result<Vec<Finished>>) {
        let done = finish_leased(db, &items).await;
        let done = match done {
            Ok(done) if done.iter().all(Option::is_some) => {
                Ok(done.into_iter().flatten().collect())
            }
            Ok(done) => {
                let (mut rest, mut places) = (Vec::new(), Vec::new());
                for (place, item) in items.into_iter().enumerate() {
                    if done[place].is_none() {
                        places.push(place);
                        rest.push(item);
                    }
                }
                let is_begun = done.iter().any(Option::is_some);
                let rest = Self::transact(db, rest).await;
                let rest =
                    rest.map_err(|fault| if is_begun { fault.after_a_part() } else { fault });
                return (Vec::new(), rest.map(|rest| merge(done, places, rest)));
            }
            Err(fault) => Err(fault),
        };
        (items, done)
    }

    async fn transact(db: &Database, items: Vec<Self>) -> Result<Vec<Finished>> {
        db.command(&Command::Finish(items)).await?.try_into()
    }
}

fn merge(done: Vec<Option<Finished>>, places: Vec<usize>, rest: Vec<Finished>) -> Vec<Finished> {
    let mut done = done;
    for (place, finished) in places.into_iter().zip(rest) {
        done[place] = Some(finished);
    }
    done.into_iter().flatten().collect()
}

/// Commits the ends that end their tasks whatever those are, as far as nothing else follows from them, which are most by far;
/// tells which those were.
async fn finish_leased(db: &Database, ends: &[RawEnd]) -> Result<Vec<Option<Finished>>> {
    let mut done = vec![None; ends.len()];
    let mut seen = HashSet::with_capacity(ends.len());
    let mut quick: Vec<(usize, &RawEnd)> = ends
        .iter()
        .enumerate()
        // Of several ends of one task the first comes first.
        .filter(|(_, raw)| seen.insert(raw.end.id) && raw.state().is_some())
        .collect();
    if quick.is_empty() {
        return Ok(done);
    }
    quick.sort_unstable_by_key(|(_, raw)| raw.end.id); // nobody waits in a circle
    let raws: Vec<&RawEnd> = quick.iter().map(|(_, raw)| *raw).collect();
    failpoint::hit("postgres.finish.before_commit");
    let now = db.now();
    let rows = db.fetch(|schema| finish::query(schema, now, &raws)).await?;
    failpoint::hit("postgres.finish.after_commit");
    let ids: Option<Vec<sqlx::types::Uuid>> = match rows.first() {
        Some(row) => sqlx::Row::try_get(row, 0)?,
        None => None,
    };
    let applied: HashSet<_> =
        ids.unwrap_or_default().into_iter().map(super::sql::task_id).collect();
    for (place, raw) in quick {
        if applied.contains(&raw.end.id) {
            done[place] = raw.state().map(Finished::Applied);
        }
    }
    if !applied.is_empty() {
        db.watch.committed(false, true);
    }
    Ok(done)
}
