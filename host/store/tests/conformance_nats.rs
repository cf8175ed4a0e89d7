//! NATS, held to what every store promises: with every value beside the log, and images all the time.
#![cfg(feature = "nats")]

#[path = "place/nats.rs"]
mod place;

omniq_conformance::suite!(place::Nats::here());
