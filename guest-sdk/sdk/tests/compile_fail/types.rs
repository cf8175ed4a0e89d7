//! Types that WIT does not have, each with what to use instead.

#![allow(unused)]

use omniq_guest as omniq;

#[omniq::tasks]
mod tasks {
    use std::collections::{BTreeSet, HashMap};

    pub fn sizes(a: usize, b: isize, c: u128) {}

    pub fn maps(a: HashMap<String, u32>, b: Vec<BTreeSet<u8>>) {}

    pub fn pointers(a: Box<dyn Fn()>, b: Box<u8>, c: *const u8, d: fn(u8) -> u8) {}

    pub fn references(a: &mut Vec<u8>, b: Option<&str>, c: &'static str) {}

    pub fn shapes(a: [u8; 32], b: impl Iterator<Item = u8>, c: ()) {}

    pub fn errors() -> Result<u8, Box<dyn std::error::Error>> {
        Ok(0)
    }

    pub fn io() -> std::io::Result<u8> {
        Ok(0)
    }

    pub fn long(
        a: (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8),
        time: std::time::Duration,
    ) {
    }
}

fn main() {}
