//! How processes of one bucket reach its owner: requests are objects that the owner looks for, and so are the answers.
//!
//! `inbox/GUEST/NUMBER` holds requests, as many as there were when it was written, and `outbox/GUEST/NUMBER` what came of
//! each. It is slow: a call takes four requests to the bucket and what both sides wait between looking. It needs nothing
//! but the bucket, and no process has to be reachable for another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omniq_model::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::frame::{self, Outcome, Request};
use super::guest::Call;
use super::objects::{Name, Objects, random};
use crate::log::wire::{In, Out, Read};
use crate::log::{Engine, Fault};
use crate::{Error, Result};

/// Requests of one object, and bytes after which none is added.
const MOST: usize = 512;
const MOST_BYTES: usize = 4 << 20;
/// Objects of one guest that are under way at once.
const WIDTH: usize = 8;
/// How long after the last request an owner looks as often as its setting says.
const AWAKE: Duration = Duration::from_secs(10);
/// How often it looks otherwise.
const ASLEEP: Duration = Duration::from_secs(1);
/// How often an answer is looked for that has not come for long.
const SELDOM: Duration = Duration::from_secs(1);
const ACTION: &str = "pass requests to the process that has the tasks";

fn bundle(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Out::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    out.count(parts.len());
    for part in parts {
        out.bytes(part);
    }
    out.into_bytes()
}

fn parts(bytes: &[u8]) -> Read<Vec<&[u8]>> {
    let mut input = In::new(bytes);
    let parts = input.list(In::bytes)?;
    input.end()?;
    Ok(parts)
}

/// When requests are too old to be done. A guest takes back what was not answered in time; what is there longer it left
/// when it died, or when it could not reach the bucket, and nobody expects that any more.
#[derive(Debug)]
pub(super) struct Late {
    /// How long a guest waits at most.
    pub patience: Duration,
    /// The owner's sign of life: when it was written last tells the time by the clock that dates the requests.
    pub beat: String,
}

impl Late {
    /// Which of these are too old.
    async fn among(&self, objects: &Objects, dated: &[(Name, Timestamp)]) -> Result<Vec<Name>> {
        let Some(now) = objects.modified(&self.beat, ACTION).await? else { return Ok(Vec::new()) };
        let is_late = |at: Timestamp| now.since(at) > self.patience;
        Ok(dated.iter().filter(|(_, at)| is_late(*at)).map(|(name, _)| name.clone()).collect())
    }
}

/// Answers what guests ask, until it is dropped.
pub(super) async fn serve(objects: &Objects, engine: &Arc<Engine>, poll: Duration, late: Late) {
    let mut works = JoinSet::new();
    let (mut known, mut last) = (HashSet::new(), Instant::now());
    let mut looked = None::<Instant>;
    loop {
        let pause = if last.elapsed() < AWAKE { poll } else { ASLEEP.max(poll) };
        tokio::time::sleep(pause).await;
        while let Some(done) = works.try_join_next() {
            // One that could not be read is read again as long as it is there: nothing of it was done.
            if let Ok(Some(unread)) = done {
                known.remove(&unread);
            }
        }
        // Whoever asks asks again: what cannot be listed now is listed next time.
        let Ok(dated) = objects.list_dated("tasks/inbox", ACTION).await else { continue };
        // Only what nobody has looked at for so long can be late.
        if !dated.is_empty() && looked.is_none_or(|at| at.elapsed() > late.patience) {
            let Ok(old) = late.among(objects, &dated).await else { continue };
            known.extend(old.iter().cloned());
            let _ = objects.delete_all(old, ACTION).await; // what stays is known, and tidied away later
        }
        looked = Some(Instant::now());
        let listed: HashSet<Name> = dated.into_iter().map(|(name, _)| name).collect();
        known.retain(|name| listed.contains(name));
        for name in listed {
            if known.insert(name.clone()) {
                last = Instant::now();
                works.spawn(answer(objects.clone(), Arc::clone(engine), name));
            }
        }
    }
}

/// Answers the requests of an object; its name if it could not be read.
async fn answer(objects: Objects, engine: Arc<Engine>, name: String) -> Option<String> {
    let bytes = match objects.get(&name, ACTION).await {
        Ok(Some(bytes)) => bytes,
        // One that is not there any more was answered, and the list was old.
        Ok(None) => return None,
        Err(_) => return Some(name),
    };
    let requests = parts(&bytes).ok()?;
    let outcomes = requests.into_iter().map(|request| {
        let (engine, request) = (Arc::clone(&engine), Request::decode(request));
        async move {
            let outcome = match request {
                Ok(Request::Command(command)) => match engine.ask(command).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Fault::Closed),
                },
                Ok(Request::Query(query)) => engine.look(&query).await,
                Err(error) => Err(Fault::Lost(error.to_string())),
            };
            frame::encode_outcome(&outcome)
        }
    });
    let outcomes = futures_util::future::join_all(outcomes).await;
    let answers = name.replacen("tasks/inbox/", "tasks/outbox/", 1);
    // Whoever waits for it gives up by itself. Nothing is answered twice: the name is known until it is gone.
    let _ = objects.create(&answers, bundle(&outcomes).into(), ACTION).await;
    let _ = objects.delete(&name, ACTION).await;
    None
}

