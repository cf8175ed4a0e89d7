//! Results, events and modules as objects, held to what every store of them promises.
#![cfg(all(feature = "object", feature = "sqlite"))]

#[path = "place/object.rs"]
mod place;

#[tokio::test]
async fn files_keep_what_stores_promise() {
    place::hold(&place::Objects::Folder).await;
}

#[tokio::test]
async fn objects_in_memory_keep_what_stores_promise() {
    place::hold(&place::Objects::Memory).await;
}
