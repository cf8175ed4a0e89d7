//! Structs and enums that are no records and variants.

#![allow(unused)]

use omniq_guest as omniq;

#[omniq::tasks]
mod tasks {
    pub struct Id(u64);

    pub struct Pair(u8, String);

    pub struct Empty {}

    pub struct Unit;

    pub enum Never {}

    pub struct Generic<T> {
        value: T,
    }

    pub struct Borrowed<'a> {
        text: &'a str,
    }

    pub struct Tree {
        children: Vec<Tree>,
    }

    pub enum Expression {
        Number(f64),
        Sum { left: Box<Expression>, right: u8 },
        Product(Vec<Factor>),
    }

    pub struct Factor {
        of: Expression,
    }

    pub struct Twins {
        a_b: u8,
        a__b: u8,
    }

    pub enum Cases {
        HttpError,
        HTTPError,
    }

    pub struct Inner {
        size: usize,
        #[cfg(unix)]
        mode: u32,
    }

    pub fn all(a: Id, b: Pair, c: Empty, d: Unit, e: Never, f: Generic<u8>, g: Borrowed<'_>) {}

    pub fn recursive(tree: Tree, expression: Expression) {}

    pub fn names(twins: Twins, cases: Cases, inner: Inner, again: Inner) {}
}

fn main() {}
