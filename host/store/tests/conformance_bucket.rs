//! A bucket, held to what every store promises.
#![cfg(feature = "object")]

#[path = "place/bucket.rs"]
mod place;

omniq_conformance::suite!(place::Buckets::Memory);
