//! PostgreSQL, held to what every store promises.
#![cfg(feature = "postgres")]

#[path = "place/postgres.rs"]
mod place;

omniq_conformance::suite!(place::Postgres {
    url: omniq_services::postgres().url().to_owned(),
    durability: omniq_store::Durability::Disk,
});
