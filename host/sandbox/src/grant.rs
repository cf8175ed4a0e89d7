//! What a guest may touch outside its own memory. Nothing, unless it is named here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::import::http::HostPattern;
use crate::import::keyvalue::Buckets;

/// The capabilities of one call. The default grants nothing but clocks and randomness.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Environment variables, by name.
    pub env: BTreeMap<String, String>,
    /// Directories; the guest sees nothing outside of them.
    pub dirs: Vec<DirGrant>,
    /// Hosts that outbound HTTP may reach.
    pub http: Vec<HostPattern>,
    /// Key-value buckets by name, through `wasi:keyvalue`; shared with every call that is given the same ones.
    pub keyvalue: Option<Arc<Buckets>>,
    /// Settings by name, through `wasi:config`.
    pub config: BTreeMap<String, String>,
    /// What the clocks show.
    pub clock: Clock,
    /// Where randomness comes from.
    pub random: Random,
}

/// A directory of the host that a guest may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the guest sees it, such as `/data`.
    pub guest: String,
    /// Whether the guest may change it.
    pub writable: bool,
}

/// What a guest's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The time it is.
    #[default]
    Real,
    /// Always the same moment; the monotonic clock stands at zero, and waiting for it takes real time.
    Frozen(SystemTime),
}

impl Clock {
    /// The frozen moment as a span since 1970, if the clock is frozen.
    pub(crate) fn frozen(self) -> Option<Duration> {
        match self {
            Self::Real => None,
            Self::Frozen(at) => Some(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        }
    }
}

/// Where a guest's randomness comes from.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Random {
    /// The system's secure generator.
    #[default]
    Real,
    /// A generator that gives the same bytes for the same seed. Not fit for secrets.
    Seeded(u64),
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real => f.write_str("Real"),
            Self::Seeded(_) => f.write_str("Seeded"),
        }
    }
}
