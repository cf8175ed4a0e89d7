//! `wasi:logging`: log lines, which go the way of `omniq:task/log` and count against the same limits.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::State;
use super::task::Level;

mod bindings {
    wasmtime::component::bindgen!({ path: "wit/logging" });
}

use bindings::wasi::logging::logging::Level as Asked;

/// The proposal had no version for most of its time, and was built against without one.
const INTERFACES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        linker.instance(name)?.func_wrap(
            "log",
            |mut store: StoreContextMut<'_, State>,
             (level, context, message): (Asked, String, String)| {
                let state = store.data_mut();
                state.seam.enter("wasi:logging/logging");
                let mut fields = Vec::new();
                if !context.is_empty() {
                    fields.push(("context".to_owned(), context));
                }
                Ok(state.task.log(state.limits.log_lines, translate(level), &message, &fields)?)
            },
        )?;
    }
    Ok(())
}

fn translate(level: Asked) -> Level {
    match level {
        Asked::Trace => Level::Trace,
        Asked::Debug => Level::Debug,
        Asked::Info => Level::Info,
        Asked::Warn => Level::Warn,
        Asked::Error | Asked::Critical => Level::Error,
    }
}
