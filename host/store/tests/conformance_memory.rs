//! The memory backend, held to what every store promises.

mod place;

omniq_conformance::suite!(place::Memory);
