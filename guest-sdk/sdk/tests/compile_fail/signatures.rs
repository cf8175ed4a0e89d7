//! Functions that cannot be exported.

#![allow(unused)]

use omniq_guest as omniq;

#[omniq::tasks]
mod tasks {
    pub async fn later() {}

    pub fn generic<T: Clone>(value: Vec<T>) {}

    pub fn lifetimes<'a>(value: &'a str) {}

    pub unsafe fn dangerous() {}

    pub extern "C" fn foreign() {}

    pub fn patterns((a, b): (u8, u8), _: u8) {}

    pub fn twins(value: u8, _value: u8) {}

    pub fn same_name() {}

    pub fn same__name() {}

    #[cfg(feature = "extra")]
    pub fn sometimes() {}

    pub fn größe() {}
}

fn main() {}
