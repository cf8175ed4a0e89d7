//! The log of what happened to tasks: written after the fact, never waited for.
//!
//! A task's record is the truth; an event that is lost on the way costs nobody anything but a line of the log. So the
//! way is short and bounded: [`Sink`] takes events without waiting, one flusher writes them in batches, and when the
//! store cannot keep up the newest are dropped, counted, and a gap is left where they are missing. Ends that did not
//! make it into the log are put there later by [`Repair`].

mod repair;
mod sink;

pub use repair::Repair;
pub(crate) use repair::what;
pub use sink::Sink;
pub(crate) use sink::{brief, event, of_attempt};
