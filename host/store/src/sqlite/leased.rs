//! What this process has leased out, so that its end need not be looked up.
//!
//! Nothing here is trusted: an end is written only where the row still is as the claim left it, and everything else is
//! looked up. So what is missing costs a look, what is out of date costs a look, and no more is promised.

use std::collections::{HashMap, HashSet};

use omniq_model::{State, TaskId, Token};

use super::fault::Result;
use super::finish::RawEnd;
use super::live::nonce;
use super::pack::{Cell, Pack, numbers, packed, runs};
use super::tx::Tx;
use crate::How;

/// So that leases whose ends never come do not fill the memory.
const MOST: usize = 100_000;

/// A row that was leased: what never changes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leased {
    pub seq: i64,
    pub lane: i64,
}

/// Leases by task and token.
#[derive(Debug, Default)]
pub(super) struct Leases(HashMap<TaskId, (Token, Leased)>);

impl Leases {
    pub(super) fn add(&mut self, id: TaskId, token: Token, leased: Leased) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(id, (token, leased));
    }

    /// Takes out what was leased under that token. Gone afterwards, so that of several ends the first comes first.
    pub(super) fn take(&mut self, id: TaskId, token: Token) -> Option<Leased> {
        let (known, _) = self.0.get(&id)?;
        if *known != token {
            return None;
        }
        self.0.remove(&id).map(|(_, leased)| leased)
    }
}

/// The end of a lease.
struct Leaving<'a> {
    /// Which end of the call it is.
    index: usize,
    leased: Leased,
    token: Token,
    to: State,
    result: &'a [u8],
}

impl<'a> Leaving<'a> {
    /// If the task is over by this end.
    fn of(index: usize, leased: Leased, raw: &'a RawEnd) -> Option<Self> {
        let to = match raw.end.how {
            How::Succeeded(_) => State::Succeeded,
            How::Failed(_) => State::Failed,
            How::Cancelled(_) => State::Cancelled,
            How::Retry { .. } | How::Release { .. } => return None,
        };
        Some(Self { index, leased, token: raw.end.token, to, result: &raw.result })
    }

    fn claim(&self) -> [Cell<'a>; 3] {
        let fence = self.token.fence.cast_signed();
        [self.leased.seq.into(), fence.into(), nonce(self.token).into()]
    }
}

/// Rows that still are as their claim left them, and for which nobody waits. Of a pack that begins with [`Leaving::claim`].
macro_rules! untouched {
    () => {
        "{rows} cross join omniq_task t on t.seq = {0}
          where t.state = 3 and t.fence = {1} and t.nonce = {2}
            and not exists(select 1 from omniq_edge e where e.parent = t.seq)"
    };
}

impl Tx<'_> {
    /// Commits the ends of leases that are known here, as far as their rows are untouched, which are most ends by far;
    /// tells which those were.
    pub(super) async fn finish_leased(&mut self, ends: &[&RawEnd]) -> Result<Vec<Option<State>>> {
        let mut done = vec![None; ends.len()];
        let mut known = Vec::new();
        for (index, raw) in ends.iter().enumerate() {
            // Taken out whatever comes of it, so that several ends of one task keep their order.
            let leased = self.names.leases.take(raw.end.id, raw.end.token);
            known.extend(leased.and_then(|leased| Leaving::of(index, leased, raw)));
        }
        let (mut pack, mut part, mut left) = (Pack::default(), Vec::new(), known.len());
        for leaving in known {
            let [seq, fence, nonce] = leaving.claim();
            let state = i64::from(leaving.to.number());
            pack.row(&[seq, fence, nonce, state.into(), Cell::Bytes(leaving.result)]);
            part.push(leaving);
            left -= 1;
            if pack.is_full() || left == 0 {
                for gone in self.leave(&mut pack, std::mem::take(&mut part)).await? {
                    done[gone.index] = Some(gone.to);
                }
            }
        }
        Ok(done)
    }

    async fn leave<'a>(
        &mut self,
        pack: &mut Pack,
        mut part: Vec<Leaving<'a>>,
    ) -> Result<Vec<Leaving<'a>>> {
        packed!(
            KEEP,
            6,
            concat!(
                "insert into omniq_done(seq, id, lane, code, state, rank, attempt, crashes, fence, nonce, cancel, created,
                        started, ttl, keep, flags, finished, forget, result)
                 select t.seq, t.id, t.lane, t.code, {3}, t.rank, t.attempt, t.crashes, t.fence, t.nonce, t.cancel,
                        t.created, t.started, t.ttl, t.keep, t.flags, ?4, ?4 + min(t.keep, 9223372036854775807 - ?4), {4b}
                   from ",
                untouched!()
            )
        );
        let now = self.now.as_millis();
        let kept = pack.query(&KEEP).bind(now).execute(&mut *self.conn).await?.rows_affected();
        if kept < part.len() as u64 {
            let untouched = self.untouched(&part).await?;
            part.retain(|leaving| untouched.contains(&leaving.leased.seq));
        }
        self.delete_tasks(part.iter().map(|leaving| leaving.leased.seq)).await?;
        for leaving in &part {
            self.moves(leaving.leased.lane, State::Running, leaving.to);
        }
        Ok(part)
    }

    async fn delete_tasks(&mut self, seqs: impl Iterator<Item = i64> + Clone) -> Result<()> {
        const DELETE: &str = "delete from omniq_task where seq between ?1 and ?2";
        const DELETE_EACH: &str =
            "delete from omniq_task where seq in (select value from json_each(?1))";
        if let Some(runs) = runs(seqs.clone()) {
            for (first, last) in runs {
                let delete = sqlx::query(DELETE).bind(first).bind(last);
                delete.execute(&mut *self.conn).await?;
            }
            return Ok(());
        }
        sqlx::query(DELETE_EACH).bind(numbers(seqs)).execute(&mut *self.conn).await?;
        Ok(())
    }

    async fn untouched(&mut self, part: &[Leaving<'_>]) -> Result<HashSet<i64>> {
        packed!(UNTOUCHED, 3, concat!("select t.seq from ", untouched!()));
        let mut pack = Pack::default();
        for leaving in part {
            pack.row(&leaving.claim());
        }
        let rows = pack.query(&UNTOUCHED).fetch_all(&mut *self.conn).await?;
        rows.iter().map(|row| Ok(sqlx::Row::try_get(row, 0)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_once_and_only_with_its_token() {
        let mut leases = Leases::default();
        let id = TaskId::derived(&[b"a"]);
        let token = |fence| Token { fence, nonce: 7 };
        let leased = |seq| Leased { seq, lane: 1 };
        leases.add(id, token(1), leased(5));
        leases.add(id, token(2), leased(5));
        assert_eq!(leases.take(id, token(1)), None);
        assert_eq!(leases.take(id, token(2)), Some(leased(5)));
        assert_eq!(leases.take(id, token(2)), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut leases = Leases::default();
        for number in 0..2 * MOST {
            let id = TaskId::derived(&[&number.to_be_bytes()]);
            leases.add(id, Token { fence: 1, nonce: 7 }, Leased { seq: 0, lane: 0 });
        }
        assert!(leases.0.len() <= MOST);
    }
}
