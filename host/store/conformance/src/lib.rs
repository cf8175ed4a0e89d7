//! What every store of OmniQ is held to.
//!
//! [`suite!`] makes a test of every case, grouped by guarantee, against the places a [`Factory`] gives. [`check_model`]
//! makes random calls to a store and to the state machine that defines the promises, and compares. [`history`] says whether a
//! concurrent run kept the promises.
#![expect(
    clippy::unwrap_used,
    reason = "this crate is a test: what does not hold panics, and the panic names the case"
)]

mod audit;
mod cases;
mod copies;
mod factory;
mod faulty;
pub mod history;
mod kit;
mod model;
mod roll;
mod stress;
mod suite;

pub use audit::audit;
pub use cases::CASES;
pub use copies::check_copy;
pub use factory::{Factory, Need, Place, Stores};
pub use faulty::Faulty;
pub use kit::{Kit, LEASE, START, TICK, WHILE, dump, dump_ended};
pub use model::check_model;
pub use roll::Rolls;
pub use stress::{Stress, stress};
pub use suite::{Case, Passed, Report, check_skips, run, run_case};
