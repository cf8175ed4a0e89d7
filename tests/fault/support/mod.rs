//! What the tests share.

#[path = "../../it/support/binary.rs"]
pub mod binary;
pub mod judge;
pub mod place;
pub mod process;
pub mod story;
