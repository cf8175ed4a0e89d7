//! placeholder
use super::State;
use wasmtime::component::Linker;
pub(crate) fn link(_: &mut Linker<State>) -> wasmtime::Result<()> { Ok(()) }
/// Buckets.
#[derive(Debug, Default)]
pub struct Buckets;
