//! The sandbox a run takes place in, and the folder its compiled code is kept in.

use std::env;
use std::path::PathBuf;

use omniq_sandbox::{Error, Module, Rules, Sandbox};

use crate::component::Component;
use crate::output::code::{Code, Compiling};
use crate::output::console;
use crate::output::problem::{Problem, chain};

/// Bytes of compiled code that are kept: some hundred components, or fifty of the largest.
const CACHE_BYTES: u64 = 1 << 30;

/// Settings of the sandbox.
#[derive(Debug)]
pub struct Settings {
    /// Which components are taken.
    pub rules: Rules,
    /// Bytes of stack.
    pub stack: usize,
    /// Whether compiled code is kept.
    pub cache: bool,
}

/// Opens a sandbox; without its cache if that cannot be used, which is worth a warning and no more.
///
/// # Errors
/// The engine does not run on this machine.
pub fn open(settings: Settings) -> Result<Sandbox, Problem> {
    let builder = Sandbox::builder().rules(settings.rules).stack(settings.stack);
    let folder = if settings.cache { cache_folder() } else { None };
    let Some(folder) = folder else { return Ok(builder.open()?) };
    match builder.clone().cache(folder, CACHE_BYTES).open() {
        Err(Error::Cache(error)) => {
            console::warning(&format!("compiled code is not kept: {}", chain(&error)));
            Ok(builder.open()?)
        }
        opened => Ok(opened?),
    }
}

/// Loads a component, and says where its code came from.
///
/// # Errors
/// The component cannot be compiled.
pub fn load(sandbox: &Sandbox, component: &Component) -> Result<(Module, Code), Problem> {
    let mut compiling = None;
    let size = component.inspection().size;
    let module = sandbox
        .load_inspected(component.inspected(), |_step| compiling = Some(Compiling::start(size)))?;
    Ok((module, compiling.map_or(Code::Cached, Compiling::finish)))
}

/// `$OMNIQ_CACHE_DIR`, or `omniq` in the user's folder for caches; `None` for a user who has none.
fn cache_folder() -> Option<PathBuf> {
    folder_from(|name| env::var_os(name).map(PathBuf::from))
}

fn folder_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    // A relative path in one of the last two is to be ignored, as their specification has it (XDG base directories).
    let base = set("OMNIQ_CACHE_DIR").or_else(|| {
        let caches = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let caches =
            caches.or_else(|| Some(set("HOME").filter(|path| path.is_absolute())?.join(".cache")));
        Some(caches?.join("omniq"))
    });
    Some(base?.join("code"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_user_keeps_caches() {
        #[track_caller]
        fn check(variables: &[(&str, &str)], expected: Option<&str>) {
            let value = |name: &str| {
                variables
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| PathBuf::from(value))
            };
            assert_eq!(folder_from(value), expected.map(PathBuf::from));
        }
        check(&[("OMNIQ_CACHE_DIR", "here"), ("HOME", "/h")], Some("here/code"));
        check(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/omniq/code"));
        check(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], Some("/h/.cache/omniq/code"));
        check(&[("OMNIQ_CACHE_DIR", ""), ("HOME", "/h")], Some("/h/.cache/omniq/code"));
        check(&[("HOME", "")], None);
        check(&[], None);
    }
}
