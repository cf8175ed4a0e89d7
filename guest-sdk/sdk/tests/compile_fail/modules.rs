//! The attribute in places where it makes no sense.

#![allow(unused)]

use omniq_guest as omniq;

#[omniq::tasks]
fn not_a_module() {}

#[omniq::tasks]
mod nothing_to_run {
    fn private() {}
}

#[omniq::tasks(package = "no package")]
mod odd_package {
    pub fn run() {}
}

#[omniq::tasks(package = "omniq:task")]
mod taken_package {
    pub fn run() {}
}

#[omniq::tasks(nmae = "typing")]
mod odd_option {
    pub fn run() {}
}

fn main() {}
