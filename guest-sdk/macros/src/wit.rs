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
