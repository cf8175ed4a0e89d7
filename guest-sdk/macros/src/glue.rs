//! The Rust code between an author's module and the bindings that wit-bindgen makes of its WIT.
//!
//! The code lies in a module within the author's, from where private fields can be seen. What the author may have
//! redefined, such as `Result`, is named by its full path.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::ItemMod;

use crate::model::{Body, Case, Empty, Field, Function, Payload, Tasks, Ty, TypeDef};
use crate::options::{self, Options};
use crate::{docs, names, wit};

/// The author's module, completed to a component.
pub fn component(module: &ItemMod, options: &Options, tasks: &Tasks) -> syn::Result<TokenStream> {
    let sdk = options::sdk_path()?;
    Ok(complete(module, options, tasks, &sdk))
}

fn complete(module: &ItemMod, options: &Options, tasks: &Tasks, sdk: &TokenStream) -> TokenStream {
    let ItemMod { attrs, vis, unsafety, mod_token, ident, content, .. } = module;
    let items = content.as_ref().map(|(_, items)| items.as_slice()).unwrap_or_default();
    let bindings = bindings(options, tasks, sdk);
    let names = [&options.package.namespace, &options.package.name, &tasks.interface];
    let [namespace, package, interface] = names.map(|name| names::bindings_value(name));
    let functions = tasks.functions.iter().map(|function| glue_function(function, tasks, sdk));
    let conversions = tasks.types.iter().map(conversions);
    let section = docs::section(tasks, &wit::interface_id(&options.package, tasks));
    let bytes = Literal::byte_string(section.as_bytes());
    let length = section.len();
    quote! {
        #(#attrs)*
        #vis #unsafety #mod_token #ident {
            #(#items)*

            #[doc(hidden)]
            #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, unsafe_code)]
            mod __omniq {
                #bindings
                use #sdk::__private::{from_wit, into_wit};
                use exports::#namespace::#package::#interface as wit;

                struct Component;
                impl wit::Guest for Component { #(#functions)* }
                export!(Component);

                #(#conversions)*

                #[cfg(target_arch = "wasm32")]
                #[unsafe(link_section = "omniq:task")]
                #[used]
                static DOCS: [u8; #length] = *#bytes;
            }
        }
    }
}

fn bindings(options: &Options, tasks: &Tasks, sdk: &TokenStream) -> TokenStream {
    let text = wit::document(&options.package, tasks);
    let world = wit::world(tasks);
    let runtime = format!("{sdk}::__private::wit_bindgen::rt").replace(' ', "");
    let contract = wit::contract_interface();
    let uses_contract = text.contains("omniq:task/types");
    let with =
        uses_contract.then(|| quote!(with: { #contract: #sdk::__private::omniq::task::types },));
    quote! {
        #sdk::__private::wit_bindgen::generate!({
            inline: #text,
            // Without it a folder `wit` beside the author's `src` would be read, too.
            path: [],
            world: #world,
            runtime_path: #runtime,
            #with
        });
    }
}

/// One function of the bindings' trait: takes what came in, calls the author's function, gives back what came out.
fn glue_function(function: &Function, tasks: &Tasks, sdk: &TokenStream) -> TokenStream {
    let called = &function.ident;
    let name = names::bindings_value(&function.name);
    let idents: Vec<_> =
        (0..function.params.len()).map(|index| format_ident!("argument_{index}")).collect();
    let types = function.params.iter().map(|param| rust_type(&param.ty, tasks, sdk));
    let arguments = function.params.iter().zip(&idents).map(|(param, ident)| {
        let converted = convert(&param.ty, quote!(#ident), Way::In);
        if param.by_reference { quote!(&#converted) } else { converted }
    });
    let call = quote!(super::#called(#(#arguments),*));
    let (output, body) = match &function.result {
        None => (None, quote!({ #call; })),
        Some(ty) => {
            let output = rust_type(ty, tasks, sdk);
            (Some(quote!(-> #output)), convert(ty, call, Way::Out))
        }
    };
    quote!(fn #name(#(#idents: #types),*) #output { #body })
}

/// The type that the bindings have for this one.
fn rust_type(ty: &Ty, tasks: &Tasks, sdk: &TokenStream) -> TokenStream {
    let inner = |ty: &Ty| rust_type(ty, tasks, sdk);
    let side = |side: &Option<Box<Ty>>| side.as_ref().map_or_else(|| quote!(()), |ty| inner(ty));
    match ty {
        Ty::Primitive(primitive) => {
            let name = Ident::new(primitive.rust(), Span::call_site());
            quote!(::core::primitive::#name)
        }
        Ty::String => quote!(::std::string::String),
        Ty::List(element) => {
            let element = inner(element);
            quote!(::std::vec::Vec<#element>)
        }
        Ty::Option(ty) => {
            let ty = inner(ty);
            quote!(::core::option::Option<#ty>)
        }
        Ty::Result(ok, err) => {
            let (ok, err) = (side(ok), side(err));
            quote!(::core::result::Result<#ok, #err>)
        }
        Ty::Tuple(types) => {
            let types = types.iter().map(inner);
            quote!((#(#types,)*))
        }
        Ty::Named(ident) => {
            let name = bindings_type(ident, tasks);
            quote!(wit::#name)
        }
        Ty::Contract(contract) => {
            let name = Ident::new(contract.rust(), Span::call_site());
            quote!(#sdk::__private::omniq::task::types::#name)
        }
    }
}

fn bindings_type(ident: &Ident, tasks: &Tasks) -> Ident {
    match tasks.type_def(ident) {
        Some(def) => names::bindings_type(&def.name),
        None => ident.clone(),
    }
}

/// Which way a value goes.
#[derive(Clone, Copy)]
enum Way {
    /// From the caller to the author's function.
    In,
    /// From the author's function to the caller.
    Out,
}

impl Way {
    /// The function that converts a type of the module.
    fn function(self, ident: &Ident) -> Ident {
        match self {
            Way::In => format_ident!("in_{}", ident),
            Way::Out => format_ident!("out_{}", ident),
        }
    }
}

/// An expression for `value`, which is one, on the other side.
fn convert(ty: &Ty, value: TokenStream, way: Way) -> TokenStream {
    if ty.is_plain() {
        return value;
    }
    let inner = |ty: &Ty| convert(ty, quote!(value), way);
    let side = |side: &Option<Box<Ty>>| side.as_ref().map_or_else(|| quote!(value), |ty| inner(ty));
    match ty {
        Ty::List(element) => {
            let element = inner(element);
            quote! {
                ::core::iter::Iterator::collect::<::std::vec::Vec<_>>(
                    ::core::iter::Iterator::map(
                        ::core::iter::IntoIterator::into_iter(#value), |value| #element
                    )
                )
            }
        }
        Ty::Option(ty) => {
            let inner = inner(ty);
            quote!(::core::option::Option::map(#value, |value| #inner))
        }
        Ty::Result(ok, err) => {
            let (ok, err) = (side(ok), side(err));
            quote! {
                match #value {
                    ::core::result::Result::Ok(value) => ::core::result::Result::Ok(#ok),
                    ::core::result::Result::Err(value) => ::core::result::Result::Err(#err),
                }
            }
        }
        Ty::Tuple(types) => {
            let names = tuple_names(types.len());
            let values = types.iter().zip(&names).map(|(ty, name)| convert(ty, quote!(#name), way));
            quote!({ let (#(#names,)*) = #value; (#(#values,)*) })
        }
        Ty::Named(ident) => {
            let function = way.function(ident);
            quote!(#function(#value))
        }
        Ty::Contract(_) => match way {
            Way::In => quote!(from_wit(#value)),
            Way::Out => quote!(into_wit(#value)),
        },
        Ty::Primitive(_) | Ty::String => value,
    }
}

fn tuple_names(length: usize) -> Vec<Ident> {
    (0..length).map(|index| format_ident!("element_{index}")).collect()
}

/// The two functions that convert a type of the module.
fn conversions(def: &TypeDef) -> TokenStream {
    let ident = &def.ident;
    let bound = names::bindings_type(&def.name);
    let both = [Way::In, Way::Out].map(|way| {
        let function = way.function(ident);
        let (theirs, ours) = (quote!(super::#ident), quote!(wit::#bound));
        let (from, to) = match way {
            Way::In => (&ours, &theirs),
            Way::Out => (&theirs, &ours),
        };
        let body = match &def.body {
            Body::Record(fields) => {
                let (pattern, value) = field_lists(fields, way);
                quote!({ let #from #pattern = value; #to #value })
            }
            Body::Enum(cases) | Body::Variant(cases) => {
                let arms = cases.iter().map(|case| arm(case, from, to, way));
                quote!(match value { #(#arms)* })
            }
        };
        quote!(fn #function(value: #from) -> #to { #body })
    });
    let [first, second] = both;
    quote!(#first #second)
}

/// A pattern that takes the fields of a record on one side, and an expression that makes them on the other.
fn field_lists(fields: &[Field], way: Way) -> (TokenStream, TokenStream) {
    let locals = tuple_names(fields.len());
    let theirs = fields.iter().map(|field| &field.ident);
    let ours: Vec<_> = fields.iter().map(|field| names::bindings_value(&field.name)).collect();
    let values: Vec<_> = fields
        .iter()
        .zip(&locals)
        .map(|(field, local)| convert(&field.ty, quote!(#local), way))
        .collect();
    match way {
        Way::In => (quote!({ #(#ours: #locals,)* }), quote!({ #(#theirs: #values,)* })),
        Way::Out => (quote!({ #(#theirs: #locals,)* }), quote!({ #(#ours: #values,)* })),
    }
}

/// The arm of a `match` that converts one case.
fn arm(case: &Case, from: &TokenStream, to: &TokenStream, way: Way) -> TokenStream {
    let theirs = &case.ident;
    let ours = names::bindings_type(&case.name);
    // How each side writes the case: in a pattern and in an expression.
    let (their_pattern, their_value, our_pattern, our_value) = match &case.payload {
        Payload::Nothing(empty) => {
            let brackets = match empty {
                Empty::Plain => quote!(),
                Empty::Parens => quote!(()),
                Empty::Braces => quote!({}),
            };
            (brackets.clone(), brackets, quote!(), quote!())
        }
        Payload::One(ty) => {
            let value = convert(ty, quote!(value), way);
            (quote!((value)), quote!((#value)), quote!((value)), quote!((#value)))
        }
        Payload::Tuple(types) => {
            let names = tuple_names(types.len());
            let values: Vec<_> = types
                .iter()
                .zip(&names)
                .map(|(ty, name)| convert(ty, quote!(#name), way))
                .collect();
            (
                quote!((#(#names),*)),
                quote!((#(#values),*)),
                quote!(((#(#names),*))),
                quote!(((#(#values),*))),
            )
        }
        Payload::Record(name, fields) => {
            let (pattern, value) = field_lists(fields, way);
            let record = names::bindings_type(name);
            (
                pattern.clone(),
                value.clone(),
                quote!((wit::#record #pattern)),
                quote!((wit::#record #value)),
            )
        }
    };
    match way {
        Way::In => quote!(#from::#ours #our_pattern => #to::#theirs #their_value,),
        Way::Out => quote!(#from::#theirs #their_pattern => #to::#ours #our_value,),
    }
}
