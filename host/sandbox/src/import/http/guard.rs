//! Bounds on what a guest can make the host hold through `wasi:http/types`.
//!
//! The engine keeps methods, authorities, paths and header maps for a guest that never sends anything, and hardly bounds
//! how long they are and how many; ten thousand requests with a 16 MB method each would be 160 GB. So the few functions
//! that take such things in are replaced by ones that look first, and the one that sends fills in a path where there is
//! none.

use omniq_model::Kind;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host;
use wasmtime_wasi_http::p2::bindings::http::types::{HostFields, HostOutgoingRequest, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest as Request;
use wasmtime_wasi_http::{FieldMap, RequestOptions};

use super::{HANDLER, TYPES};
use crate::import::State;
use crate::limit::Stop;

/// Header maps a call may make for each request it may send, which takes one or two, and besides.
const HEADER_MAPS: u32 = 5;
const MORE_HEADER_MAPS: u32 = 100;
/// Bytes of a method, and of a host with its port.
const TOKEN: usize = 512;

/// The engine's own version of the interfaces; every import is matched to it.
const VERSION: &str = "0.2.12";

/// Replaces functions of the interfaces, which are linked already.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_types(linker.instance(&format!("{TYPES}@{VERSION}"))?)?;
    linker.instance(&format!("{HANDLER}@{VERSION}"))?.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, State>,
         (request, options): (Resource<Request>, Option<Resource<RequestOptions>>)| {
            let mut view = store.data_mut().http(HANDLER);
            // WASI says that no path is the empty path; the engine says that it is no URL.
            let path = &mut view.table.get_mut(&request)?.path_with_query;
            path.get_or_insert_with(|| String::from("/"));
            let sent = match view.handle(request, options) {
                Ok(response) => Ok(response),
                Err(error) => Err(error.downcast()?),
            };
            Ok((sent,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_types(mut types: LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap("[constructor]fields", |mut store: StoreContextMut<'_, State>, (): ()| {
        Ok((HostFields::new(&mut made(store.data_mut())?.http(TYPES))?,))
    })?;
    types.func_wrap(
        "[method]fields.clone",
        |mut store: StoreContextMut<'_, State>, (fields,): (Resource<FieldMap>,)| {
            Ok((HostFields::clone(&mut made(store.data_mut())?.http(TYPES), fields)?,))
        },
    )?;
    types.func_wrap(
        "[static]fields.from-list",
        |mut store: StoreContextMut<'_, State>, (entries,): (Vec<(String, Vec<u8>)>,)| {
            let made = match made(store.data_mut())?.http(TYPES).from_list(entries) {
                Ok(fields) => Ok(fields),
                Err(error) => Err(error.downcast()?),
            };
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, State>, (request, method): (Resource<Request>, Method)| {
            let mut view = store.data_mut().http(TYPES);
            match &method {
                Method::Other(name) if name.len() > TOKEN => Ok((Err(()),)),
                _ => Ok((view.set_method(request, method)?,)),
            }
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, State>,
         (request, authority): (Resource<Request>, Option<String>)| {
            let mut view = store.data_mut().http(TYPES);
            match &authority {
                Some(authority) if authority.len() > TOKEN => Ok((Err(()),)),
                _ => Ok((view.set_authority(request, authority)?,)),
            }
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, State>,
         (request, path): (Resource<Request>, Option<String>)| {
            let state = store.data_mut();
            let most = state.http.gate.limits.url;
            let mut view = state.http(TYPES);
            match &path {
                Some(path) if path.len() > most => Ok((Err(()),)),
                _ => Ok((view.set_path_with_query(request, path)?,)),
            }
        },
    )
}

/// Counts one more header map.
fn made(state: &mut State) -> Result<&mut State, Stop> {
    let most = state
        .http
        .gate
        .limits
        .requests
        .saturating_mul(HEADER_MAPS)
        .saturating_add(MORE_HEADER_MAPS);
    state.http.header_maps = state.http.header_maps.saturating_add(1);
    if state.http.header_maps > most {
        let message = format!("the guest made more than {most} header maps for HTTP requests");
        return Err(Stop::new(Kind::Handles, message));
    }
    Ok(state)
}
