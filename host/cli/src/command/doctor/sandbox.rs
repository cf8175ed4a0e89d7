//! The sandbox: whether code can be kept, and whether guests that never stop or never have enough are stopped.

use std::time::{Duration, Instant};

use omniq::config::Config;
use omniq_model::Kind;
use omniq_sandbox::inspect::text;
use omniq_sandbox::{Call, Limits, Module, Sandbox};

use super::Check;
use crate::output::problem::chain;
use crate::output::report;

/// Two guests that no host should have to fear.
const HOSTILE: &[u8] = br#"(component
    (core module $m
        (memory 1)
        (func (export "spin") (loop (br 0)))
        (func (export "hoard")
            (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
            unreachable))
    (core instance $i (instantiate $m))
    (func (export "spin") (canon lift (core func $i "spin")))
    (func (export "hoard") (canon lift (core func $i "hoard"))))"#;

/// How long the endless loop is let run, and how late it may be stopped.
const TIMEOUT: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(2);
/// What the hoarder may have.
const MEMORY: u64 = 16 << 20;

/// The folder of compiled code.
pub fn cache(config: &Config) -> Check {
    let name = "code cache";
    let Some(folder) = config.cache.code_folder() else {
        let fix = "name a folder with `OMNIQ_CACHE_DIR`";
        return Check::warning(name, "compiled code is not kept: no folder is known", fix);
    };
    let shown = folder.display().to_string();
    match Sandbox::builder().cache(folder, config.cache.size.0).open() {
        Ok(_) => Check::good(name, format!("compiled code is kept in `{shown}`")),
        Err(omniq_sandbox::Error::Cache(error)) => {
            let fix = "repair the folder, or name another with `OMNIQ_CACHE_DIR`";
            Check::warning(name, format!("compiled code is not kept: {}", chain(&error)), fix)
        }
        Err(error) => Check::failed(name, chain(&error), "this machine cannot run the engine"),
    }
}

/// Runs hostile guests, and sees them stopped.
pub fn limits() -> Vec<Check> {
    match load() {
        Ok(module) => vec![spin(&module), hoard(&module)],
        Err(why) => vec![Check::failed("sandbox", why, "this machine cannot run the engine")],
    }
}

fn load() -> Result<Module, String> {
    let bytes = text::to_binary(HOSTILE, None).map_err(|error| chain(&error))?;
    let sandbox = Sandbox::builder().open().map_err(|error| chain(&error))?;
    sandbox.load(&bytes).map_err(|error| chain(&error))
}

fn spin(module: &Module) -> Check {
    let name = "endless loop";
    let began = Instant::now();
    let kind =
        call(module, "spin", Limits { timeout: TIMEOUT, fuel: u64::MAX, ..Limits::default() });
    let took = began.elapsed();
    if kind == Some(Kind::Timeout) && took < LATEST {
        return Check::good(
            name,
            format!("stopped after {} of {} allowed", report::span(took), report::span(TIMEOUT)),
        );
    }
    let why = format!("ended with {} after {}", shown(kind), report::span(took));
    Check::failed(
        name,
        why,
        "do not run foreign code here; is the machine overloaded, or its clock stopped?",
    )
}

fn hoard(module: &Module) -> Check {
    let name = "memory bomb";
    match call(module, "hoard", Limits { memory: MEMORY, ..Limits::default() }) {
        Some(Kind::Memory) => Check::good(name, format!("stopped at {}", report::bytes(MEMORY))),
        kind => Check::failed(
            name,
            format!("ended with {}", shown(kind)),
            "do not run foreign code here",
        ),
    }
}

fn call(module: &Module, function: &str, limits: Limits) -> Option<Kind> {
    let function = module.function(function).ok()?;
    let outcome = function.call_blocking(&[0xa0], Call { limits, ..Call::default() });
    outcome.result.err().map(|failure| failure.kind)
}

fn shown(kind: Option<Kind>) -> String {
    kind.map_or_else(|| String::from("success"), |kind| format!("`{kind}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::State;

    #[test]
    fn hostile_guests_are_stopped() {
        for check in limits() {
            assert_eq!(check.state, State::Good, "{check:?}");
        }
    }
}
