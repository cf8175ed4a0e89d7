//! Why the sandbox could not do what it was asked to, before any guest ran.
//!
//! How a call of a guest ended is never an [`Error`]: that is an [`Outcome`](crate::Outcome).

use omniq_model::Kind;

use crate::{cache, inspect, value};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a sandbox could not be opened, or a component not be loaded or called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The component cannot be run here, or has no such function.
    #[error(transparent)]
    Inspect(#[from] inspect::Error),
    /// The arguments do not fit.
    #[error(transparent)]
    Value(#[from] value::Error),
    /// The folder of compiled code cannot be used.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The engine refuses the component although it is well formed.
    #[error("the component cannot be compiled: {message}")]
    Compile {
        /// What the engine said.
        message: String,
    },
    /// The engine cannot be set up on this machine.
    #[error("the WebAssembly engine cannot be set up on this machine: {message}")]
    Engine {
        /// What the engine said.
        message: String,
    },
    /// The machine refused something the host needs.
    #[error("{what}")]
    Host {
        /// What could not be done.
        what: String,
        /// Why.
        source: Source,
    },
}

impl Error {
    pub(crate) fn engine(error: wasmtime::Error) -> Self {
        Self::Engine { message: format!("{error:#}") }
    }

    pub(crate) fn compile(error: wasmtime::Error) -> Self {
        Self::Compile { message: format!("{error:#}") }
    }

    pub(crate) fn host(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Host { what: what.into(), source: source.into() }
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Inspect(error) => error.kind(),
            Self::Value(error) => error.kind(),
            Self::Compile { .. } => Kind::InvalidComponent,
            Self::Cache(_) | Self::Engine { .. } | Self::Host { .. } => Kind::Host,
        }
    }
}
