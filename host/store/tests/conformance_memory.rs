//! The memory backend, held to what every store promises.

#[path = "place/memory.rs"]
mod place;

omniq_conformance::suite!(place::Memory);
