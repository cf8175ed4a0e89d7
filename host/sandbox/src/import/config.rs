//! `wasi:config`: settings by name, from the grants. A guest without any sees none; that is no error.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::State;

mod bindings {
    wasmtime::component::bindgen!({ path: "wit/config" });
}

use bindings::wasi::config::store::Error;

/// Both states of the proposal that are in use have the same functions.
const INTERFACES: [&str; 2] = ["wasi:config/store@0.2.0-rc.1", "wasi:config/store@0.2.0-draft"];

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap(
            "get",
            |mut store: StoreContextMut<'_, State>, (key,): (String,)| {
                let state = enter(store.data_mut());
                Answer::Ok((Ok(state.grants.config.get(&key).cloned()),))
            },
        )?;
        interface.func_wrap("get-all", |mut store: StoreContextMut<'_, State>, (): ()| {
            let state = enter(store.data_mut());
            let all = state.grants.config.iter().map(|(key, value)| (key.clone(), value.clone()));
            Answer::Ok((Ok(all.collect::<Vec<_>>()),))
        })?;
    }
    Ok(())
}

fn enter(state: &mut State) -> &mut State {
    state.seam.enter("wasi:config/store");
    state
}
