//! From the module of an author to the model of it, with every error that is in it.

use std::collections::HashSet;

use syn::spanned::Spanned;
use syn::{FnArg, Item, ItemFn, ItemMod, Pat, ReturnType, Visibility};

use crate::model::{Body, Case, Function, Param, Payload, Tasks};
use crate::resolve::Resolver;
use crate::{define, docs, names};

/// Reads the module.
///
/// # Errors
/// All that is wrong with it, as one error with many places.
pub fn module(module: &ItemMod) -> syn::Result<Tasks> {
    let Some((_, items)) = &module.content else {
        let message = "the functions must stand here, as in `mod tasks { … }`: a macro cannot see into another file";
        return Err(syn::Error::new_spanned(module, message));
    };
    let interface = names::kebab(&module.ident)?;
    let mut resolver = Resolver::new(items);
    let mut functions: Vec<Function> = Vec::new();
    for item in items {
        let Item::Fn(item) = item else { continue };
        if !matches!(item.vis, Visibility::Public(_)) {
            continue;
        }
        let Some(function) = function(&mut resolver, item) else { continue };
        let twin = functions.iter().find(|other| other.name == function.name);
        define::refuse_twin(&mut resolver, &function.ident, twin.map(|other| &other.ident));
        functions.push(function);
    }
    let (mut types, mut errors) = resolver.finish();
    if functions.is_empty() && errors.is_empty() {
        let message = format!("`{}` has no `pub fn`, so there is nothing to run", module.ident);
        errors.push(syn::Error::new_spanned(&module.ident, message));
    }
    // Types are met in the order of their use; their authors know them in the order of the module.
    let position = |name: &proc_macro2::Ident| {
        items.iter().position(|item| match item {
            Item::Struct(item) => item.ident == *name,
            Item::Enum(item) => item.ident == *name,
            _ => false,
        })
    };
    types.sort_by_key(|def| position(&def.ident));
    let docs = docs::of(&module.attrs);
    let mut tasks = Tasks { interface, docs, functions, types };
    make_names_unique(&mut tasks, &mut errors);
    match errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    }) {
        None => Ok(tasks),
        Some(errors) => Err(errors),
    }
}

fn function(resolver: &mut Resolver<'_>, item: &ItemFn) -> Option<Function> {
    let signature = &item.sig;
    define::refuse_cfg(resolver, &item.attrs)?;
    let refused = [
        signature.asyncness.map(|token| {
            let message = "an async export needs the full profile of the sandbox, and this macro does not write them: \
                           leave `async` out, or write the WIT by hand";
            (token.span(), message)
        }),
        signature.abi.as_ref().map(|abi| (abi.span(), "a task is an ordinary function: leave `extern` out")),
        matches!(signature.safety, syn::Safety::Unsafe(_))
            .then(|| (signature.safety.span(), "a task is an ordinary function: leave `unsafe` out")),
        (!signature.generics.params.is_empty()).then(|| {
            let message = "WIT knows no generic functions: write one function for each type; a reference as a \
                           parameter needs no lifetime";
            (signature.generics.span(), message)
        }),
    ];
    for (span, message) in refused.into_iter().flatten() {
        resolver.check::<()>(Err(syn::Error::new(span, message)))?;
    }
    let name = resolver.check(names::kebab(&signature.ident));
    let params: Vec<_> = signature.inputs.iter().map(|input| param(resolver, input)).collect();
    let result = match &signature.output {
        ReturnType::Default => Some(None),
        ReturnType::Type(_, ty) => resolver.side(ty),
    };
    let params = params.into_iter().collect::<Option<Vec<_>>>()?;
    let mut seen = HashSet::new();
    if let Some(twin) = params.iter().find(|param| !seen.insert(&param.name)) {
        let message = format!(
            "two parameters are called `{}` in WIT, which is kebab-case: rename one",
            twin.name
        );
        resolver.error(&signature.inputs, message);
        return None;
    }
    let docs = docs::of(&item.attrs);
    Some(Function { ident: signature.ident.clone(), name: name?, docs, params, result: result? })
}

fn param(resolver: &mut Resolver<'_>, input: &FnArg) -> Option<Param> {
    let typed = match input {
        FnArg::Typed(typed) => typed,
        FnArg::Receiver(receiver) => {
            resolver.error(receiver, "a task belongs to no type: leave `self` out");
            return None;
        }
    };
    let name = match &*typed.pat {
        Pat::Ident(pattern) if pattern.subpat.is_none() => {
            resolver.check(names::kebab(&pattern.ident))
        }
        pattern => {
            resolver.error(
                pattern,
                "a parameter needs a name, by which it is called: take it apart in the function",
            );
            None
        }
    };
    let ty = resolver.param(&typed.ty);
    name.zip(ty).map(|(name, (ty, by_reference))| Param { name, ty, by_reference })
}

/// Functions and types share one space of names in WIT, in Rust they do not: here the types give way, because it is
/// functions that are called by their names.
fn make_names_unique(tasks: &mut Tasks, errors: &mut Vec<syn::Error>) {
    let mut taken: HashSet<String> =
        tasks.functions.iter().map(|function| function.name.clone()).collect();
    for def in &mut tasks.types {
        if taken.contains(&def.name) || names::is_reserved_type(&def.name) {
            def.name.push_str("-type");
        }
        if !taken.insert(def.name.clone()) {
            let message = format!(
                "another type or function is called `{}` in WIT, too: rename one",
                def.name
            );
            errors.push(syn::Error::new_spanned(&def.ident, message));
        }
    }
    for def in &mut tasks.types {
        let Body::Variant(cases) = &mut def.body else { continue };
        for Case { payload, .. } in cases {
            let Payload::Record(name, _) = payload else { continue };
            while !taken.insert(name.clone()) {
                name.push_str("-fields");
            }
        }
    }
}