/// Passes requests on until nobody can ask any more and all is answered.
pub(super) async fn pump(
    objects: Objects,
    mut calls: mpsc::Receiver<Call>,
    poll: Duration,
) -> Result<()> {
    let guest: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut works = JoinSet::new();
    let mut number = 0_u64;
    loop {
        while works.len() >= WIDTH {
            works.join_next().await;
        }
        let Some(first) = calls.recv().await else { break };
        let (mut bytes, mut bundle, mut next) = (0, Vec::new(), Some(first));
        while let Some(call) = next {
            // Whoever has gone meanwhile was told that it may not have been done.
            if !call.reply.is_closed() {
                bytes += call.request.len();
                bundle.push(call);
            }
            let has_room = bundle.len() < MOST && bytes < MOST_BYTES;
            next = if has_room { calls.try_recv().ok() } else { None };
        }
        if bundle.is_empty() {
            continue;
        }
        number += 1;
        let name = format!("{guest}/{number:010}");
        works.spawn(ask(objects.clone(), name, bundle, poll));
    }
    works.join_all().await;
    Ok(())
}

async fn ask(objects: Objects, name: String, calls: Vec<Call>, poll: Duration) {
    let patience = calls.iter().map(|call| call.patience).max().unwrap_or_default();
    let (requests, replies): (Vec<_>, Vec<_>) =
        calls.into_iter().map(|call| (call.request, call.reply)).unzip();
    let (asked, answered) = (format!("tasks/inbox/{name}"), format!("tasks/outbox/{name}"));
    let deadline = Instant::now() + patience;
    let outcomes = match send(&objects, &asked, &requests, poll, deadline).await {
        Ok(()) => await_answer(&objects, &answered, poll, deadline).await,
        Err(fault) => Ok(requests.iter().map(|_| Err(fault.clone())).collect()),
    };
    let outcomes = outcomes.unwrap_or_else(|why| {
        requests.iter().map(|_| Err(Fault::Lost(why.clone()))).collect::<Vec<Outcome>>()
    });
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        let _ = reply.send(outcome); // a caller that went away does not want to know
    }
    for name in [asked, answered] {
        let _ = objects.delete(&name, ACTION).await; // what stays is small
    }
}

/// Puts requests where the owner looks, until they are there or the time is over; whether they are may be unknown then.
async fn send(
    objects: &Objects,
    name: &str,
    requests: &[Vec<u8>],
    poll: Duration,
    deadline: Instant,
) -> Result<(), Fault> {
    let bundle = Bytes::from(bundle(requests));
    let mut may_be_there = false;
    // An answer that was lost may have been a yes; then the next one is that it is there.
    while let Err(error) = objects.create(name, bundle.clone(), ACTION).await {
        match error {
            Error::Full { reason, .. } if !may_be_there => return Err(Fault::Full(reason)),
            Error::Full { .. } => {}
            _ => may_be_there = true,
        }
        if Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(poll).await;
    }
    Ok(())
}

/// Until the next look for an answer that was waited for so long: an owner or a bucket that is slow already would be slower for
/// every look at it.
fn pause(waited: Duration, poll: Duration) -> Duration {
    (waited / 4).clamp(poll, SELDOM.max(poll))
}

async fn await_answer(
    objects: &Objects,
    name: &str,
    poll: Duration,
    deadline: Instant,
) -> Result<Vec<Outcome>, String> {
    let asked = Instant::now();
    while Instant::now() < deadline {
        tokio::time::sleep(pause(asked.elapsed(), poll)).await;
        if let Ok(Some(bytes)) = objects.get(name, ACTION).await {
            let outcomes = parts(&bytes).and_then(|parts| {
                parts.into_iter().map(frame::decode_outcome).collect::<Read<Vec<Outcome>>>()
            });
            return outcomes.map_err(|error| format!("the answer is not understood: {error}"));
        }
    }
    Err("the process that has the tasks did not answer".to_owned())
}

