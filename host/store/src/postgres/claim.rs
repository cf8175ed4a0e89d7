//! How ready tasks are leased.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use omniq_model::{
    DecodeError, Kind, Lane, SessionId, State, Task, TaskError, TaskId, Timestamp, Token,
};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::command::Command;
use super::database::Database;
use super::fault::Result;
use super::live::{session, small};
use super::plan::Plan;
use super::sql::{Bound, Schema, count, task_id};
use super::tx::Tx;
use crate::{Lease, Want, failpoint};

/// What one caller asked for of one lane, and what is left of it.
#[derive(Debug, Clone)]
struct Place {
    lane: i32,
    left: usize,
    bytes: usize,
    /// Whether it has been given one: only the first may be larger than all it asked for.
    given: bool,
    nonce: u64,
}

impl Place {
    fn new(lane: i32, want: &Want) -> Self {
        Self { lane, left: want.max, bytes: want.bytes, given: false, nonce: want.nonce }
    }

    /// As `claim` of the schema reads it: below zero means that it has been given one.
    fn bytes(&self) -> i64 {
        let bytes = count(self.bytes);
        if self.given { -1 - bytes } else { bytes }
    }
}

/// A lease before its task is decoded, which the caller does: others wait for the connection.
#[derive(Debug)]
pub(super) struct RawLease {
    /// Of which want.
    want: usize,
    rank: i32,
    seq: i64,
    id: TaskId,
    token: Token,
    attempt: u32,
    crashes: u32,
    created: Timestamp,
    bytes: Vec<u8>,
}

