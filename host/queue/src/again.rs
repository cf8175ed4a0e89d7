//! Repeats calls of a store that may be repeated.

use std::time::Duration;

use omniq_store::{Result, chain};

/// Pauses between the tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// Makes a call again while the store does not answer; the last answer counts. It must not matter whether a call without an
/// answer was done.
pub(crate) async fn again<T, F>(call: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for pause in PAUSES {
        match call().await {
            // One that rests says itself when to come back: the caller is not to wait for that.
            Err(error) if error.kind().is_passing() && error.retry_after().is_none() => {
                tracing::warn!(error = %chain(&error), "the task store did not answer, trying again");
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    call().await
}
