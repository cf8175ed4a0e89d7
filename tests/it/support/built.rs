//! Components that scripts build beforehand.

use std::env;
use std::path::PathBuf;

/// The path of `FOLDER/NAME.wasm` in cargo's target folder; `None`, with a printed reason, if nobody built it and the
/// tests were told to do without (`OMNIQ_POLYGLOT=no`).
///
/// # Panics
/// It is missing although it should be there; the message names the script that builds it.
pub fn component(folder: &str, name: &str) -> Option<String> {
    let own = env::current_exe().expect("a process knows its file");
    let target = own.ancestors().nth(3).expect("cargo keeps tests three folders deep");
    let file: PathBuf = [target.as_os_str(), folder.as_ref(), name.as_ref()].iter().collect();
    if file.exists() {
        return Some(file.to_str().expect("the path is UTF-8").to_owned());
    }
    if folder == "polyglot" && env::var("OMNIQ_POLYGLOT").is_ok_and(|choice| choice == "no") {
        eprintln!("left out: `{}` was not built", file.display());
        return None;
    }
    panic!("`{}` is missing; build it with scripts/build-{folder}", file.display());
}
