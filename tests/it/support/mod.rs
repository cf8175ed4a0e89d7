//! What the tests share.

pub mod binary;
pub mod built;
pub mod omniq;
pub mod place;
