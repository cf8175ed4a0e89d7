//! What is shown, and where: data on stdout, everything else on stderr.

pub mod code;
pub mod console;
mod file;
pub mod hint;
pub mod problem;
pub mod report;
pub mod task;
pub mod value;
