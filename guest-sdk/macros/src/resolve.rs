//! From a type as the author wrote it to a [`Ty`], or to an error at the type that says what to write instead.

use std::collections::{HashMap, HashSet};

use proc_macro2::Ident;
use quote::ToTokens;
use syn::visit_mut::VisitMut;
use syn::{GenericArgument, Item, ItemType, Path, PathArguments, PathSegment, Type};

use crate::define;
use crate::hints;
use crate::model::{Contract, Primitive, Ty, TypeDef};

/// Said once, with the first type that cannot be used.
const ALLOWED: &str = "

what can be used: bool, char, String, u8 to u64, i8 to i64, f32, f64,
Vec<T>, Option<T>, Result<T, E>, tuples, structs and enums of this module,
omniq::Failure and omniq::Payload, and as a parameter also a reference to
one of these, such as &str or &[T]";

/// The longest tuple for which the bindings can derive their traits.
const LONGEST_TUPLE: usize = 12;

/// An alias within an alias, this many times over, has no end.
const DEEPEST_ALIAS: usize = 32;

/// Knows the types of a module, and collects the errors that are found on the way.
///
/// A method that returns `None` has left an error behind, which was reported where it lies.
pub struct Resolver<'a> {
    declared: HashMap<String, &'a Item>,
    /// The structs and enums met so far, and those that are still being looked at.
    met: HashMap<String, State>,
    /// How many aliases are being replaced right now, one within the other.
    alias_depth: usize,
    /// Aliases that stand for themselves.
    refused_aliases: HashSet<String>,
    defs: Vec<TypeDef>,
    errors: Vec<syn::Error>,
    told_what_is_allowed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
    Refused,
}

impl<'a> Resolver<'a> {
    pub fn new(items: &'a [Item]) -> Self {
        let name = |item: &Item| match item {
            Item::Struct(item) => Some(item.ident.to_string()),
            Item::Enum(item) => Some(item.ident.to_string()),
            Item::Type(item) => Some(item.ident.to_string()),
            _ => None,
        };
        Resolver {
            declared: items.iter().filter_map(|item| Some((name(item)?, item))).collect(),
            met: HashMap::new(),
            alias_depth: 0,
            refused_aliases: HashSet::new(),
            defs: Vec::new(),
            errors: Vec::new(),
            told_what_is_allowed: false,
        }
    }

    /// Every type that was met, and every error that was found, in no particular order.
    pub fn finish(self) -> (Vec<TypeDef>, Vec<syn::Error>) {
        (self.defs, self.errors)
    }

    pub fn error(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.errors.push(syn::Error::new_spanned(at, message));
    }

    /// Keeps an error that was made elsewhere.
    pub fn check<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    /// The type of a parameter, and whether it is a reference.
    pub fn param(&mut self, ty: &Type) -> Option<(Ty, bool)> {
        let Type::Reference(reference) = ty else { return Some((self.value(ty)?, false)) };
        if let Some(lifetime) = &reference.lifetime {
            self.error(lifetime, "an argument lives as long as the call: leave the lifetime out");
            return None;
        }
        if reference.mutability.is_some() {
            let owned = hints::text(&reference.elem);
            self.unsupported(ty, &format!("take `{owned}` and return what changed"));
            return None;
        }
        let resolved = match &*reference.elem {
            Type::Slice(slice) => Ty::List(Box::new(self.value(&slice.elem)?)),
            Type::Path(path) if path.path.is_ident("str") => Ty::String,
            other => self.value(other)?,
        };
        Some((resolved, true))
    }

    /// The type of a result or of one side of it, where `()` is nothing.
    pub fn side(&mut self, ty: &Type) -> Option<Option<Ty>> {
        match ty {
            Type::Tuple(tuple) if tuple.elems.is_empty() => Some(None),
            other => self.value(other).map(Some),
        }
    }

    /// The type of a value.
    pub fn value(&mut self, ty: &Type) -> Option<Ty> {
        match ty {
            Type::Group(group) => self.value(&group.elem),
            Type::Paren(paren) => self.value(&paren.elem),
            Type::Tuple(tuple) => {
                if tuple.elems.is_empty() {
                    self.unsupported(
                        ty,
                        "leave it out; only a result and its two sides may be `()`",
                    );
                    return None;
                }
                if tuple.elems.len() > LONGEST_TUPLE {
                    let message = format!("a tuple has at most {LONGEST_TUPLE} elements");
                    self.unsupported(ty, &format!("{message}; use a struct"));
                    return None;
                }
                self.values(&tuple.elems).map(Ty::Tuple)
            }
            Type::Path(path) if path.qself.is_none() => self.path(ty, &path.path),
            other => {
                let hint = hints::for_shape(other);
                self.unsupported(other, &hint);
                None
            }
        }
    }

