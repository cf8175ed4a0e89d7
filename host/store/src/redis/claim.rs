//! How ready tasks are leased.

use omniq_model::{SessionId, Timestamp, Token};
use redis::Value;

use super::fault::Result;
use super::server::Store;
use super::wire::{self, Bytes, Raw};
use super::{reply, script};
use crate::{Lease, Want};

/// Tasks that one script leases at most.
const MOST: usize = 200;

/// A lease before its task is decoded, which the caller does: our thread has other things to do.
#[derive(Debug)]
pub(super) struct RawLease {
    nonce: u64,
    /// Fence, attempt and crashes.
    claim: Vec<u8>,
    raw: Raw,
}

impl RawLease {
    pub(super) fn into_lease(self) -> Result<Lease> {
        let mut claim = Bytes(&self.claim);
        let token = Token { fence: claim.number(7)?, nonce: self.nonce };
        let (attempt, crashes) = (claim.small()?, claim.small()?);
        let (first, asked_for) = wire::body(&self.raw.stored)?;
        let bytes = asked_for.or(self.raw.large_body.as_deref()).unwrap_or_default();
        let created: Timestamp = first.created;
        Ok(Lease { id: self.raw.id, token, attempt, crashes, created, task: wire::decode(bytes) })
    }
}

/// What is left of a want.
struct Left {
    tasks: usize,
    /// `None`: no bound.
    bytes: Option<usize>,
    given: bool,
}

impl Store {
    /// See [`TaskStore::claim`](crate::TaskStore::claim).
    pub(super) async fn claim(
        &self,
        session: SessionId,
        wants: Vec<Want>,
    ) -> Result<Vec<RawLease>> {
        let mut leases = Vec::new();
        for want in &wants {
            if let Err(fault) = self.claim_lane(session, want, &mut leases).await {
                // What was leased before is as good as if no more had been asked for.
                if leases.is_empty() {
                    return Err(fault);
                }
                break;
            }
        }
        self.fetch_apart(leases.iter_mut().map(|lease: &mut RawLease| &mut lease.raw)).await?;
        Ok(leases)
    }

    async fn claim_lane(
        &self,
        session: SessionId,
        want: &Want,
        leases: &mut Vec<RawLease>,
    ) -> Result<()> {
        let bytes = (want.bytes < usize::MAX).then_some(want.bytes);
        let mut left = Left { tasks: want.max, bytes, given: false };
        while left.tasks > 0 {
            let answer = self.claim_part(session, want, &left).await?;
            let mut values = reply::list(answer)?.into_iter();
            let mut next = || values.next().unwrap_or(Value::Nil);
            let (more, used, said) = (reply::int(&next())?, reply::size(&next())?, next());
            let mut parts = values;
            while let (Some(claim), Some(stored)) = (parts.next(), parts.next()) {
                leases.push(lease(want.nonce, reply::bytes(claim)?, reply::bytes(stored)?)?);
                left.tasks -= 1;
                left.given = true;
            }
            left.bytes = left.bytes.map(|bytes| bytes.saturating_sub(used));
            self.committed(&said).await?;
            if more == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn claim_part(&self, session: SessionId, want: &Want, left: &Left) -> Result<Value> {
        let bytes = left.bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
        let most = left.tasks.min(MOST).to_string();
        let args: [&[u8]; 6] = [
            &wire::session(session),
            &wire::lane(&want.lane),
            most.as_bytes(),
            &want.nonce.to_be_bytes(),
            bytes.as_bytes(),
            if left.given { b"1" } else { b"0" },
        ];
        self.change(&script::CLAIM, &args).await
    }
}

/// One lease as the script tells it: its claim with the task's id at the end, and the task's stored form.
fn lease(nonce: u64, mut claim: Vec<u8>, stored: Vec<u8>) -> Result<RawLease> {
    let id = claim.split_off(claim.len().saturating_sub(16));
    let raw = Raw::new(Bytes(&id).id()?, Vec::new(), stored);
    Ok(RawLease { nonce, claim, raw })
}
