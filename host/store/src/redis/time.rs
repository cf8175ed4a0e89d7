//! What time does: tasks become due, sessions die, time to live runs out, ended tasks are forgotten. Each call is as many
//! scripts as it takes, so that none holds the server up.

use std::time::Duration;

use super::fault::Result;
use super::server::Store;
use super::session::read_moves;
use super::{reply, script};
use crate::{Due, Moved};

/// Tasks of one script at most.
const MOST: usize = 100;

impl Store {
    /// See [`TaskStore::promote`](crate::TaskStore::promote).
    pub(super) async fn promote(&self, max: usize) -> Result<Due> {
        let mut due = Due::default();
        loop {
            let most = (max - due.promoted).min(MOST);
            let answer = self.change(&script::PROMOTE, &[most.to_string().as_bytes()]).await?;
            let [said, promoted, next] = reply::parts(answer)?;
            self.committed(&said).await?;
            let promoted = reply::size(&promoted)?;
            due.promoted += promoted;
            due.next = u64::try_from(reply::int(&next)?).ok().map(Duration::from_millis);
            if promoted < most || due.promoted >= max {
                return Ok(due);
            }
        }
    }

    /// See [`TaskStore::reclaim`](crate::TaskStore::reclaim).
    pub(super) async fn reclaim(&self, max: usize) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        loop {
            let most = (max - moved.len()).min(MOST);
            let answer = self.change(&script::RECLAIM, &[most.to_string().as_bytes()]).await?;
            let [said, told] = reply::parts(answer)?;
            self.committed(&said).await?;
            let told = read_moves(told)?;
            let full = told.len() == most;
            moved.extend(told);
            if !full || moved.len() >= max {
                return Ok(moved);
            }
        }
    }

    /// See [`TaskStore::expire`](crate::TaskStore::expire).
    pub(super) async fn expire(&self, max: usize) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        while moved.len() < max {
            let most = (max - moved.len()).min(MOST);
            let answer = self.change(&script::EXPIRE, &[most.to_string().as_bytes()]).await?;
            let [said, told, more] = reply::parts(answer)?;
            self.committed(&said).await?;
            moved.extend(read_moves(told)?);
            if reply::int(&more)? == 0 {
                break;
            }
        }
        Ok(moved)
    }

    /// See [`TaskStore::purge`](crate::TaskStore::purge).
    pub(super) async fn purge(&self, max: usize) -> Result<usize> {
        let mut purged = 0;
        while purged < max {
            let most = (max - purged).min(MOST);
            let answer = self.look(&script::PURGE, &[most.to_string().as_bytes()]).await?;
            let gone = reply::size(&answer)?;
            purged += gone;
            if gone < most {
                break;
            }
        }
        Ok(purged)
    }
}
