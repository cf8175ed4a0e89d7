//! The macros of `omniq-guest`, where they are documented for those who use them.
//!
//! The way of a module: [`read`] checks it and makes a [`model`] of it, with [`resolve`] and [`define`] for its types
//! and [`hints`] for those that cannot be; from the model, [`wit`] writes the WIT, [`docs`] the custom section, and
//! [`glue`] the Rust code between the author's types and those that wit-bindgen makes of the WIT. All of them are
//! functions from tokens to tokens or text, so that they are tested without a compiler.

mod define;
mod docs;
mod glue;
mod hints;
mod model;
mod names;
mod options;
mod read;
mod resolve;
mod wit;

use proc_macro2::TokenStream;
use quote::quote;

/// Turns a module into a component: its `pub fn`s become functions that OmniQ can run.
///
/// Parameters and results may be `bool`, `char`, `String`, the integers of 8 to 64 bits, `f32`, `f64`, `Vec<T>`,
/// `Option<T>`, `Result<T, E>`, tuples, the structs and enums of the module, `omniq::Failure` and `omniq::Payload`; a
/// parameter may also be a reference to one of these, such as `&str` or `&[u8]`. Everything else in the module is left
/// as it is: private functions, other types, constants, imports, tests.
///
/// The functions are exported in the interface `component:CRATE/MODULE`. Another package is named by
/// `#[omniq::tasks(package = "acme:images@1.2.0")]`.
#[proc_macro_attribute]
pub fn tasks(
    options: proc_macro::TokenStream,
    module: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    expand(options.into(), module.into()).into()
}

/// The module, followed by what makes a component of it, or by every error that was found in it.
fn expand(options: TokenStream, input: TokenStream) -> TokenStream {
    let module = match syn::parse2::<syn::ItemMod>(input.clone()) {
        Ok(module) => module,
        Err(_) => {
            let message = "`#[omniq::tasks]` stands before a module: `mod tasks { … }`";
            let error = syn::Error::new(proc_macro2::Span::call_site(), message);
            let error = error.into_compile_error();
            return quote!(#error #input);
        }
    };
    let expanded = options::read(options)
        .and_then(|options| Ok((options, read::module(&module)?)))
        .and_then(|(options, tasks)| glue::component(&module, &options, &tasks));
    // The module stays even when it has errors: otherwise each use of it would be one more.
    expanded.unwrap_or_else(|error| {
        let errors = error.into_compile_error();
        quote!(#errors #module)
    })
}
