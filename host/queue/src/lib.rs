//! A durable task queue whose tasks are sandboxed WebAssembly components.

pub mod config;
pub mod logging;
