//! The library as a program uses it, without a worker unless the test is about one.

#[cfg(feature = "sqlite")]
mod bounds;
mod control;
mod enqueue;
mod kit;
mod modules;
#[cfg(feature = "sqlite")]
mod transaction;
mod work;