impl RawLease {
    pub(super) fn into_lease(self) -> Lease {
        Lease {
            id: self.id,
            token: self.token,
            attempt: self.attempt,
            crashes: self.crashes,
            created: self.created,
            task: decode(&self.bytes),
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> std::result::Result<std::sync::Arc<Task>, DecodeError> {
    Task::decode(bytes).map(std::sync::Arc::new)
}

/// What a call of `claim` gave.
struct Claimed {
    leases: Vec<RawLease>,
    /// The want of which a task has to be expired before it goes on.
    stopped: Option<usize>,
}

/// Ranks of a lane.
const RANKS: usize = 19;

/// Asks for tasks of these places from `from` on; what stands before it has its leases.
fn query(
    schema: &Schema,
    now: Option<i64>,
    of: SessionId,
    places: &[Place],
    cursors: &Cursors,
) -> Bound {
    const CLAIM: &str = "select * from $S.claim($1, $2, $3, $4, $5, $6, $7)";
    const MOST: usize = 1 << 20;
    schema
        .query(CLAIM)
        .bind(now)
        .bind(session(of))
        .bind(places.iter().map(|place| place.lane).collect::<Vec<_>>())
        .bind(
            places
                .iter()
                .map(|place| i32::try_from(place.left.min(MOST)).unwrap_or(0))
                .collect::<Vec<_>>(),
        )
        .bind(places.iter().map(Place::bytes).collect::<Vec<_>>())
        .bind(places.iter().map(|place| place.nonce.cast_signed()).collect::<Vec<_>>())
        .bind(cursors.of(places))
}

/// Reads the rows of [`query`].
fn read(rows: &[PgRow], places: &[Place]) -> Result<Claimed> {
    let mut claimed = Claimed { leases: Vec::with_capacity(rows.len()), stopped: None };
    for row in rows {
        let want = usize::try_from(row.try_get::<i32, _>(0)? - 1).unwrap_or(usize::MAX);
        let Some(id) = row.try_get::<Option<sqlx::types::Uuid>, _>(3)? else {
            claimed.stopped = Some(want);
            continue;
        };
        let fence: i64 = row.try_get(4)?;
        claimed.leases.push(RawLease {
            want,
            seq: row.try_get(1)?,
            rank: row.try_get(2)?,
            id: task_id(id),
            token: Token {
                fence: fence.cast_unsigned(),
                nonce: places.get(want).map_or(0, |place| place.nonce),
            },
            attempt: small(row.try_get(5)?),
            crashes: small(row.try_get(6)?),
            created: Timestamp::from_millis(row.try_get::<Option<i64>, _>(7)?.unwrap_or_default()),
            bytes: row.try_get::<Option<Vec<u8>>, _>(8)?.unwrap_or_default(),
        });
    }
    Ok(claimed)
}

/// What is left to ask for after these leases: from the want on that the claim stopped at.
fn rest(places: &[Place], claimed: &Claimed) -> Vec<Place> {
    let Some(stopped) = claimed.stopped else { return Vec::new() };
    let mut rest = places[stopped.min(places.len())..].to_vec();
    if let Some(first) = rest.first_mut() {
        for lease in claimed.leases.iter().filter(|lease| lease.want == stopped) {
            first.left = first.left.saturating_sub(1);
            first.bytes = first.bytes.saturating_sub(lease.bytes.len());
            first.given = true;
        }
    }
    rest
}

/// See [`TaskStore::claim`](crate::TaskStore::claim).
pub(super) async fn claim(db: &Database, of: SessionId, wants: &[Want]) -> Result<Vec<RawLease>> {
    let mut leases = walk(db, of, places(db, wants).await?).await?;
    if leases.is_empty() && db.cursors.are_used() {
        // Nothing is ready only if nothing was found from the beginning.
        db.cursors.forget();
        leases = walk(db, of, places(db, wants).await?).await?;
    }
    Ok(leases)
}

/// The wants of lanes that exist.
async fn places(db: &Database, wants: &[Want]) -> Result<Vec<Place>> {
    let lanes = || wants.iter().map(|want| &want.lane);
    let mut known = db.names.known_lanes(lanes());
    if known.iter().any(Option::is_none) {
        let missing: Vec<Lane> = lanes()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(lane, _)| lane.clone())
            .collect();
        let mut conn = db.acquire().await?;
        let missing: Vec<&Lane> = missing.iter().collect();
        db.bounded(&mut conn, async |conn| {
            db.apart(conn, async |conn| db.names.find_lanes(conn, &db.schema, &missing).await).await
        })
        .await?;
        known = db.names.known_lanes(lanes());
    }
    let places = wants.iter().zip(known).filter_map(|(want, lane)| Some(Place::new(lane?, want)));
    Ok(places.collect())
}

async fn walk(db: &Database, of: SessionId, mut places: Vec<Place>) -> Result<Vec<RawLease>> {
    let mut leases = Vec::new();
    while !places.is_empty() {
        let (begun, now) = (std::time::Instant::now(), db.now());
        failpoint::hit("postgres.claim.before_commit");
        let rows = db.fetch(|schema| query(schema, now, of, &places, &db.cursors)).await;
        failpoint::hit("postgres.claim.after_commit");
        let claimed = match rows.and_then(|rows| read(&rows, &places)) {
            Ok(claimed) => claimed,
            // What was leased before is leased: the caller is to know.
            Err(_) if !leases.is_empty() => break,
            Err(fault) => return Err(fault),
        };
        db.cursors.note(&places, &claimed, begun.elapsed());
        let rest = rest(&places, &claimed);
        let expired = match claimed.stopped.and_then(|want| places.get(want)) {
            Some(place) => {
                db.command(&Command::ExpireFirst(place.lane)).await.and_then(usize::try_from)
            }
            None => Ok(0),
        };
        leases.extend(claimed.leases);
        match expired {
            Ok(0) => break, // there is no more, or somebody else is at it
            Ok(_) => places = rest,
            Err(_) if !leases.is_empty() => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(leases)
}

impl Tx<'_> {
    /// Expires the tasks that stand first in a lane and are past their time to live: only as far as a claim comes to them.
    /// Says how many.
    pub(super) async fn expire_first(&mut self, lane: i32) -> Result<usize> {
        const FIRST: &str = "
            with recursive r(rank) as (
                select rank::smallint from generate_series(0, 18) as g(rank), $S.lane l
                 where l.id = $1 and l.ranks & (1 << g.rank) <> 0
            ), heads as (
                select q.* from r cross join lateral (
                    select q.id, q.rank, q.seq, q.attempt = 0 and coalesce(q.expires <= $2, false) as over
                      from $S.ready q where q.lane = $1 and q.rank = r.rank order by q.seq limit 1000) q
            ), walk as (
                select id, rank, seq, bool_and(over) over (order by rank, seq) as over from heads
            )
            select id from walk where over order by rank, seq limit 1000";
        let query = self.query(FIRST).bind(lane).bind(self.now.as_millis());
        let rows = query.fetch_all(&mut *self.conn).await?;
        let ids: Vec<TaskId> =
            rows.iter().map(|row| Ok(task_id(row.try_get(0)?))).collect::<Result<_>>()?;
        let mut held: HashMap<TaskId, _> =
            self.hold(&ids).await?.into_iter().map(|live| (live.id, live)).collect();
        let (mut plan, mut expired_now) = (Plan::default(), 0);
        for id in ids {
            let Some(live) = held.remove(&id) else { continue };
            let over = live.expires.is_some_and(|at| at <= self.now.as_millis());
            if live.state != State::Ready || live.attempt != 0 || !over {
                continue;
            }
            let awaited = live.awaited;
            plan.end_without(self, live, State::Expired, expired()).await?;
            expired_now += 1;
            if awaited {
                break; // others may have become ready by this, and stand before the next
            }
        }
        plan.write(self).await?;
        Ok(expired_now)
    }
}

/// Why a task that was not started in time has no result.
pub(super) fn expired() -> TaskError {
    TaskError::new(Kind::Expired, "it did not start within its time to live")
}

/// Where claims of this process have come to, for the time when rows that are gone cannot be cleaned up.
///
/// A claim walks the index from the first row of a rank. As long as some transaction holds a snapshot, nobody may remove the
/// rows that were claimed since, and each claim would walk over all of them. Then it begins a bit below where the last one
/// ended; what was put back before that is found by the first claim that finds nothing, and once a second.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    used: AtomicBool,
    state: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    at: HashMap<(i32, i32), i64>,
    /// When a claim last looked at everything.
    looked: Option<std::time::Instant>,
    slow: u32,
}

/// How far below the last place a claim begins: what came late but with a lower place is most likely within it.
const SLACK: i64 = 2000;
/// How often everything is looked at while cursors are used.
const WHOLE: std::time::Duration = std::time::Duration::from_secs(1);

impl Cursors {
    fn marks(&self) -> std::sync::MutexGuard<'_, Marks> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where claims of these places begin; `None`: at the beginning.
    fn of(&self, places: &[Place]) -> Option<Vec<i64>> {
        if !self.are_used() {
            return None;
        }
        let mut marks = self.marks();
        if marks.looked.is_none_or(|looked| looked.elapsed() >= WHOLE) {
            marks.looked = Some(std::time::Instant::now());
            return None;
        }
        let mut after = vec![-1; places.len() * RANKS];
        for (index, place) in places.iter().enumerate() {
            for rank in 0..RANKS {
                if let Some(at) = marks.at.get(&(place.lane, i32::try_from(rank).unwrap_or(0))) {
                    after[index * RANKS + rank] = at.saturating_sub(SLACK);
                }
            }
        }
        Some(after)
    }

    pub(super) fn are_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Says whether a snapshot is held, as far as anybody can tell.
    pub(super) fn hold(&self, held: bool) {
        self.used.store(held, Ordering::Relaxed);
        if !held {
            *self.marks() = Marks::default();
        }
    }

    /// The next claim looks at everything.
    pub(super) fn forget(&self) {
        if self.are_used() {
            self.marks().looked = None;
        }
    }

    /// Notes how far a claim came, and how long it took.
    fn note(&self, places: &[Place], claimed: &Claimed, took: std::time::Duration) {
        let mut marks = self.marks();
        for lease in &claimed.leases {
            if let Some(place) = places.get(lease.want) {
                let at = marks.at.entry((place.lane, lease.rank)).or_insert(lease.seq);
                *at = lease.seq;
            }
        }
        if marks.at.len() > 10_000 {
            marks.at.clear();
        }
        // Several in a row that took much longer than their rows are worth: nobody may have told of a snapshot.
        let fair = std::time::Duration::from_millis(30)
            + std::time::Duration::from_micros(100)
                * u32::try_from(claimed.leases.len()).unwrap_or(u32::MAX);
        marks.slow = if took > fair { marks.slow + 1 } else { 0 };
        if marks.slow >= 5 {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}
