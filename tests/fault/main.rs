//! What OmniQ promises when processes die, stand still, or find their disk full: each promise broken in earnest, on real
//! processes of the binary, and then looked after.
//!
//! `docs/promise.md` says what is promised and which test shows it.

mod bench;
mod crash_table;
mod crowd;
mod full;
mod idle;
mod locks;
mod lost;
mod million;
mod outage;
mod snapshot;
mod soak;
mod stop;
mod storage;
mod storm;
mod support;
mod zombie;
