//! Whole queues copied between backends, in both directions, on real servers where there are any.
#![cfg(feature = "sqlite")]

#[cfg(feature = "object")]
#[path = "place/file.rs"]
mod file;
#[path = "place/memory.rs"]
mod memory;
#[cfg(feature = "nats")]
#[path = "place/nats.rs"]
mod nats;
#[cfg(feature = "postgres")]
#[path = "place/postgres.rs"]
mod postgres;
#[cfg(feature = "redis")]
#[path = "place/redis.rs"]
mod redis;
#[path = "place/sqlite.rs"]
mod sqlite;

use omniq_conformance::{Factory, check_copy};
use omniq_store::Durability;

const SQLITE: sqlite::Sqlite = sqlite::Sqlite(Durability::None);

async fn there_and_back(other: &dyn Factory) {
    check_copy(&SQLITE, other).await;
    check_copy(other, &SQLITE).await;
}

#[tokio::test]
async fn memory() {
    there_and_back(&memory::Memory).await;
}

#[tokio::test]
async fn sqlite() {
    check_copy(&SQLITE, &SQLITE).await;
}

#[cfg(feature = "object")]
#[tokio::test(flavor = "multi_thread")]
async fn files() {
    there_and_back(&file::Files(Durability::None)).await;
}

#[cfg(feature = "postgres")]
fn server() -> postgres::Postgres {
    let url = omniq_services::postgres().url().to_owned();
    postgres::Postgres { url, durability: Durability::Disk }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    there_and_back(&server()).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    there_and_back(&redis::Redis { url: omniq_services::redis().url().to_owned() }).await;
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread")]
async fn nats() {
    there_and_back(&nats::Nats::here()).await;
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn from_one_server_to_another() {
    let redis = redis::Redis { url: omniq_services::redis().url().to_owned() };
    check_copy(&server(), &redis).await;
}
