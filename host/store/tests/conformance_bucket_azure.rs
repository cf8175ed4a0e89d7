//! Tasks in a container of Azure, for which Azurite stands, held to what every store promises.
#![cfg(feature = "cloud")]

#[path = "place/bucket.rs"]
mod place;

omniq_conformance::suite!(place::Buckets::Server(omniq_services::azure().url()));
