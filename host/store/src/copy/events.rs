//! Events, and up to where the log has been repaired.

use super::{Copied, Copy, Phase, Progress};
use crate::{EventFilter, Result};

/// Events of one page.
const PAGE: usize = 2000;

impl Copy {
    pub(super) async fn events(
        &self,
        copied: &mut Copied,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let (Some(from), Some(to)) = (&self.from.events, &self.to.events) else { return Ok(()) };
        let mut after = None;
        loop {
            let page = from.query(&EventFilter::default(), after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            copied.events += page.len() as u64;
            to.append(page.into_iter().map(|(_, event)| event).collect()).await?;
            tell(Progress { phase: Phase::Events, done: copied.events, of: None });
        }
        // Whatever ended before it is in the log that was copied.
        to.set_watermark(from.watermark().await?).await
    }
}
