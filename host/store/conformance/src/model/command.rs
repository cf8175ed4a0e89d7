//! What a random run may do. Commands name things by small numbers, taken modulo what there is, so that every list of
//! commands means something, also one that was shrunk.

use proptest::collection::vec;
use proptest::prelude::*;

/// What is special about a task that is enqueued.
#[derive(Debug, Clone)]
pub(super) struct Special {
    pub(super) lane: usize,
    /// Bytes of its arguments.
    pub(super) size: usize,
    pub(super) priority: i16,
    pub(super) delay: u64,
    /// Seconds from now; negative is over.
    pub(super) run_at: Option<i64>,
    pub(super) ttl: Option<u64>,
    pub(super) crashes: u32,
    pub(super) result_ttl: u64,
    /// Which key, and its scope.
    pub(super) unique: Option<(usize, usize)>,
    pub(super) after: Vec<usize>,
    pub(super) runs_anyway: bool,
}

/// One task of an enqueue.
#[derive(Debug, Clone)]
pub(super) enum Item {
    New(Special),
    /// One that was enqueued before, as it was.
    Repeat(usize),
    /// One that was enqueued before, with other arguments.
    Altered(usize),
    /// One that waits for a task that nobody knows.
    Orphan,
}

/// How an attempt ends; times in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    Success,
    Failure,
    Cancelled,
    Retry(u64),
    Release(u64),
}

/// Which token an end is sent with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof {
    Right,
    WrongNonce,
    WrongFence,
}

/// What a bulk call means.
#[derive(Debug, Clone)]
pub(super) enum Which {
    Ids(Vec<usize>),
    Lane(usize),
    State(usize),
    All,
}

/// What is done to a schedule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scheduling {
    Put { version: i64, after: u64, paused: bool },
    Remove,
    Fire { version: i64, tasks: usize },
}

/// One step of a run.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Enqueue(Vec<Item>),
    OpenSession,
    ReopenSession(usize),
    CloseSession(usize),
    Claim {
        session: usize,
        /// Lane, most tasks, most bytes.
        wants: Vec<(usize, usize, usize)>,
    },
    /// What the session holds, or not quite.
    Heartbeat {
        session: usize,
        honest: bool,
    },
    Cancels(usize),
    /// The session says that it holds every lease it was given but the first so many.
    Reconcile {
        session: usize,
        forgotten: usize,
    },
    /// The lease given so many leases ago.
    Finish {
        session: usize,
        ends: Vec<(usize, Proof, Ending)>,
    },
    Cancel(Which, usize),
    Retry(Which, usize),
    Remove(Which, usize),
    Pause(usize, bool),
    Promote(usize),
    Reclaim(usize),
    Restored,
    Expire(usize),
    Purge(usize),
    Schedule(usize, Scheduling),
    DueSchedules,
    Read(Which, usize),
    ReadyLanes(Option<usize>, usize),
    Ended(usize, usize),
    /// Milliseconds.
    Advance(u64),
    /// The call before, once more: its answer was lost.
    Again,
}

fn special() -> impl Strategy<Value = Special> {
    let seconds = prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(5), 1 => Just(20)];
    let run_at = prop_oneof![9 => Just(None), 1 => (-3_i64..10).prop_map(Some)];
    let ttl = prop_oneof![12 => Just(None), 1 => Just(Some(0)), 4 => (1_u64..20).prop_map(Some)];
    let result_ttl = prop_oneof![Just(0), Just(10), Just(86_400)];
    let unique = prop_oneof![3 => Just(None), 1 => (0_usize..2, 0_usize..3).prop_map(Some)];
    let after = prop_oneof![4 => Just(vec![]), 2 => vec(0_usize..40, 1..3)];
    let size = prop_oneof![6 => Just(1_usize), 2 => 0_usize..400, 1 => Just(60_000)];
    let first = (0_usize..3, size, -2_i16..3, seconds, run_at, ttl);
    let second = (0_u32..3, result_ttl, unique, after, any::<bool>());
    (first, second).prop_map(|(first, second)| {
        let (lane, size, priority, delay, run_at, ttl) = first;
        let (crashes, result_ttl, unique, after, runs_anyway) = second;
        Special {
            lane,
            size,
            priority,
            delay,
            run_at,
            ttl,
            crashes,
            result_ttl,
            unique,
            after,
            runs_anyway,
        }
    })
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        20 => special().prop_map(Item::New),
        1 => any::<usize>().prop_map(Item::Repeat),
        1 => any::<usize>().prop_map(Item::Altered),
        1 => Just(Item::Orphan),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    let seconds = prop_oneof![Just(0_u64), Just(1), Just(5)];
    prop_oneof![
        4 => Just(Ending::Success),
        2 => Just(Ending::Failure),
        1 => Just(Ending::Cancelled),
        2 => seconds.clone().prop_map(Ending::Retry),
        2 => seconds.prop_map(Ending::Release),
    ]
}

