//! What a user does, done to the real binary. One file per thing a user does; [`support`] runs the binary.

mod cli_inspect;
mod cli_run;
mod polyglot;
mod support;
