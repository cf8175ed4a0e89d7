//! Tasks in a bucket of Google, for which an endpoint of this process stands, held to what every store promises.
#![cfg(feature = "cloud")]

#[path = "place/bucket.rs"]
mod place;

omniq_conformance::suite!(place::Buckets::Server(omniq_services::google().url()));
