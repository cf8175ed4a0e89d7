//! PostgreSQL behind PgBouncer in transaction mode, held to what every store promises.
#![cfg(feature = "postgres")]

#[path = "place/postgres.rs"]
mod place;

omniq_conformance::suite!(place::Postgres {
    url: format!("{}?pgbouncer=true", omniq_services::pgbouncer().url()),
    durability: omniq_store::Durability::Disk,
});
