//! Components that real toolchains made, where some have been built on this machine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

/// The components under the folder that `OMNIQ_COMPONENTS` names.
fn components() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("OMNIQ_COMPONENTS") else {
        eprintln!("skipped: set `OMNIQ_COMPONENTS` to a folder with components");
        return Vec::new();
    };
    let entries = Path::new(&folder).read_dir().unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "wasm"));
    paths.sort();
    paths
}

#[test]
fn what_real_toolchains_make_is_read() {
    for path in components() {
        let bytes = std::fs::read(&path).unwrap();
        let start = Instant::now();
        let inspection = inspect(&bytes, &Rules::default());
        println!("{} {} bytes {:?}", path.display(), bytes.len(), start.elapsed());
        let inspection = inspection.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!(
            "  {:?} {:?} {:?}",
            inspection.shapes(),
            inspection.capabilities(),
            inspection.producers
        );
        for function in &inspection.functions {
            println!("  {}{}", inspection.short_name(&function.name), function.signature);
        }
    }
}
