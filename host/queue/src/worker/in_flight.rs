//! Claims that the store was asked for and has not answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use omniq_store::{Lease, Result, Session, TaskStore, Want};

use super::shared::Room;

/// Claims under way at a time: the one that the store works on, and the one that it goes on with.
const MOST: usize = 2;

/// What the store answered to a claim.
pub(super) struct Answer {
    pub session: Session,
    pub wants: Vec<Want>,
    pub leases: Result<Vec<Lease>>,
}

/// Claims under way. Their answers are taken in the order that they were asked for in.
pub(super) struct InFlight {
    claims: FuturesOrdered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// What they may give, at most.
    asked: Room,
    /// The most that is asked for at a time.
    batch: usize,
    /// The last answer was a whole batch: very likely the next one is, too.
    is_flowing: bool,
}

impl InFlight {
    pub fn new(batch: usize) -> Self {
        let (claims, asked) = (FuturesOrdered::new(), Room::default());
        Self { claims, asked, batch, is_flowing: false }
    }

    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// What they may give, at most.
    pub fn asked(&self) -> Room {
        self.asked
    }

    /// What the next claim may ask for where there is this room: nothing where it has to wait for an answer. Only whole
    /// batches are worth a claim beside another one, and each of them has its part of the bytes.
    pub fn share_of(&self, room: Room) -> Room {
        let free = if self.is_flowing { MOST - self.claims.len() } else { 1 };
        let may = self.is_empty() || free > 0 && self.is_flowing && room.tasks >= self.batch;
        if may { Room { bytes: room.bytes.div_ceil(free), ..room } } else { Room::default() }
    }

    /// Asks for that.
    pub fn push(&mut self, tasks: &Arc<dyn TaskStore>, session: &Session, wants: Vec<Want>) {
        let (tasks, session) = (Arc::clone(tasks), *session);
        let Room { tasks: count, bytes } = Room::of(&wants);
        self.asked.tasks += count;
        self.asked.bytes = self.asked.bytes.saturating_add(bytes);
        self.claims.push_back(Box::pin(async move {
            let leases = tasks.claim(&session, &wants).await;
            Answer { session, wants, leases }
        }));
    }

    /// The next answer; `None`: none is to come.
    pub async fn next(&mut self) -> Option<Answer> {
        let answer = self.claims.next().await?;
        let Room { tasks, bytes } = Room::of(&answer.wants);
        self.asked.tasks -= tasks;
        self.asked.bytes = self.asked.bytes.saturating_sub(bytes);
        self.is_flowing = answer.leases.as_ref().is_ok_and(|leases| leases.len() >= self.batch);
        Some(answer)
    }
}
