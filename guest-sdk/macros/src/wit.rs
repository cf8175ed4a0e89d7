//! The WIT of a module of tasks.

use std::fmt::Write;

use crate::model::{Body, Case, Contract, Field, Payload, Tasks, Ty, TypeDef};
use crate::names::escaped;
use crate::options::Package;

/// The types of the contract, which a task may use in its own signatures.
const CONTRACT: &str = include_str!("../../../wit/types.wit");

/// The line of [`CONTRACT`] that names its package, up to the version.
const CONTRACT_PACKAGE: &str = "package omniq:task@";

/// The name of the world, which no author sees.
pub fn world(tasks: &Tasks) -> String {
    format!("{}-world", tasks.interface)
}

/// The id of the interface of the contract's types, with its version.
pub fn contract_interface() -> String {
    format!("omniq:task/types@{}", contract_version())
}

fn contract_version() -> &'static str {
    let (_, rest) = CONTRACT.split_once(CONTRACT_PACKAGE).unwrap_or_default();
    rest.split_once(';').unwrap_or_default().0
}

/// The text that wit-bindgen is given.
pub fn document(package: &Package, tasks: &Tasks) -> String {
    let mut out = format!("package {};\n\n", package_id(package));
    let used = used_contract(tasks);
    if !used.is_empty() {
        // A package within the text of another is written with braces around it.
        let (docs, rest) = CONTRACT.split_once(CONTRACT_PACKAGE).unwrap_or_default();
        let (version, interfaces) = rest.split_once(';').unwrap_or_default();
        let _ = writeln!(out, "{docs}{CONTRACT_PACKAGE}{version} {{{interfaces}}}\n");
    }
    let _ = writeln!(out, "interface {} {{", escaped(&tasks.interface));
    if !used.is_empty() {
        let _ = writeln!(out, "    use {}.{{{}}};", contract_interface(), used.join(", "));
    }
    for def in &tasks.types {
        type_def(&mut out, tasks, def);
    }
    for function in &tasks.functions {
        let params: Vec<_> = function
            .params
            .iter()
            .map(|param| format!("{}: {}", escaped(&param.name), text(tasks, &param.ty)))
            .collect();
        let _ = write!(out, "    {}: func({})", escaped(&function.name), params.join(", "));
        if let Some(result) = &function.result {
            let _ = write!(out, " -> {}", text(tasks, result));
        }
        out.push_str(";\n");
    }
    let _ = writeln!(
        out,
        "}}\n\nworld {} {{\n    export {};\n}}",
        escaped(&world(tasks)),
        escaped(&tasks.interface)
    );
    out
}

/// `acme:images@1.2.0`
fn package_id(package: &Package) -> String {
    let version = package.version.as_ref().map(|version| format!("@{version}"));
    format!(
        "{}:{}{}",
        escaped(&package.namespace),
        escaped(&package.name),
        version.unwrap_or_default()
    )
}

/// `acme:images/tasks@1.2.0`, as it stands in a component.
pub fn interface_id(package: &Package, tasks: &Tasks) -> String {
    let version = package.version.as_ref().map(|version| format!("@{version}"));
    format!(
        "{}:{}/{}{}",
        package.namespace,
        package.name,
        tasks.interface,
        version.unwrap_or_default()
    )
}

fn used_contract(tasks: &Tasks) -> Vec<String> {
    [Contract::Failure, Contract::Payload]
        .into_iter()
        .filter(|contract| tasks.uses(*contract))
        .map(|contract| {
            let (name, alias) = (contract.wit(), tasks.contract_name(contract));
            if alias == name { name.to_owned() } else { format!("{name} as {}", escaped(&alias)) }
        })
        .collect()
}

fn type_def(out: &mut String, tasks: &Tasks, def: &TypeDef) {
    match &def.body {
        Body::Record(fields) => record(out, tasks, &def.name, fields),
        Body::Enum(cases) => {
            let labels: Vec<_> = cases.iter().map(|case| escaped(&case.name)).collect();
            let _ = writeln!(out, "    enum {} {{ {} }}", escaped(&def.name), labels.join(", "));
        }
        Body::Variant(cases) => {
            for case in cases {
                if let Payload::Record(name, fields) = &case.payload {
                    record(out, tasks, name, fields);
                }
            }
            let cases: Vec<_> = cases.iter().map(|case| case_text(tasks, case)).collect();
            let _ = writeln!(out, "    variant {} {{ {} }}", escaped(&def.name), cases.join(", "));
        }
    }
}

fn record(out: &mut String, tasks: &Tasks, name: &str, fields: &[Field]) {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| format!("{}: {}", escaped(&field.name), text(tasks, &field.ty)))
        .collect();
    let _ = writeln!(out, "    record {} {{ {} }}", escaped(name), fields.join(", "));
}

fn case_text(tasks: &Tasks, case: &Case) -> String {
    let name = escaped(&case.name);
    match &case.payload {
        Payload::Nothing(_) => name,
        Payload::One(ty) => format!("{name}({})", text(tasks, ty)),
        Payload::Tuple(types) => format!("{name}({})", tuple(tasks, types)),
        Payload::Record(record, _) => format!("{name}({})", escaped(record)),
    }
}

