//! Bytes of a module that were damaged in the store, and come again whole.
#![cfg(all(feature = "object", feature = "postgres", feature = "redis", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use omniq_model::{Digest, Module};
use omniq_store::{Options, Pushed, open_modules};

/// "abc", and its SHA-256 as FIPS 180-4 has it.
const WHOLE: (&[u8], [u8; 32]) = (
    b"abc",
    [
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22,
        0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00,
        0x15, 0xad,
    ],
);

fn module(name: &str) -> Module {
    Module {
        name: name.parse().unwrap(),
        version: "1".parse().unwrap(),
        digest: Digest::from_sha256(WHOLE.1),
        size: 3,
        functions: Vec::new(),
        command: true,
        capabilities: Vec::new(),
        pushed: Default::default(),
        unknown: Default::default(),
    }
}

/// Whichever of several modules with the same bytes is pushed, all of them have what it brought.
async fn check(url: &str) {
    let store = open_modules(url, &Options::default()).await.unwrap();
    let digest = module("a").digest;
    assert_eq!(store.push(module("a"), b"damaged".into()).await.unwrap(), Pushed::Created);
    assert_eq!(store.bytes(&digest).await.unwrap().as_deref(), Some(&b"damaged"[..]));
    assert_eq!(store.push(module("b"), WHOLE.0.into()).await.unwrap(), Pushed::Created);
    assert_eq!(store.bytes(&digest).await.unwrap().as_deref(), Some(WHOLE.0));
    store.close().await.unwrap();
}

#[tokio::test]
async fn memory() {
    check("memory:damaged").await;
}

#[tokio::test]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    check(&format!("sqlite:{}", folder.path().join("q.db").display())).await;
}

#[tokio::test]
async fn file() {
    let folder = tempfile::tempdir().unwrap();
    check(&format!("file:{}", folder.path().join("q").display())).await;
}

#[tokio::test]
async fn postgres() {
    check(omniq_services::postgres().url()).await;
}

#[tokio::test]
async fn redis() {
    check(omniq_services::redis().url()).await;
}
