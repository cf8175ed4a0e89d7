//! Places of the backends that need no server, for the tests of this folder.
#![cfg_attr(
    feature = "sqlite",
    expect(unused_imports, reason = "each test uses the backend it is about")
)]

mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::Memory;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
