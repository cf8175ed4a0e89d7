//! What is shown, and where: data on stdout, everything else on stderr.

pub mod bar;
pub mod code;
pub mod console;
pub mod ended;
mod file;
pub mod hint;
pub mod problem;
pub mod report;
pub mod table;
pub mod task;
pub mod tasks;
pub mod value;
