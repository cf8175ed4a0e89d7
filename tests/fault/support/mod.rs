//! What the tests share.

pub mod again;
pub mod backend;
#[path = "../../it/support/binary.rs"]
pub mod binary;
pub mod crew;
pub mod disk;
pub mod judge;
pub mod place;
pub mod process;
pub mod soak;
pub mod sql;
pub mod story;
pub mod trouble;
