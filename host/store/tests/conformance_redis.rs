//! Redis, held to what every store promises.
#![cfg(feature = "redis")]

#[path = "place/redis.rs"]
mod place;

omniq_conformance::suite!(place::Redis { url: omniq_services::redis().url().to_owned() });
