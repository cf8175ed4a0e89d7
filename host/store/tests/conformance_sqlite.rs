//! SQLite, held to what every store promises.
#![cfg(feature = "sqlite")]

#[path = "place/sqlite.rs"]
mod place;

omniq_conformance::suite!(place::Sqlite(omniq_store::Durability::Disk));
