//! Tells of attempts that take a while that they have begun. Of a quick one its end tells that too, which is one event to
//! make and one row to write instead of two.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;

/// How long an attempt may be held before that is told, and how often it is looked at: as long as events wait for others.
const EVERY: Duration = Duration::from_millis(200);

/// Tells until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        shared.tell_beginnings(EVERY);
    }
}
