//! Places of the backends that need no server, for the tests of this folder.

mod memory;

pub use memory::Memory;
