//! Where a task stands, and the only table of moves from one state to another.

use crate::record::numbered;

numbered! {
    /// Where a task stands.
    pub enum State {
        /// Waits for other tasks to end.
        Blocked = 0 "blocked",
        /// Waits for a time: a delay, or the next attempt.
        Scheduled = 1 "scheduled",
        /// May be claimed now.
        Ready = 2 "ready",
        /// Leased to a session.
        Running = 3 "running",
        /// Ended with a result. Terminal.
        Succeeded = 4 "succeeded",
        /// Ended without one, for good: the dead letter queue. Terminal until somebody retries it.
        Failed = 5 "failed",
        /// Called off. Terminal.
        Cancelled = 6 "cancelled",
        /// Not started within its time to live. Terminal.
        Expired = 7 "expired",
    }
}

/// The coarse view of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not started yet, or waiting for its next attempt.
    Pending,
    /// An attempt runs.
    Running,
    /// Ended with a result.
    Success,
    /// Ended without one.
    Error,
}

impl Phase {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
        }
    }
}

impl State {
    /// Whether nothing happens to the task any more by itself.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// The coarse view. A state of a newer version counts as pending: it is not ours to claim, nor ended as we know it.
    pub const fn phase(self) -> Phase {
        match self {
            Self::Blocked | Self::Scheduled | Self::Ready | Self::Other(_) => Phase::Pending,
            Self::Running => Phase::Running,
            Self::Succeeded => Phase::Success,
            Self::Failed | Self::Cancelled | Self::Expired => Phase::Error,
        }
    }

    /// Whether a task may go from here to `next`; the only table of moves there is.
    pub const fn may_become(self, next: Self) -> bool {
        use State::{Blocked, Cancelled, Expired, Failed, Ready, Running, Scheduled, Succeeded};
        match self {
            // A parent that fails may fail what waits for it.
            Blocked => matches!(next, Scheduled | Ready | Failed | Cancelled | Expired),
            Scheduled => matches!(next, Ready | Cancelled | Expired),
            Ready => matches!(next, Running | Cancelled | Expired),
            // Back to ready or scheduled: a retry, a release, a lost lease.
            Running => matches!(next, Ready | Scheduled | Succeeded | Failed | Cancelled),
            // Somebody retries it by hand.
            Failed | Cancelled | Expired => matches!(next, Ready),
            Succeeded | Self::Other(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_final_and_an_unknown_state_is_left_alone() {
        for next in State::ALL {
            assert!(!State::Succeeded.may_become(*next));
            assert!(!State::Other(42).may_become(*next));
            assert!(!next.may_become(State::Other(42)));
        }
    }

    #[test]
    fn only_ready_tasks_start_and_only_running_ones_succeed() {
        for from in State::ALL {
            assert_eq!(from.may_become(State::Running), *from == State::Ready, "{from}");
            assert_eq!(from.may_become(State::Succeeded), *from == State::Running, "{from}");
        }
    }

    #[test]
    fn numbers_and_names_go_there_and_back() {
        for state in State::ALL {
            assert_eq!(State::from_number(state.number()), *state);
            assert_eq!(State::from_name(state.name()), Some(*state));
        }
        assert_eq!(State::from_number(200), State::Other(200));
    }
}