fn tuple(tasks: &Tasks, types: &[Ty]) -> String {
    let types: Vec<_> = types.iter().map(|ty| text(tasks, ty)).collect();
    format!("tuple<{}>", types.join(", "))
}

fn text(tasks: &Tasks, ty: &Ty) -> String {
    match ty {
        Ty::Primitive(primitive) => primitive.wit().to_owned(),
        Ty::String => "string".to_owned(),
        Ty::List(element) => format!("list<{}>", text(tasks, element)),
        Ty::Option(inner) => format!("option<{}>", text(tasks, inner)),
        Ty::Tuple(types) => tuple(tasks, types),
        Ty::Named(ident) => {
            // Every named type has a definition; should one ever be missing, wit-bindgen names it.
            let name =
                tasks.type_def(ident).map_or_else(|| ident.to_string(), |def| def.name.clone());
            escaped(&name)
        }
        Ty::Contract(contract) => escaped(&tasks.contract_name(*contract)),
        Ty::Result(ok, err) => match (ok, err) {
            (None, None) => "result".to_owned(),
            (Some(ok), None) => format!("result<{}>", text(tasks, ok)),
            (None, Some(err)) => format!("result<_, {}>", text(tasks, err)),
            (Some(ok), Some(err)) => format!("result<{}, {}>", text(tasks, ok), text(tasks, err)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document_of(module: syn::ItemMod) -> String {
        let tasks = crate::read::module(&module).unwrap();
        let package =
            Package { namespace: "acme".to_owned(), name: "images".to_owned(), version: None };
        let document = document(&package, &tasks);
        // Whatever is written is WIT.
        let mut resolve = wit_parser::Resolve::default();
        resolve.push_str("document.wit", &document).unwrap();
        document
    }

    #[test]
    fn a_module_becomes_an_interface() {
        let document = document_of(syn::parse_quote! {
            mod tasks {
                pub fn resize(image: &[u8], max_width: u32) -> Result<Thumb, Error> { todo!() }
                pub fn nothing() {}
                pub struct Thumb { pub png: Vec<u8>, size: (u32, u32) }
                pub enum Error { Empty, TooBig { limit: u64 }, Other(String), At(u32, u32) }
                pub enum Unused { A }
            }
        });
        let expected = "\
package %acme:%images;

interface %tasks {
    record %thumb { %png: list<u8>, %size: tuple<u32, u32> }
    record %error-too-big { %limit: u64 }
    variant %error { %empty, %too-big(%error-too-big), %other(string), %at(tuple<u32, u32>) }
    %resize: func(%image: list<u8>, %max-width: u32) -> result<%thumb, %error>;
    %nothing: func();
}

world %tasks-world {
    export %tasks;
}
";
        assert_eq!(document, expected);
    }

    #[test]
    fn the_contract_is_brought_along_when_it_is_used() {
        let document = document_of(syn::parse_quote! {
            mod tasks {
                pub fn fetch() -> Result<omniq::Payload, Failure> { todo!() }
                pub fn payload() {}
            }
        });
        assert!(document.contains(&format!("use {}", contract_interface())), "{document}");
        assert!(document.contains("{failure, payload as %task-payload}"), "{document}");
        assert!(document.contains("-> result<%task-payload, %failure>"), "{document}");
    }

    #[test]
    fn functions_keep_their_names_when_types_have_the_same() {
        let document = document_of(syn::parse_quote! {
            mod tasks {
                pub fn count() -> Count { todo!() }
                pub fn error_large(error: Error) {}
                pub struct Count { words: u64 }
                pub enum Error { Large { by: u8 } }
            }
        });
        assert!(document.contains("%count: func() -> %count-type;"), "{document}");
        assert!(document.contains("%large(%error-large-fields)"), "{document}");
    }

    #[test]
    fn aliases_are_replaced() {
        let document = document_of(syn::parse_quote! {
            mod tasks {
                type Result<T, E = String> = std::result::Result<T, E>;
                type Pairs<T> = Vec<(Name, T)>;
                type Name = String;
                pub fn one(pairs: Pairs<Pairs<u8>>) -> Result<Name> { todo!() }
                pub fn two() -> Result<(), u8> { todo!() }
            }
        });
        assert!(
            document.contains(
                "(%pairs: list<tuple<string, list<tuple<string, u8>>>>) -> result<string, string>"
            ),
            "{document}"
        );
        assert!(document.contains("%two: func() -> result<_, u8>"), "{document}");
    }

    #[test]
    fn an_alias_of_itself_is_an_error_and_no_endless_loop() {
        let module = syn::parse_quote! {
            mod tasks {
                type Loop = (Loop, Loop);
                pub fn run(value: Loop) {}
            }
        };
        let error = crate::read::module(&module).unwrap_err();
        assert!(error.to_string().contains("the alias stands for itself"), "{error}");
    }
}
