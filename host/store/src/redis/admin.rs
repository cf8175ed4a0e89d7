//! What is done to the store as a whole.

use async_trait::async_trait;
use omniq_model::{SessionId, State, Task, TaskId, Timestamp, record};
use redis::Value;

use super::fault::{Fault, Result};
use super::migrate::{NEWEST, OLDEST, incarnation};
use super::read::Walk;
use super::server::Store;
use super::tasks::RedisTasks;
use super::wire::{self, Arrival, Bytes, Raw};
use super::{reply, script};
use crate::{
    Admin, CopyPage, Filter, Imported, Layout, Report, Restored, Stats, TaskCopy, Weakness,
    WorkerSeen,
};

/// Tasks and bytes of one script.
const MOST: usize = 100;
const MOST_BYTES: usize = 2 << 20;
/// Bytes after which a page ends.
pub(super) const PAGE_BYTES: usize = 16 << 20;

// Numbers of keys, as `script::task_keys` has them.
const META: usize = 0;
const ENDED: usize = 7;
const LEASE: usize = 9;
const SESSION: usize = 11;
const UNIQUE: usize = 13;
const PAUSED: usize = 15;
const READY: usize = 21;

#[async_trait]
impl Admin for RedisTasks {
    async fn check(&self) -> crate::Result<Report> {
        let action = "read its layout";
        let layout = self.server.run(action, |store| async move { store.layout().await }).await?;
        let weaker = self.warnings().iter();
        let weaker = weaker.map(|(what, next)| Weakness { what: what.clone(), next: next.clone() });
        Ok(Report {
            version: self.version().to_owned(),
            durability: self.server.store().config.durability,
            layout: Some(layout),
            weaker: weaker.collect(),
        })
    }

    async fn finish_migration(&self) -> crate::Result<Layout> {
        let action = "finish its migration";
        self.server.run(action, |store| async move { store.finish_migration().await }).await
    }

    async fn restored(&self) -> crate::Result<Restored> {
        let action = "note that it was restored";
        self.server.run(action, |store| async move { store.restored().await }).await
    }

    async fn stats(&self) -> crate::Result<Stats> {
        let action = "count what is in it";
        self.server.run(action, |store| async move { store.stats().await }).await
    }

    async fn export(&self, after: Option<u64>, max: usize) -> crate::Result<CopyPage> {
        let action = "export tasks";
        self.server.run(action, |store| async move { store.export(after, max).await }).await
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> crate::Result<Vec<Imported>> {
        let action = "import tasks";
        self.server.run(action, |store| async move { store.import(tasks).await }).await
    }
}

impl Store {
    async fn layout(&self) -> Result<Layout> {
        let mut command = redis::cmd("HMGET");
        command.arg(&self.keys[META]).arg("schema").arg("min_writer").arg("incarnation");
        let [schema, min_writer, incarnation] = reply::parts(self.link.query(&command).await?)?;
        let small = |value: &Value| reply::int(value).map(|number| number.try_into().unwrap_or(0));
        Ok(Layout {
            schema: small(&schema)?,
            min_writer: small(&min_writer)?,
            oldest: OLDEST,
            newest: NEWEST,
            incarnation: String::from_utf8_lossy(&reply::bytes(incarnation)?).into_owned(),
        })
    }

    async fn finish_migration(&self) -> Result<Layout> {
        let mut command = redis::cmd("HSET");
        command.arg(&self.keys[META]).arg("min_reader").arg(NEWEST).arg("min_writer").arg(NEWEST);
        self.link.query(&command).await?;
        self.layout().await
    }

    /// In parts that the server runs as one each. The incarnation comes last, so that a new one always means that every older
    /// lease is void.
    async fn restored(&self) -> Result<Restored> {
        self.raise_fences().await?;
        let moved = self.void_sessions().await?;
        let mut command = redis::cmd("HSET");
        command.arg(&self.keys[META]).arg("incarnation").arg(incarnation());
        self.link.query(&command).await?;
        Ok(Restored { incarnation: Some(self.layout().await?.incarnation), moved })
    }

