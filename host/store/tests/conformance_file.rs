//! Files, held to what every store promises.
#![cfg(feature = "object")]

#[path = "place/file.rs"]
mod place;

omniq_conformance::suite!(place::Files(omniq_store::Durability::Disk));