    /// Goes on after an error, so that all of them are reported at once.
    pub fn values<'t>(&mut self, types: impl IntoIterator<Item = &'t Type>) -> Option<Vec<Ty>> {
        let resolved: Vec<_> = types.into_iter().map(|ty| self.value(ty)).collect();
        resolved.into_iter().collect()
    }

    fn path(&mut self, ty: &Type, path: &Path) -> Option<Ty> {
        let last = path.segments.last()?;
        let name = last.ident.to_string();
        let prefix: Vec<_> =
            path.segments.iter().rev().skip(1).map(|segment| segment.ident.to_string()).collect();
        let first = prefix.last().map(String::as_str);

        let is_local = first.is_none() || (first == Some("self") && prefix.len() == 1);
        if is_local && self.declared.contains_key(&name) {
            return self.declared(ty, last);
        }
        if matches!(first, None | Some("std" | "core" | "alloc")) {
            let arguments = self.arguments(last);
            if let Some(resolved) = self.built_in(ty, &name, &arguments) {
                return resolved;
            }
        }
        let is_contract =
            first.is_none() || matches!(first, Some("omniq" | "omniq_guest")) && prefix.len() == 1;
        if let Some(contract) = Contract::from_rust(&name).filter(|_| is_contract) {
            return Some(Ty::Contract(contract));
        }
        let hint = if self.arguments(last).iter().any(|argument| self.is_open(argument)) {
            hints::RECURSIVE.to_owned()
        } else {
            hints::for_path(path).unwrap_or_else(|| hints::DECLARED_ELSEWHERE.to_owned())
        };
        self.unsupported(ty, &hint);
        None
    }

    /// A type that needs no declaration; `None` if there is none of that name.
    #[expect(
        clippy::option_option,
        reason = "the outer one: is it known; the inner one: is it without error"
    )]
    fn built_in(&mut self, ty: &Type, name: &str, arguments: &[Type]) -> Option<Option<Ty>> {
        let resolved = match (name, arguments) {
            ("String", []) => Some(Ty::String),
            ("Vec", [element]) => self.value(element).map(|ty| Ty::List(Box::new(ty))),
            ("Option", [inner]) => self.value(inner).map(|ty| Ty::Option(Box::new(ty))),
            ("Result", [ok, err]) => {
                let (ok, err) = (self.side(ok), self.side(err));
                ok.zip(err).map(|(ok, err)| Ty::Result(ok.map(Box::new), err.map(Box::new)))
            }
            ("Result", _) => {
                self.unsupported(ty, hints::BOTH_SIDES);
                None
            }
            _ => Some(Ty::Primitive(Primitive::from_rust(name).filter(|_| arguments.is_empty())?)),
        };
        Some(resolved)
    }

    /// Whether the type is being looked at right now, so that whoever mentions it is a part of it.
    fn is_open(&self, ty: &Type) -> bool {
        let Type::Path(path) = ty else { return false };
        let name = path.path.get_ident().map(Ident::to_string);
        name.is_some_and(|name| self.met.get(&name) == Some(&State::Open))
    }

    fn arguments(&self, segment: &PathSegment) -> Vec<Type> {
        let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
            return Vec::new();
        };
        let types = arguments.args.iter().filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty.clone()),
            _ => None,
        });
        types.collect()
    }

    /// A type that the module declares.
    fn declared(&mut self, ty: &Type, segment: &PathSegment) -> Option<Ty> {
        let name = segment.ident.to_string();
        let item = *self.declared.get(&name)?;
        if let Item::Type(alias) = item {
            return self.alias(ty, alias, segment);
        }
        match self.met.get(&name) {
            Some(State::Done) => return Some(Ty::Named(segment.ident.clone())),
            Some(State::Refused) => return None,
            Some(State::Open) => {
                self.unsupported(ty, hints::RECURSIVE);
                return None;
            }
            None => {}
        }
        self.met.insert(name.clone(), State::Open);
        let def = define::type_def(self, item);
        self.met.insert(name, if def.is_some() { State::Done } else { State::Refused });
        self.defs.push(def?);
        Some(Ty::Named(segment.ident.clone()))
    }

    /// Puts what an alias stands for in its place.
    fn alias(&mut self, ty: &Type, alias: &ItemType, segment: &PathSegment) -> Option<Ty> {
        let name = alias.ident.to_string();
        if self.refused_aliases.contains(&name) {
            return None;
        }
        if self.alias_depth == DEEPEST_ALIAS {
            self.unsupported(ty, "the alias stands for itself");
            self.refused_aliases.insert(name);
            return None;
        }
        let mut given = self.arguments(segment).into_iter();
        let mut replace = Replace(HashMap::new());
        for param in alias.generics.type_params() {
            let argument = given.next().or_else(|| param.default.clone().map(|(_, ty)| ty));
            if let Some(argument) = argument {
                replace.0.insert(param.ident.clone(), argument);
            }
        }
        let mut target = (*alias.ty).clone();
        replace.visit_type_mut(&mut target);
        self.alias_depth += 1;
        let resolved = self.value(&target);
        self.alias_depth -= 1;
        resolved
    }

    fn unsupported(&mut self, ty: &Type, hint: &str) {
        let allowed = if self.told_what_is_allowed { "" } else { ALLOWED };
        self.told_what_is_allowed = true;
        self.error(ty, format!("`{}` cannot be used here: {hint}{allowed}", hints::text(ty)));
    }
}

/// Replaces the parameters of an alias by its arguments.
struct Replace(HashMap<Ident, Type>);

impl VisitMut for Replace {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        let argument = match ty {
            Type::Path(path) => path.path.get_ident().and_then(|ident| self.0.get(ident)),
            _ => None,
        };
        match argument.cloned() {
            // Not visited again: an argument that is named like a parameter means something else.
            Some(argument) => *ty = argument,
            None => syn::visit_mut::visit_type_mut(self, ty),
        }
    }
}
