//! `omniq inspect`, `omniq help` and `omniq --version`.

use std::fs;

use crate::support::omniq::{Omniq, wat};

#[test]
fn functions_are_shown_with_their_types() {
    let text = Omniq::new(["inspect", &wat("jobs")]).says();
    for line in [
        "component  jobs.wat",
        "kind       functions",
        "  add(a: s32, b: s32) -> s32",
        "  find(row: u32) -> result<u64, missing>",
        "  length(content: list<u8>) -> u32",
        "  record rect { width: u32, height: u32 }",
        "  variant shape { circle(f64), square(f64) }",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
    }
    assert!(!text.contains("imports"), "it has none: {text}");
}

#[test]
fn imports_are_shown_with_what_grants_them() {
    let text = Omniq::new(["inspect", &wat("world")]).says();
    for (capability, option) in [
        ("environment", "--grant-env"),
        ("filesystem", "--grant-dir"),
        ("key-value", "--grant-kv"),
        ("config", "--grant-config"),
        ("clock", "--clock"),
        ("random", "--seed"),
    ] {
        let is_row = |line: &str| line.trim().starts_with(capability) && line.contains(option);
        assert!(text.lines().any(is_row), "{capability} in {text}");
    }
    let row = text.lines().position(|line| line.trim().starts_with("key-value")).unwrap();
    assert_eq!(text.lines().nth(row + 1), Some("    wasi:keyvalue/store@0.2.0-draft"));
}

#[test]
fn json_has_all_of_it() {
    let json = Omniq::new(["inspect", &wat("both"), "-o", "json"]).end().json();
    assert_eq!(json["kinds"], serde_json::json!(["functions", "command"]));
    assert_eq!(json["command"], "wasi:cli/run@0.2.0");
    assert_eq!(json["functions"][0]["wit"], "()");
    assert_eq!(json["imports"][0]["name"], "wasi:cli/exit@0.2.0");
    assert!(json["digest"].as_str().unwrap().starts_with("sha256:"));
    let json = Omniq::new(["inspect", &wat("jobs"), "-o", "json"]).end().json();
    let area =
        json["functions"].as_array().unwrap().iter().find(|one| one["name"] == "area").unwrap();
    assert_eq!(area["types"], serde_json::json!(["record rect { width: u32, height: u32 }"]));
    assert_eq!(area["signature"]["result"], "u64");
}

#[test]
fn what_is_no_component_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let component = wat::parse_file(wat("jobs")).unwrap();
    let module = wat::parse_str("(module)").unwrap();
    let unknown = wat::parse_str(
        r#"(component (import "acme:mail/send" (instance (export "now" (func))))
             (core module $m (func (export "f"))) (core instance $i (instantiate $m))
             (func (export "f") (canon lift (core func $i "f"))))"#,
    );
    for (name, bytes, says) in [
        ("empty.wasm", Vec::new(), "empty"),
        ("picture.wasm", b"\x89PNG\r\n\x1a\n".to_vec(), "not WebAssembly"),
        ("module.wasm", module, "core module"),
        ("cut.wasm", component[..component.len() / 2].to_vec(), "cut off"),
        ("unknown.wasm", unknown.unwrap(), "`acme:mail/send`"),
        ("garbage.wat", b"(component".to_vec(), "line 1"),
        ("nothing.wat", b"(component)".to_vec(), "nothing to run"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        for command in ["inspect", "run"] {
            let ended = Omniq::new([command, path.to_str().unwrap(), "-o", "json"]).end();
            assert_eq!(ended.code, 13, "{command} {name}: {}", ended.stderr);
            assert!(ended.stderr.starts_with("error: "), "{command} {name}: {}", ended.stderr);
            assert!(ended.stderr.contains(says), "{command} {name}: {}", ended.stderr);
            assert_eq!(ended.error()["kind"], "invalid-component", "{command} {name}");
        }
    }
}

#[test]
fn a_large_file_is_not_even_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let ended = Omniq::new(["inspect", path.to_str().unwrap()]).end();
    assert_eq!(ended.code, 13);
    assert!(ended.stderr.contains("--max-module"), "{}", ended.stderr);
}

#[test]
fn help_topics_are_complete() {
    let codes = Omniq::new(["help", "exit-codes"]).says();
    for row in ["  0 ", "  4  denied", "  7  args-mismatch", " 10  fuel", " 12  trap", "130  "] {
        assert!(codes.lines().any(|line| line.starts_with(row)), "{row} in {codes}");
    }
    assert!(Omniq::new(["help", "limits"]).says().contains("--fuel N"));
    assert!(Omniq::new(["help", "grants"]).says().contains("--grant-dir"));
    assert!(Omniq::new(["help", "run"]).says().contains("Usage: omniq run"));
    assert!(Omniq::new(["help"]).says().contains("inspect"));
    assert_eq!(Omniq::new(["help", "nothing"]).end().code, 2);
}

#[test]
fn the_version_names_the_engine() {
    let version = Omniq::new(["--version"]).says();
    assert!(version.starts_with("omniq 0."), "{version}");
    assert!(version.contains("wasmtime 48."), "{version}");
}