/// Deletes what is left of guests that have gone: what the same name shows twice with so much time between.
pub(super) async fn tidy(objects: &Objects, seen: &mut HashMap<String, Instant>, after: Duration) {
    let mut left = HashMap::new();
    for folder in ["tasks/inbox", "tasks/outbox"] {
        for name in objects.list(folder, ACTION).await.unwrap_or_default() {
            let since = seen.get(&name).copied().unwrap_or_else(Instant::now);
            if since.elapsed() > after {
                let _ = objects.delete(&name, ACTION).await; // or next time
            } else {
                left.insert(name, since);
            }
        }
    }
    *seen = left;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use std::collections::BTreeMap;

    use omniq_model::{Digest, ModuleRef, Payload, Task, TaskId};
    use tokio::sync::oneshot;

    use super::*;
    use crate::log::{Answer, Command, Limits, Nowhere, Query, State};
    use crate::object::failing::Failing;
    use crate::{Filter, Select};

    fn engine() -> Arc<Engine> {
        let clock = Arc::new(crate::SystemClock::default());
        let engine =
            Engine::start(State::default(), Nowhere, clock, Arc::default(), Limits::default());
        Arc::new(engine.unwrap())
    }

    fn late() -> Late {
        Late { patience: Duration::from_secs(3600), beat: "tasks/beat/1".to_owned() }
    }

    #[tokio::test]
    async fn a_request_that_could_not_be_read_is_read_again_and_answered() {
        let (place, objects) = Failing::place();
        let engine = engine();
        let asked = bundle(&[Request::Query(Query::Now).encode()]);
        objects.create("tasks/inbox/guest/1", asked.into(), ACTION).await.unwrap();
        place.gets.store(2, Ordering::Relaxed);
        let poll = Duration::from_millis(1);
        let answered = async {
            while objects.list("tasks/outbox", ACTION).await.unwrap().is_empty() {
                tokio::time::sleep(poll).await;
            }
        };
        tokio::select! {
            () = serve(&objects, &engine, poll, late()) => {}
            answered = tokio::time::timeout(Duration::from_secs(10), answered) => answered.unwrap(),
        }
        let outcomes =
            await_answer(&objects, "tasks/outbox/guest/1", poll, Instant::now() + poll * 999);
        assert!(matches!(outcomes.await.unwrap()[..], [Ok(Answer::Now(_))]));
    }

    /// What a process left that died may be there for days, until somebody opens the store again.
    #[tokio::test]
    async fn a_request_that_nobody_waits_for_any_more_is_not_done() {
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "m".parse().unwrap(),
            version: "1".parse().unwrap(),
            unknown: Default::default(),
        };
        let task = Task::new(TaskId::derived(&[b"t"]), module, "f", Payload::cbor([0xa0]));
        for (aged, state) in [(7200, omniq_model::State::Ready), (0, omniq_model::State::Cancelled)]
        {
            let (place, objects) = Failing::place();
            place.aged.store(aged, Ordering::Relaxed);
            let all = Select { filter: Filter::default(), max: 9 };
            let asked = bundle(&[Request::Command(Command::Cancel(all)).encode()]);
            objects.create("tasks/inbox/guest/1", asked.into(), ACTION).await.unwrap();
            objects.replace(&late().beat, Bytes::new(), ACTION).await.unwrap();
            let engine = engine();
            engine.ask(Command::Enqueue(vec![task.clone()])).await.unwrap().unwrap();
            let poll = Duration::from_millis(1);
            let taken = async {
                while !objects.list("tasks/inbox", ACTION).await.unwrap().is_empty() {
                    tokio::time::sleep(poll).await;
                }
            };
            tokio::select! {
                () = serve(&objects, &engine, poll, late()) => {}
                () = taken => {}
            }
            let counts = engine.look(&Query::Count(Filter::default())).await.unwrap();
            let Answer::Counts(counts) = counts else { panic!("{counts:?}") };
            assert_eq!(counts, BTreeMap::from([(state, 1)]), "{aged} s old");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_not_sent() {
        let (place, objects) = Failing::place();
        place.puts.store(1, Ordering::Relaxed);
        let (calls, to_send) = mpsc::channel(1);
        let (reply, answer) = oneshot::channel();
        drop(answer);
        let request = Request::Query(Query::Now).encode();
        let patience = Duration::from_secs(10);
        calls.try_send(Call { request, patience, reply }).unwrap();
        drop(calls);
        pump(objects, to_send, Duration::from_millis(1)).await.unwrap();
        assert_eq!(place.puts.load(Ordering::Relaxed), 1, "it was written");
    }

    #[test]
    fn an_answer_that_does_not_come_is_looked_for_more_and_more_rarely() {
        let poll = Duration::from_millis(100);
        let mut looks = vec![poll];
        while looks[looks.len() - 1] < Duration::from_secs(10) {
            let waited = looks[looks.len() - 1];
            looks.push(waited + pause(waited, poll));
        }
        assert_eq!(
            looks[..4],
            [1, 2, 3, 4].map(|count| poll * count),
            "one that comes is found soon"
        );
        assert!(looks.len() < 25, "{looks:?}");
        let slow = Duration::from_secs(5);
        assert_eq!(pause(Duration::from_secs(60), slow), slow, "as rarely as was asked for");
    }
}
