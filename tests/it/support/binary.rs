//! Where the binary under test is.
//!
//! Cargo tells only the tests of a binary's own package where it is. These ask cargo to build it, into the same folder
//! and with the same profile as themselves: nearly always there is nothing to do. `OMNIQ_BINARY` names another one,
//! such as a release.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `omniq`, built by the time this returns.
///
/// # Panics
/// It cannot be built.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("OMNIQ_BINARY") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    // `TARGET/PROFILE/deps/it-0123456789abcdef`, where the profile `dev` has the folder `debug`.
    let own = env::current_exe().expect("a process knows its file");
    let folder = own.ancestors().nth(2).expect("cargo keeps tests two folders deep");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("`{}` is no folder of cargo's", folder.display()),
    };
    let target = folder.parent().expect("a profile's folder lies in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo tells a test which package is its own. Build scripts that ask for that would take this for a change, and all that
    // needs them would be built anew: for this build, and again for the next one by hand.
    let of_test =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of| name.starts_with(of));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_test)) {
        cargo.env_remove(name);
    }
    let status = cargo
        // With the features that the whole workspace has, or else cargo would build the engine a second time.
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bin",
            "omniq",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs, since it runs this test");
    assert!(status.success(), "`omniq` cannot be built; name a binary with OMNIQ_BINARY");
    folder.join(format!("omniq{}", env::consts::EXE_SUFFIX))
}
