//! Modules on their way into the store.

use omniq::{Error, Kind, Queue};

use crate::kit::{MATH, queue};

const OTHER: &str = r#"(component
    (core module $m (func (export "one") (result i32) (i32.const 1)))
    (core instance $i (instantiate $m))
    (func (export "one") (result s32) (canon lift (core func $i "one"))))"#;

#[tokio::test]
async fn a_push_may_be_repeated_and_a_version_is_for_ever() {
    let queue = queue().await;
    let again = queue.push("math", MATH).version("1").await.unwrap();
    assert!(!again.is_new);
    let error = queue.push("math", OTHER).version("1").await.unwrap_err();
    let Error::VersionConflict { there, given, .. } = &error else { panic!("{error}") };
    assert_eq!(there, &again.module.digest);
    let text = error.to_string();
    assert!(text.contains(&there.to_string()) && text.contains(&given.to_string()), "{text}");
    assert_eq!(error.kind(), Kind::Conflict);
    let other = queue.push("math", OTHER).version("2").await.unwrap();
    assert!(other.is_new && other.module.digest == *given);
}

#[tokio::test]
async fn what_is_known_of_a_module_needs_no_engine() {
    let queue = queue().await;
    let module = queue.module("math").await.unwrap();
    assert_eq!(module.version.as_str(), "1");
    let functions: Vec<_> =
        module.functions.iter().map(|function| function.short.as_str()).collect();
    assert_eq!(functions, ["add", "div", "spin"]);
    assert_eq!(module.functions[0].signature.to_string(), "(a: s32, b: s32) -> s32");
    assert!(!module.command);
    assert_eq!(queue.modules().await.unwrap(), [module]);
}

#[tokio::test]
async fn the_version_pushed_last_is_meant_where_none_is_said() {
    let queue = queue().await;
    let other = queue.push("math", OTHER).await.unwrap().module;
    assert_eq!(other.version.as_str(), &other.digest.to_hex()[..12]);
    let task = queue.task("math", "one").await.unwrap();
    assert_eq!(task.info().await.unwrap().task.unwrap().module.digest, other.digest);
    assert!(queue.task("math@1", "one").await.is_err());
    assert!(queue.remove_module(format!("math@{}", other.version)).await.unwrap());
    assert!(queue.task("math", "one").await.is_err());
    assert!(!queue.remove_module("math@9").await.unwrap());
    assert_eq!(queue.remove_module("math").await.unwrap_err().kind(), Kind::Usage);
}

#[tokio::test]
async fn damaged_bytes_are_put_right_by_a_push() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().join("q").display());
    let queue = Queue::builder().tasks(&url).open().await.unwrap();
    let module = queue.push("math", MATH).version("1").await.unwrap().module;
    assert!(queue.is_module_sound(&module.digest).await.unwrap());
    let bytes = folder.path().join("q/modules/bytes").join(module.digest.to_hex());
    let damage = || {
        for push in std::fs::read_dir(&bytes).unwrap() {
            std::fs::write(push.unwrap().path(), "damaged").unwrap();
        }
    };
    damage();
    assert!(!queue.is_module_sound(&module.digest).await.unwrap());
    assert!(!queue.push("math", MATH).version("1").await.unwrap().is_new);
    assert!(queue.is_module_sound(&module.digest).await.unwrap());
    // What is missing is put there, too.
    std::fs::remove_dir_all(&bytes).unwrap();
    assert!(!queue.is_module_sound(&module.digest).await.unwrap());
    assert!(!queue.push("math", MATH).version("1").await.unwrap().is_new);
    assert!(queue.is_module_sound(&module.digest).await.unwrap());
    queue.close().await.unwrap();
}

#[tokio::test]
async fn a_file_gives_its_name() {
    let queue = queue().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.wat");
    let missing = queue.push_file(&path).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound, "{missing}");
    std::fs::write(&path, OTHER).unwrap();
    assert_eq!(queue.push_file(&path).await.unwrap().module.name.as_str(), "jobs");
    let named = queue.push_file(&path).name("acme/jobs").version("1.0").await.unwrap().module;
    assert_eq!((named.name.as_str(), named.version.as_str()), ("acme/jobs", "1.0"));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let queue = queue().await;
    for (name, bytes, kind, part) in [
        ("a", &b"PNG"[..], Kind::InvalidComponent, "not WebAssembly"),
        ("a", b"", Kind::InvalidComponent, "empty"),
        ("a", b"\0asm\x01\0\0\0", Kind::InvalidComponent, "core module"),
        ("a@1", MATH.as_bytes(), Kind::Usage, "stands between"),
        ("", MATH.as_bytes(), Kind::Usage, "is not a name"),
    ] {
        let error = queue.push(name, bytes).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(queue.modules().await.unwrap().len(), 1);
}
