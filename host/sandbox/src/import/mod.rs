//! What a guest may import: a file per family, all linked here, all through one seam (`seam.rs`).
//!
//! Everything known is linked into every component and refused when it is called, never when it is linked: real
//! toolchains import most of WASI whether a program uses it or not.

pub mod config;
pub mod http;
pub mod keyvalue;
pub mod logging;
pub mod task;

pub(crate) mod files;
mod open;
pub(crate) mod sockets;
pub(crate) mod stdio;
pub(crate) mod wasi;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::WasiCtx;

use crate::call::{Call, Command};
use crate::error::Error;
use crate::grant::Grants;
use crate::limit::{Limiter, Limits, Meter};
use crate::seam::{Denials, Seam};

/// Everything the host holds for one attempt; it is dropped with the store.
pub(crate) struct State {
    pub limiter: Limiter,
    pub seam: Seam,
    pub meter: Arc<Meter>,
    pub limits: Limits,
    pub grants: Arc<Grants>,
    pub table: ResourceTable,
    /// `None` for a component that imports nothing of WASI, which saves setting it up.
    pub wasi: Option<WasiCtx>,
    pub http: http::Http,
    pub files: files::Files,
    pub keyvalue: keyvalue::Kept,
    pub sockets: sockets::Sockets,
    pub task: task::TaskState,
    pub stdout: stdio::Capture,
    pub stderr: stdio::Capture,
}

impl State {
    pub fn new(
        call: Call,
        command: Option<Command>,
        meter: Arc<Meter>,
        imports_wasi: bool,
    ) -> Self {
        let Call { limits, grants, task, .. } = call;
        let seam = Seam::new(limits.host_calls);
        let denials = seam.denials().clone();
        let stdout = stdio::Capture::new("stdout", limits.stdout);
        let stderr = stdio::Capture::new("stderr", limits.stderr);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        let command = command.unwrap_or_default();
        let wasi =
            imports_wasi.then(|| wasi::context(&grants, command, &stdout, &stderr, &denials));
        Self {
            limiter: Limiter::new(&limits),
            seam,
            meter,
            table,
            wasi,
            http: http::Http::new(Arc::clone(&grants), limits.http.clone(), denials.clone()),
            files: files::Files::new(denials.clone(), Arc::clone(&grants)),
            keyvalue: keyvalue::Kept::default(),
            sockets: sockets::Sockets::new(denials),
            task: task::TaskState::new(task),
            limits,
            grants,
            stdout,
            stderr,
        }
    }

    pub fn denials(&self) -> &Denials {
        self.seam.denials()
    }
}

/// A linker with every interface a guest may import.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>, Error> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)
        .and_then(|()| files::link(&mut linker))
        .and_then(|()| sockets::link(&mut linker))
        .and_then(|()| http::link(&mut linker))
        .and_then(|()| keyvalue::link(&mut linker))
        .and_then(|()| config::link(&mut linker))
        .and_then(|()| logging::link(&mut linker))
        .and_then(|()| task::link(&mut linker))
        .map_err(Error::engine)?;
    Ok(linker)
}
