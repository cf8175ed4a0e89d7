//! Tasks in a bucket of a real S3 server, held to what every store promises.
#![cfg(feature = "cloud")]

#[path = "place/bucket.rs"]
mod place;

omniq_conformance::suite!(place::Buckets::Server(omniq_services::s3().url()));
