//! The sandbox from outside: every limit is hit, every hostile guest is survived.

mod hostile;
mod kit;
mod limits;
mod outcomes;
mod pool;
