//! What a guest may touch outside its own memory. Nothing, unless it is named here.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::{FsPerms, ResourceTable, WasiCtxBuilder};

use crate::import::http::HostPattern;
use crate::import::keyvalue::Buckets;

/// The capabilities of one call. The default grants nothing but clocks and randomness.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Environment variables, by name.
    pub env: BTreeMap<String, String>,
    /// Directories; the guest sees nothing outside of them. See [`Grants::grant_dir`].
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

impl Grants {
    /// Grants one directory more: `host`, which the guest sees as `guest` and may change if `writable`.
    ///
    /// It is opened here, once: every call gets this very directory, whatever lies at its path by then.
    ///
    /// # Errors
    /// It cannot be opened, or one of two granted directories lies in another one that the guest may change.
    pub fn grant_dir(
        &mut self,
        host: impl Into<PathBuf>,
        guest: impl Into<String>,
        writable: bool,
    ) -> Result<(), GrantError> {
        let dir = DirGrant::open(host.into(), guest.into(), writable)?;
        for other in &self.dirs {
            for (inner, outer) in [(&dir, other), (other, &dir)] {
                if outer.writable && inner.is_led_to_through(outer) {
                    let (inner, outer) = (inner.host.clone(), outer.host.clone());
                    return Err(GrantError::Inside { inner, outer });
                }
            }
        }
        self.dirs.push(dir);
        Ok(())
    }
}

/// Why a directory cannot be granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// It cannot be opened.
    #[error("the granted directory `{}` cannot be opened: {source}", host.display())]
    Open {
        /// The directory.
        host: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A guest that may change the outer one could put another directory of the host in the place of the inner one.
    #[error(
        "the path of the granted directory `{}` leads through `{}`, which the guest may change: it could put a link to \
         anything there", inner.display(), outer.display()
    )]
    Inside {
        /// The directory whose path the guest could change.
        inner: PathBuf,
        /// The directory that the path leads through.
        outer: PathBuf,
    },
}

/// A directory of the host that a guest may use. It is open.
#[derive(Clone)]
pub struct DirGrant {
    host: PathBuf,
    pub(crate) guest: String,
    pub(crate) writable: bool,
    pub(crate) dir: Dir,
    /// Itself and the directories that the path goes through, without any links.
    through: Vec<PathBuf>,
}

impl fmt::Debug for DirGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirGrant")
            .field("host", &self.host)
            .field("guest", &self.guest)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

impl DirGrant {
    fn open(host: PathBuf, guest: String, writable: bool) -> Result<Self, GrantError> {
        let opened = std::path::absolute(&host).and_then(|path| {
            let through = path.ancestors().map(Path::canonicalize).collect::<io::Result<_>>()?;
            Ok((through, open(&host, writable).map_err(io::Error::other)?))
        });
        match opened {
            Ok((through, dir)) => Ok(Self { host, guest, writable, dir, through }),
            Err(source) => Err(GrantError::Open { host, source }),
        }
    }

    /// Whether something in `outer` decides what lies at this one's path.
    fn is_led_to_through(&self, outer: &Self) -> bool {
        let outer = &outer.through[0];
        let (itself, above) = self.through.split_first().expect("a path is its own ancestor");
        (itself != outer && itself.starts_with(outer))
            || above.iter().any(|at| at.starts_with(outer))
    }
}

/// Opens a directory the way the engine does; it takes paths only, and gives out what it opened.
fn open(host: &Path, writable: bool) -> wasmtime::Result<Dir> {
    let perms = if writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    let mut context = WasiCtxBuilder::new().preopened_dir(host, ".", perms)?.build();
    let mut table = ResourceTable::new();
    let mut view = wasmtime_wasi::filesystem::WasiFilesystemCtxView {
        ctx: context.filesystem(),
        table: &mut table,
    };
    for (descriptor, _) in view.get_directories()? {
        if let Descriptor::Dir(dir) = table.delete(descriptor)? {
            return Ok(dir);
        }
    }
    Err(wasmtime::format_err!("it is not a directory"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_directory_may_lie_where_the_guest_could_put_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["data/ref", "data2", "other/sub"] {
            std::fs::create_dir_all(at(name)).expect("made");
        }
        std::os::unix::fs::symlink(at("data/ref"), at("into")).expect("linked");
        std::os::unix::fs::symlink(at("other"), at("data/out")).expect("linked");
        for (one, one_writable, two, two_writable, allowed) in [
            ("data", true, "data/ref", false, false),
            ("data", true, "into", false, false),
            ("data", true, "data/out", false, false),
            ("data", true, "data/out/sub", false, false),
            ("data", false, "data/ref", true, true),
            ("data", false, "data/ref", false, true),
            ("data", true, "data", false, true),
            ("data", true, "data2", true, true),
            ("data", true, "other/sub", true, true),
        ] {
            let pairs = [(one, one_writable), (two, two_writable)];
            for order in [[0, 1], [1, 0]] {
                let mut grants = Grants::default();
                let [first, second] = order.map(|which| pairs[which]);
                grants.grant_dir(at(first.0), "/first", first.1).expect("the only one");
                let answer = grants.grant_dir(at(second.0), "/second", second.1);
                assert_eq!(answer.is_ok(), allowed, "{first:?} {second:?}: {answer:?}");
            }
        }
        let missing = Grants::default().grant_dir(at("missing"), "/data", false).unwrap_err();
        assert!(missing.to_string().contains("cannot be opened"), "{missing}");
    }
}