fn proof() -> impl Strategy<Value = Proof> {
    prop_oneof![10 => Just(Proof::Right), 1 => Just(Proof::WrongNonce), 1 => Just(Proof::WrongFence)]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        4 => vec(any::<usize>(), 1..4).prop_map(Which::Ids),
        1 => (0_usize..3).prop_map(Which::Lane),
        1 => (0_usize..8).prop_map(Which::State),
        1 => Just(Which::All),
    ]
}

fn scheduling() -> impl Strategy<Value = Scheduling> {
    prop_oneof![
        3 => (-1_i64..2, 0_u64..10, prop::bool::weighted(0.2))
            .prop_map(|(version, after, paused)| Scheduling::Put { version, after, paused }),
        1 => Just(Scheduling::Remove),
        3 => (-1_i64..1, 0_usize..3).prop_map(|(version, tasks)| Scheduling::Fire { version, tasks }),
    ]
}

fn advance() -> impl Strategy<Value = Command> {
    let millis = prop_oneof![
        12 => Just(1_u64),
        24 => (0_u64..6).prop_map(|seconds| seconds * 1000),
        4 => Just(10_000),
        4 => Just(15_000),
        4 => Just(15_001),
        1 => Just(90_000_000),
    ];
    millis.prop_map(Command::Advance)
}

/// One command.
pub(super) fn command() -> impl Strategy<Value = Command> {
    // Mostly the newest session, which lives most likely.
    let session = || prop_oneof![6 => Just(0_usize), 2 => 1_usize..4];
    let few = || prop_oneof![1 => 0_usize..3, 3 => Just(100_usize)];
    let bytes = prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..800, 1 => Just(100_000)];
    let wants = vec((0_usize..3, 0_usize..5, bytes), 1..5);
    let ends = vec((0_usize..5, proof(), ending()), 1..5);
    prop_oneof![
        20 => vec(item(), 1..8).prop_map(Command::Enqueue),
        8 => Just(Command::OpenSession),
        1 => session().prop_map(Command::ReopenSession),
        1 => session().prop_map(Command::CloseSession),
        20 => (session(), wants).prop_map(|(session, wants)| Command::Claim { session, wants }),
        2 => (session(), any::<bool>())
            .prop_map(|(session, honest)| Command::Heartbeat { session, honest }),
        1 => session().prop_map(Command::Cancels),
        1 => (session(), 0_usize..4)
            .prop_map(|(session, forgotten)| Command::Reconcile { session, forgotten }),
        20 => (session(), ends).prop_map(|(session, ends)| Command::Finish { session, ends }),
        3 => (which(), few()).prop_map(|(which, max)| Command::Cancel(which, max)),
        3 => (which(), few()).prop_map(|(which, max)| Command::Retry(which, max)),
        2 => Just(Command::Retry(Which::State(5), 100)), // the dead letters
        2 => Just(Command::Retry(Which::State(7), 100)), // what has expired
        1 => (which(), few()).prop_map(|(which, max)| Command::Remove(which, max)),
        1 => (0_usize..3, prop::bool::weighted(0.3)).prop_map(|(lane, paused)| Command::Pause(lane, paused)),
        3 => few().prop_map(Command::Promote),
        3 => few().prop_map(Command::Reclaim),
        1 => Just(Command::Restored),
        2 => few().prop_map(Command::Expire),
        2 => few().prop_map(Command::Purge),
        3 => (0_usize..2, scheduling()).prop_map(|(name, what)| Command::Schedule(name, what)),
        1 => Just(Command::DueSchedules),
        2 => (which(), few()).prop_map(|(which, max)| Command::Read(which, max)),
        1 => (prop::option::of(0_usize..3), few())
            .prop_map(|(after, max)| Command::ReadyLanes(after, max)),
        1 => (any::<usize>(), few()).prop_map(|(after, max)| Command::Ended(after, max)),
        6 => advance(),
        3 => Just(Command::Again),
    ]
}
