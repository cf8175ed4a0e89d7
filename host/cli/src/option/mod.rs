//! Options of the command line, in the groups they are shown in, and what they turn into.

pub mod clock;
pub mod grants;
pub mod limits;
pub mod policy;
pub use omniq::config::quantity;
