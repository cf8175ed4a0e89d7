//! placeholder
use super::State;
use wasmtime::component::Linker;
pub(crate) fn link(_: &mut Linker<State>) -> wasmtime::Result<()> { Ok(()) }
use crate::grant::Grants; use crate::seam::Denials; use std::sync::Arc;
/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);
pub(crate) struct Http; impl Http { pub fn new(_: Arc<Grants>, _: Denials) -> Self { Self } }
