//! The store of modules: a version's bytes never change under it.

use omniq_model::{Digest, Module};
use omniq_store::Pushed;

use crate::kit::{Kit, TICK, name};

/// A module whose bytes are `fill`, repeated. The digest is made up: stores do not check it, callers do.
fn module(kit: &Kit, called: &str, version: &str, fill: u8) -> (Module, Vec<u8>) {
    let bytes = vec![fill; 100];
    let module = Module {
        name: name(called),
        version: name(version),
        digest: Digest::from_sha256([fill; 32]),
        size: bytes.len() as u64,
        functions: Vec::new(),
        command: true,
        capabilities: vec!["http".into()],
        pushed: kit.now(),
        unknown: Default::default(),
    };
    (module, bytes)
}

async fn push(kit: &Kit, called: &str, version: &str, fill: u8) -> Pushed {
    let (module, bytes) = module(kit, called, version, fill);
    kit.modules().push(module, bytes).await.unwrap()
}

async fn found(kit: &Kit, called: &str, version: Option<&str>) -> Option<String> {
    let version = version.map(name);
    let module = kit.modules().find(&name(called), version.as_ref()).await.unwrap();
    module.map(|module| module.version.to_string())
}

pub(crate) async fn a_module_comes_back_as_it_was_pushed(kit: &Kit) {
    let (module, bytes) = module(kit, "resize", "1.0.0", 1);
    assert_eq!(kit.modules().push(module.clone(), bytes.clone()).await.unwrap(), Pushed::Created);
    let found = kit.modules().find(&name("resize"), Some(&name("1.0.0"))).await.unwrap();
    assert_eq!(found, Some(module.clone()));
    assert_eq!(kit.modules().bytes(&module.digest).await.unwrap(), Some(bytes));
    assert_eq!(kit.modules().bytes(&Digest::from_sha256([9; 32])).await.unwrap(), None);
}

pub(crate) async fn pushing_the_same_again_changes_nothing(kit: &Kit) {
    push(kit, "resize", "1.0.0", 1).await;
    let before = kit.modules().list().await.unwrap();
    kit.advance(TICK);
    assert_eq!(push(kit, "resize", "1.0.0", 1).await, Pushed::Unchanged);
    assert_eq!(kit.modules().list().await.unwrap(), before);
}

pub(crate) async fn what_was_damaged_is_put_right_by_a_push(kit: &Kit) {
    let (one, whole) = module(kit, "resize", "1.0.0", 1);
    let (two, _) = module(kit, "thumb", "1.0.0", 1);
    let bytes = async || kit.modules().bytes(&one.digest).await.unwrap().unwrap();
    let push = async |module: &Module, bytes: &[u8]| {
        kit.modules().push(module.clone(), bytes.to_vec()).await.unwrap()
    };
    assert_eq!(push(&one, b"damaged").await, Pushed::Created);
    assert_eq!(bytes().await, b"damaged");
    assert_eq!(push(&one, &whole).await, Pushed::Unchanged);
    assert_eq!(bytes().await, whole);
    // Also what others have whose bytes are the same, whoever of them is pushed and whoever is forgotten then.
    assert_eq!(push(&two, b"damaged").await, Pushed::Created);
    assert_eq!(bytes().await, b"damaged");
    assert_eq!(push(&one, &whole).await, Pushed::Unchanged);
    assert_eq!(bytes().await, whole);
    assert!(kit.modules().remove(&one.name, &one.version).await.unwrap());
    assert_eq!(bytes().await, whole);
}

pub(crate) async fn other_bytes_under_the_same_version_are_refused(kit: &Kit) {
    push(kit, "resize", "1.0.0", 1).await;
    let there = Digest::from_sha256([1; 32]);
    assert_eq!(push(kit, "resize", "1.0.0", 2).await, Pushed::Conflict(there));
    let found = kit.modules().find(&name("resize"), None).await.unwrap().unwrap();
    assert_eq!(found.digest, there);
    let refused = kit.modules().bytes(&Digest::from_sha256([2; 32])).await.unwrap();
    assert_eq!(refused, None, "nothing of it is kept");
}

pub(crate) async fn without_a_version_the_last_one_pushed_is_meant(kit: &Kit) {
    push(kit, "resize", "2.0.0", 2).await;
    kit.advance(TICK);
    push(kit, "resize", "1.9.0", 1).await;
    assert_eq!(found(kit, "resize", None).await.as_deref(), Some("1.9.0"));
    assert_eq!(found(kit, "resize", Some("2.0.0")).await.as_deref(), Some("2.0.0"));
    assert_eq!(found(kit, "resize", Some("3.0.0")).await, None);
    assert_eq!(found(kit, "other", None).await, None);
}

pub(crate) async fn modules_are_listed_by_name_the_newest_first(kit: &Kit) {
    for (called, version, fill) in [("b", "1", 1), ("a", "1", 2), ("b", "2", 3), ("a", "0", 4)] {
        push(kit, called, version, fill).await;
        kit.advance(TICK);
    }
    let listed = kit.modules().list().await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|module| (module.name.as_str(), module.version.as_str())).collect();
    assert_eq!(listed, [("a", "0"), ("a", "1"), ("b", "2"), ("b", "1")]);
}

pub(crate) async fn bytes_live_as_long_as_something_points_to_them(kit: &Kit) {
    push(kit, "resize", "1.0.0", 1).await;
    push(kit, "thumb", "1.0.0", 1).await;
    let digest = Digest::from_sha256([1; 32]);
    let version = name("1.0.0");
    assert!(kit.modules().remove(&name("resize"), &version).await.unwrap());
    assert!(!kit.modules().remove(&name("resize"), &version).await.unwrap());
    assert!(kit.modules().bytes(&digest).await.unwrap().is_some());
    assert!(kit.modules().remove(&name("thumb"), &version).await.unwrap());
    assert_eq!(kit.modules().bytes(&digest).await.unwrap(), None);
    assert_eq!(push(kit, "resize", "1.0.0", 2).await, Pushed::Created, "the version is free again");
}

pub(crate) async fn large_modules_are_kept(kit: &Kit) {
    let (mut module, _) = module(kit, "large", "1.0.0", 1);
    let bytes: Vec<u8> = (0..8 << 20).map(|index: u32| (index % 253) as u8).collect();
    module.size = bytes.len() as u64;
    kit.modules().push(module.clone(), bytes.clone()).await.unwrap();
    let got = kit.modules().bytes(&module.digest).await.unwrap();
    assert!(got == Some(bytes), "8 MiB come back as they were");
}

pub(crate) async fn modules_survive_reopening(kit: &Kit) {
    let (module, bytes) = module(kit, "resize", "1.0.0", 1);
    kit.modules().push(module.clone(), bytes.clone()).await.unwrap();
    let kit = kit.reopen().await;
    assert_eq!(kit.modules().list().await.unwrap(), std::slice::from_ref(&module));
    assert_eq!(kit.modules().bytes(&module.digest).await.unwrap(), Some(bytes));
}
