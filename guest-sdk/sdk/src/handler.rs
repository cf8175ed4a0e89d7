//! The fixed world: a task that takes bytes and gives bytes back.
//!
//! For payloads that types do not suit. Most tasks are better written with [`tasks`](macro@crate::tasks), where the
//! host knows what fits.

use crate::{Failure, Payload};

/// A task that takes bytes; [`export_handler!`](crate::export_handler) makes a component of it.
///
/// ```
/// # use omniq_guest as omniq;
/// use omniq::{Failure, Payload};
///
/// struct Upper;
///
/// impl omniq::Handler for Upper {
///     fn run(target: &str, args: Payload) -> Result<Payload, Failure> {
///         match target {
///             "upper" => Ok(Payload::text(String::from_utf8(args.body)?.to_uppercase())),
///             other => Err(Failure::permanent(format!("unknown target `{other}`"))),
///         }
///     }
/// }
///
/// omniq::export_handler!(Upper);
/// # fn main() {}
/// ```
pub trait Handler {
    /// Runs `target`, a name of the task's own choosing.
    ///
    /// # Errors
    /// Whatever went wrong, and what is to happen next.
    fn run(target: &str, args: Payload) -> Result<Payload, Failure>;

    /// Every target, in the order they are to be shown; none means that the task does not say.
    fn targets() -> Vec<Target> {
        Vec::new()
    }
}

/// One target of a [`Handler`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is passed to [`Handler::run`].
    pub name: String,
    /// One sentence for people.
    pub summary: String,
    /// A JSON Schema of the arguments, if there is one.
    pub args_schema: Option<String>,
    /// A JSON Schema of the result, if there is one.
    pub result_schema: Option<String>,
}

/// Makes the component of a [`Handler`]: exports `handler` and `describe` of `omniq:task`.
///
/// To be used once, in the crate that becomes the component.
#[macro_export]
macro_rules! export_handler {
    ($handler:ty) => {
        const _: () = {
            use $crate::__private::export;

            struct Component;

            impl export::exports::omniq::task::handler::Guest for Component {
                fn run(
                    target: ::std::string::String,
                    args: export::Payload,
                ) -> ::core::result::Result<export::Payload, export::Failure> {
                    export::run::<$handler>(&target, args)
                }
            }

            impl export::exports::omniq::task::describe::Guest for Component {
                fn tasks() -> ::std::vec::Vec<export::Entry> {
                    export::tasks::<$handler>()
                }
            }

            $crate::__private::export::__export_described_task!(
                Component with_types_in $crate::__private::export
            );
        };
    };
}

#[doc(hidden)]
#[allow(missing_docs, clippy::all, clippy::allow_attributes, reason = "written by wit-bindgen")]
#[allow(clippy::allow_attributes_without_reason, unsafe_code, reason = "written by wit-bindgen")]
pub mod export {
    //! What [`export_handler!`](crate::export_handler) refers to.

    use super::{Handler, Target};
    use crate::contract::{from_wit, into_wit};

    wit_bindgen::generate!({
        world: "described-task",
        path: "../../wit",
        with: {
            "omniq:task/types@0.1.0": crate::bindings::omniq::task::types,
            "omniq:task/context@0.1.0": crate::bindings::omniq::task::context,
            "omniq:task/progress@0.1.0": crate::bindings::omniq::task::progress,
            "omniq:task/log@0.1.0": crate::bindings::omniq::task::log,
            "omniq:task/output@0.1.0": crate::bindings::omniq::task::output,
        },
        pub_export_macro: true,
        export_macro_name: "__export_described_task",
    });

    pub use crate::bindings::omniq::task::types::{Failure, Payload};
    pub use exports::omniq::task::describe::Entry;

    pub fn run<H: Handler>(target: &str, args: Payload) -> Result<Payload, Failure> {
        H::run(target, from_wit(args)).map(into_wit).map_err(into_wit)
    }

    pub fn tasks<H: Handler>() -> Vec<Entry> {
        H::targets().into_iter().map(Entry::from).collect()
    }

    impl From<Target> for Entry {
        fn from(target: Target) -> Self {
            Entry {
                target: target.name,
                summary: target.summary,
                args_schema: target.args_schema,
                result_schema: target.result_schema,
            }
        }
    }
}
