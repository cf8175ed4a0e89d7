//! Where modules live.

use std::fmt;

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name};

use crate::Result;

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the store.
    Created,
    /// The same bytes were there under the same name and version.
    Unchanged,
    /// Other bytes are there under the same name and version; their digest. Nothing was changed.
    Conflict(Digest),
}

/// Where modules live: bytes by digest, and names and versions that point to them.
///
/// # Errors
/// Of every call: [`Unavailable`](crate::ErrorKind::Unavailable) means that the outcome is unknown: repeat the same call.
#[async_trait]
pub trait ModuleStore: fmt::Debug + Send + Sync + 'static {
    /// The backend's name.
    fn name(&self) -> &'static str;

    /// Keeps a module. Name and version together belong to one digest for ever, unless it is removed. Unless there is a
    /// conflict, what [`Self::bytes`] gives for the digest afterwards is what was given here, whatever was there: it may have
    /// been damaged.
    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed>;

    /// The module of that name: the given version, or the one pushed last.
    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>>;

    /// The bytes of that digest, as they were pushed. The caller checks them against the digest.
    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>>;

    /// All modules, by name, the version pushed last first.
    async fn list(&self) -> Result<Vec<Module>>;

    /// Forgets a version; its bytes too, once nothing else points to them. Tells whether it was there.
    async fn remove(&self, name: &Name, version: &Name) -> Result<bool>;

    /// Lets go of files and connections.
    async fn close(&self) -> Result<()>;
}
