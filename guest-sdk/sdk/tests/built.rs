//! What becomes of a module when it is compiled: the guests of the end-to-end tests, built as their authors build
//! them, and read back.

#![expect(clippy::unwrap_used, reason = "a test; clippy sees only those that are marked as one")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use wit_component::WitPrinter;

/// Builds a guest, into a folder that all tests share, and returns its bytes.
fn built(guest: &str) -> Vec<u8> {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    let target = TARGET.get_or_init(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guest").join(guest);
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2"])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status()
        .unwrap();
    assert!(status.success(), "`{guest}` does not build; has `scripts/guest-toolchain` been run?");
    let file = format!("wasm32-wasip2/release/{}.wasm", guest.replace('-', "_"));
    std::fs::read(target.join(file)).unwrap()
}

/// The names of what a component imports.
fn imports(component: &[u8]) -> Vec<String> {
    let decoded = wit_component::decode(component).unwrap();
    let resolve = decoded.resolve();
    let (_, world) = resolve.worlds.iter().next().unwrap();
    world.imports.keys().map(|key| resolve.name_world_key(key)).collect()
}

fn omniq_imports(component: &[u8]) -> Vec<String> {
    imports(component).into_iter().filter(|name| name.starts_with("omniq:")).collect()
}

/// The contents of the custom sections with this name, at any depth.
fn sections(component: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        if let wasmparser::Payload::CustomSection(section) = payload.unwrap()
            && section.name() == name
        {
            found.push(section.data().to_vec());
        }
    }
    found
}

#[test]
fn every_type_reaches_the_component() {
    let component = built("every-type");
    let decoded = wit_component::decode(&component).unwrap();
    let resolve = decoded.resolve();
    let mut printer = WitPrinter::default();
    // WASI is the business of the standard library, and differs from one version of Rust to the next.
    let own = resolve
        .packages
        .iter()
        .filter(|(_, package)| !matches!(package.name.namespace.as_str(), "wasi" | "root"));
    let own: Vec<_> = own.map(|(id, _)| id).collect();
    let (main, rest) = own.split_first().unwrap();
    printer.print(resolve, *main, rest).unwrap();
    let wit = printer.output.to_string();

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/every-type.wit");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, &wit).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(wit, expected, "run with UPDATE_EXPECTED=1 and look at the difference");
}

#[test]
fn what_is_not_used_is_not_imported() {
    let interface = |name: &str| format!("omniq:task/{name}@0.1.0");
    // Its functions mention types of the contract, and call nothing.
    assert_eq!(omniq_imports(&built("every-type")), [interface("types")]);
    // It asks whether it was cancelled.
    assert_eq!(omniq_imports(&built("trouble")), [interface("context")]);
    let all = ["types", "context", "progress", "log", "output"].map(interface);
    assert_eq!(omniq_imports(&built("context")), all);
}

#[test]
fn docs_are_in_the_section() {
    let sections = sections(&built("every-type"), "omniq:task");
    let [section] = sections.as_slice() else { panic!("{} sections", sections.len()) };
    // Two modules, one line each.
    let lines: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(section)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let echo = lines.iter().find(|line| line["interface"] == "component:every-type/echo").unwrap();
    assert_eq!(echo["version"], 1);
    assert_eq!(echo["functions"]["join"]["docs"], "References work as parameters.");
    assert_eq!(echo["types"]["person"]["members"]["name"], "The full name.");
    assert!(lines.iter().any(|line| line["interface"] == "test:names/names@1.2.3"));
}

/// The backtrace of a trap is of use only if functions have names.
#[test]
fn release_builds_keep_the_names_of_functions() {
    let names = sections(&built("trouble"), "name");
    let has =
        |name: &[u8]| names.iter().any(|section| section.windows(name.len()).any(|at| at == name));
    assert!(has(b"deep_within"));
}

#[test]
fn a_handler_exports_the_fixed_world() {
    let component = built("handler");
    let decoded = wit_component::decode(&component).unwrap();
    let resolve = decoded.resolve();
    let (_, world) = resolve.worlds.iter().next().unwrap();
    let exports: Vec<_> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    assert_eq!(exports, ["omniq:task/describe@0.1.0", "omniq:task/handler@0.1.0"]);
    assert_eq!(omniq_imports(&component), ["omniq:task/types@0.1.0"]);
}
