//! Gives back what the macro of the SDK has no type for, and has names that are not unique.

mod bindings {
    //! What `wit/world.wit` says, as Rust.
    wit_bindgen::generate!({ world: "plain", path: "wit" });
    use super::Plain;
    export!(Plain);
}

use bindings::exports::test::plain::values::{Colours, Many, Mixed, Nine, Painted, Wide};
use bindings::exports::test::plain::{others, values};

struct Plain;

impl values::Guest for Plain {
    fn echo_flags(value: Colours) -> Colours {
        value
    }

    fn echo_nine(value: Nine) -> Nine {
        value
    }

    fn echo_many(value: Many) -> Many {
        value
    }

    fn echo_painted(value: Vec<Painted>) -> Vec<Painted> {
        value
    }

    fn echo_mixed(value: Mixed) -> Mixed {
        value
    }

    fn echo_mixed_list(value: Vec<Mixed>) -> Vec<Mixed> {
        value
    }

    fn echo_wide(value: Wide) -> Wide {
        value
    }

    fn same(value: u8) -> u8 {
        value
    }
}

impl others::Guest for Plain {
    fn same(value: String) -> String {
        value
    }
}

impl bindings::Guest for Plain {
    fn at_root(value: (u8, Option<String>)) -> Result<(u8, Option<String>), String> {
        if value.0 == 0 { Err("zero".to_owned()) } else { Ok(value) }
    }
}