    async fn stats(&self) -> Result<Stats> {
        let now = self.now().await?;
        let mut command = redis::cmd("SMEMBERS");
        command.arg(&self.keys[PAUSED]);
        let paused = items(self.link.query(&command).await?)?;
        let paused = paused.into_iter().map(|lane| wire::read_lane(&reply::bytes(lane)?));
        let mut paused = paused.collect::<Result<Vec<_>>>()?;
        paused.sort_unstable();
        let (first, last) = (self.at(ENDED, 0).await?, self.at(ENDED, -1).await?);
        let ended_at = |member: Vec<u8>| Bytes(&member).time();
        let first = first.map(ended_at).transpose()?;
        let last = last.map(ended_at).transpose()?;
        Ok(Stats {
            counts: self.count(Filter::default()).await?,
            paused,
            workers: self.workers(now).await?,
            oldest_ready: self.oldest_ready().await?,
            history: first.zip(last),
            bytes: self.memory().await?,
        })
    }

    /// The member at that place of a sorted set.
    async fn at(&self, key: usize, place: i64) -> Result<Option<Vec<u8>>> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(&self.keys[key]).arg(place).arg(place);
        items(self.link.query(&command).await?)?.pop().map(reply::bytes).transpose()
    }

    async fn oldest_ready(&self) -> Result<Option<Timestamp>> {
        let Some(member) = self.at(READY, 0).await? else { return Ok(None) };
        let mut bytes = Bytes(&member);
        bytes.take(7)?; // its place
        let info = self.get(vec![bytes.id()?]).await?.pop().flatten();
        Ok(info.map(|info| info.head.created))
    }

    /// Sessions whose lease is not over. Names are not kept.
    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerSeen>> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(&self.keys[SESSION]).arg(now.as_millis()).arg("+inf");
        let mut workers = Vec::new();
        for member in items(self.link.query(&command).await?)? {
            let member = reply::bytes(member)?;
            let mut command = redis::cmd("ZSCORE");
            command.arg(&self.keys[SESSION]).arg(&member);
            let until = score(&self.link.query(&command).await?);
            let mut command = redis::cmd("ZLEXCOUNT");
            let from = [b"[", &member[..]].concat();
            let to = [b"[", &member[..], b"\xff"].concat();
            command.arg(&self.keys[LEASE]).arg(from).arg(to);
            let holds = reply::size(&self.link.query(&command).await?)?;
            workers.push(WorkerSeen {
                session: SessionId::new(Bytes(&member).number(8)?),
                name: String::new(),
                until: Timestamp::from_millis(until.unwrap_or_default()),
                holds: holds as u64,
            });
        }
        Ok(workers)
    }

    /// The server's memory; a server that does not tell has none to tell of.
    async fn memory(&self) -> Result<Vec<(&'static str, u64)>> {
        let mut command = redis::cmd("INFO");
        command.arg("memory");
        let Ok(told) = self.link.query(&command).await else { return Ok(Vec::new()) };
        let Ok(told) = reply::bytes(told) else { return Ok(Vec::new()) };
        let told = String::from_utf8_lossy(&told).into_owned();
        let used = told.lines().find_map(|line| line.strip_prefix("used_memory:"));
        let used = used.and_then(|bytes| bytes.trim().parse().ok());
        Ok(used.map(|bytes| ("used by the whole server", bytes)).into_iter().collect())
    }

    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage> {
        let every = Filter::default();
        let mut walk = Walk::new(&every, State::ALL, false).before(after).whole();
        let (mut raws, mut bytes, mut cut) = (Vec::<Raw>::new(), 0, false);
        while walk.goes_on() && raws.len() < max && bytes < PAGE_BYTES {
            for met in self.walk(&mut walk, max - raws.len()).await? {
                let Some(mut raw) = met.raw else { continue };
                if raws.len() >= max || bytes >= PAGE_BYTES {
                    cut = true;
                    break;
                }
                // One at a time, as `ended` does.
                self.fetch_apart(std::iter::once(&mut raw)).await?;
                bytes += raw.size();
                raws.push(raw);
            }
        }
        let items = self.copies(&raws).await?;
        let next = items
            .last()
            .map(|item| item.info.head.seq)
            .filter(|_| cut || walk.goes_on() || raws.len() == max);
        Ok(CopyPage { items, next })
    }

    async fn copies(&self, raws: &[Raw]) -> Result<Vec<TaskCopy>> {
        let mut copies = Vec::with_capacity(raws.len());
        for raw in raws {
            let info = raw.info()?;
            copies.push(TaskCopy { expires: raw.expires()?, holds_key: false, info });
        }
        let keyed: Vec<(usize, TaskId)> = copies
            .iter()
            .enumerate()
            .filter_map(|(index, copy)| {
                Some((index, wire::unique_key(copy.info.task.as_ref().ok()?)?))
            })
            .collect();
        if keyed.is_empty() {
            return Ok(copies);
        }
        let now = self.now().await?;
        let mut command = redis::cmd("HMGET");
        command.arg(&self.keys[UNIQUE]);
        for (_, key) in &keyed {
            command.arg(&key.as_bytes()[..]);
        }
        let holders = reply::list(self.link.query(&command).await?)?;
        for ((index, _), holder) in keyed.into_iter().zip(holders) {
            let Some(holder) = reply::maybe_bytes(holder)? else { continue };
            let mut bytes = Bytes(&holder);
            let (id, until) = (bytes.id()?, bytes.number(7)?);
            let lasts = until == 0 || until > wire::instant(now);
            copies[index].holds_key = lasts && id == copies[index].info.id;
        }
        Ok(copies)
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> Result<Vec<Imported>> {
        let mut answers = Vec::with_capacity(tasks.len());
        let mut part = Part::default();
        for copy in tasks {
            let copy = copy.landed();
            let known = !matches!(copy.info.head.state, State::Other(_));
            let Some(task) = copy.info.task.as_ref().ok().filter(|_| known) else {
                self.hand_over(&mut part, &mut answers).await?;
                answers.push(Imported::Unreadable);
                continue;
            };
            let args = [Arrival::of(task).args, vec![history(task, &copy)]].concat();
            let bytes: usize = args.iter().map(Vec::len).sum();
            if part.count >= MOST || part.bytes + bytes > MOST_BYTES {
                self.hand_over(&mut part, &mut answers).await?;
            }
            part.count += 1;
            part.bytes += bytes;
            part.args.extend(args);
        }
        self.hand_over(&mut part, &mut answers).await?;
        Ok(answers)
    }

    async fn hand_over(&self, part: &mut Part, answers: &mut Vec<Imported>) -> Result<()> {
        let part = std::mem::take(part);
        if part.count == 0 {
            return Ok(());
        }
        let args: Vec<&[u8]> = part.args.iter().map(Vec::as_slice).collect();
        let [told, said] = reply::parts(self.change(&script::IMPORT, &args).await?)?;
        self.committed(&said).await?;
        for answer in reply::all_bytes(told)? {
            answers.push(match answer.split_first() {
                Some((b'C', _)) => Imported::Created,
                Some((b'T', _)) => Imported::There,
                Some((b'K', holder)) => Imported::KeyTaken(Bytes(holder).id()?),
                _ => return Err(Fault::Other("a script answered what it never does".into())),
            });
        }
        Ok(())
    }
}

