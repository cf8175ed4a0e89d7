//! A durable task queue whose tasks are sandboxed WebAssembly components.
