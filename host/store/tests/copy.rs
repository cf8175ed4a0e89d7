//! Whole queues copied between backends that need no server.
#![cfg(feature = "sqlite")]

#[path = "place/memory.rs"]
mod memory;
#[path = "place/sqlite.rs"]
mod sqlite;

use omniq_conformance::check_copy;
use omniq_store::Durability;

#[tokio::test]
async fn from_memory_to_sqlite() {
    check_copy(&memory::Memory, &sqlite::Sqlite(Durability::None)).await;
}

#[tokio::test]
async fn from_sqlite_to_memory() {
    check_copy(&sqlite::Sqlite(Durability::None), &memory::Memory).await;
}

#[tokio::test]
async fn from_sqlite_to_sqlite() {
    let sqlite = sqlite::Sqlite(Durability::None);
    check_copy(&sqlite, &sqlite).await;
}
