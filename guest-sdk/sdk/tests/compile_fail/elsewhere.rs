//! Types that the macro cannot see.

#![allow(unused)]

use omniq_guest as omniq;

pub struct Outside {
    pub value: u8,
}

#[omniq::tasks]
mod tasks {
    use super::Outside;

    pub fn imported(value: Outside) {}

    pub fn by_path(value: super::Outside) -> Vec<crate::Outside> {
        vec![value]
    }

    pub struct Holder {
        inner: Outside,
    }

    pub fn within(value: Holder) {}
}

fn main() {}