/// Arguments of one script.
#[derive(Debug, Default)]
struct Part {
    args: Vec<Vec<u8>>,
    count: usize,
    bytes: usize,
}

/// What has happened to a task, as the script takes it.
fn history(task: &Task, copy: &TaskCopy) -> Vec<u8> {
    let head = &copy.info.head;
    let flag = u8::from;
    let starts = task.starts_at(head.created);
    let due = head.run_at.filter(|_| head.state == State::Scheduled).unwrap_or(starts);
    let instant = |at: Option<Timestamp>| wire::seven(at.map_or(0, wire::instant));
    let mut bytes = vec![head.state.number(), flag(copy.holds_key), flag(head.cancel_requested)];
    bytes.extend(instant(Some(head.created)));
    bytes.extend(instant(Some(due)));
    bytes.extend(instant(copy.expires));
    bytes.extend(head.attempt.to_be_bytes());
    bytes.extend(head.crashes.to_be_bytes());
    bytes.extend(wire::seven(head.fence));
    bytes.extend(instant(head.started));
    bytes.extend(instant(head.finished));
    match (&head.result, &head.error) {
        (Some(result), _) => bytes.extend([b"r", &record::encode(result)[..]].concat()),
        (None, Some(error)) => bytes.extend([b"e", &record::encode(error)[..]].concat()),
        (None, None) => {}
    }
    bytes
}

/// The items of a list or a set.
fn items(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Set(items) => Ok(items),
        other => reply::list(other),
    }
}

/// A score, which is a whole number of ours.
fn score(value: &Value) -> Option<i64> {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "instants are whole and small")]
        Value::Double(score) => Some(*score as i64),
        other => reply::int(other).ok(),
    }
}
