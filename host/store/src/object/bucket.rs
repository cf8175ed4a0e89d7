//! Who owns a bucket.

use super::hub::Keeper;
use crate::Error;

/// Owns the bucket, or is a guest of who does, until the store is closed.
pub(super) async fn keep(keeper: &mut Keeper) {
    let reason = "tasks in buckets are not there yet; `file:PATH` keeps them in a folder";
    keeper.fail(Error::Config(reason.into()));
}
