//! From a struct or an enum to the [`TypeDef`] it stands for.

use proc_macro2::Ident;
use syn::{Attribute, Fields, Item, ItemEnum, ItemStruct, Variant};

use crate::model::{Body, Case, Empty, Field, Payload, TypeDef};
use crate::resolve::Resolver;
use crate::{docs, names};

/// Reads a struct or an enum.
pub fn type_def(resolver: &mut Resolver<'_>, item: &Item) -> Option<TypeDef> {
    let (ident, attributes, generics) = match item {
        Item::Struct(item) => (&item.ident, &item.attrs, &item.generics),
        Item::Enum(item) => (&item.ident, &item.attrs, &item.generics),
        _ => return None,
    };
    refuse_cfg(resolver, attributes)?;
    if !generics.params.is_empty() {
        let message = format!(
            "`{ident}` is generic, and WIT knows no generic types of one's own: write one type for each use"
        );
        resolver.error(generics, message);
        return None;
    }
    let name = resolver.check(names::kebab(ident));
    let body = match item {
        Item::Struct(item) => record(resolver, item),
        Item::Enum(item) => cases(resolver, item),
        _ => None,
    };
    Some(TypeDef { ident: ident.clone(), name: name?, docs: docs::of(attributes), body: body? })
}

/// What is compiled on a condition has no place in WIT, which is written before conditions are looked at.
pub fn refuse_cfg(resolver: &mut Resolver<'_>, attributes: &[Attribute]) -> Option<()> {
    let conditional = attributes.iter().find(|attribute| attribute.path().is_ident("cfg"));
    if let Some(attribute) = conditional {
        let message = "what a component exports cannot depend on `cfg`: make the function private, or put the whole \
                       module under the condition";
        resolver.error(attribute, message);
        return None;
    }
    Some(())
}

fn record(resolver: &mut Resolver<'_>, item: &ItemStruct) -> Option<Body> {
    match &item.fields {
        Fields::Named(named) if !named.named.is_empty() => {
            fields(resolver, &item.fields).map(Body::Record)
        }
        Fields::Unnamed(unnamed) if !unnamed.unnamed.is_empty() => {
            let types: Vec<_> =
                unnamed.unnamed.iter().map(|field| crate::hints::text(&field.ty)).collect();
            let alias = match types.as_slice() {
                [ty] => ty.clone(),
                types => format!("({})", types.join(", ")),
            };
            let ident = &item.ident;
            let message = format!(
                "the fields of `{ident}` need names: `struct {ident} {{ … }}`, or `type {ident} = {alias};`"
            );
            resolver.error(&item.fields, message);
            None
        }
        _ => {
            let message = format!("`{}` is empty, and a record has at least one field", item.ident);
            resolver.error(&item.ident, message);
            None
        }
    }
}

/// The named fields of a struct or a case.
fn fields(resolver: &mut Resolver<'_>, fields: &Fields) -> Option<Vec<Field>> {
    let mut read: Vec<Option<Field>> = Vec::new();
    for field in fields {
        let ident = field.ident.as_ref()?;
        let allowed = refuse_cfg(resolver, &field.attrs);
        let name = resolver.check(names::kebab(ident));
        let ty = resolver.value(&field.ty);
        let taken = read.iter().flatten().find(|other| Some(&other.name) == name.as_ref());
        let unique = refuse_twin(resolver, ident, taken.map(|other| &other.ident));
        read.push(allowed.and(unique).and(name).zip(ty).map(|(name, ty)| Field {
            ident: ident.clone(),
            name,
            docs: docs::of(&field.attrs),
            ty,
        }));
    }
    read.into_iter().collect()
}

fn cases(resolver: &mut Resolver<'_>, item: &ItemEnum) -> Option<Body> {
    if item.variants.is_empty() {
        resolver.error(
            &item.ident,
            format!("`{}` is empty, and an enum has at least one case", item.ident),
        );
        return None;
    }
    let mut read: Vec<Option<Case>> = Vec::new();
    for variant in &item.variants {
        let case = case(resolver, &item.ident, variant);
        let taken = case
            .as_ref()
            .and_then(|case| read.iter().flatten().find(|other| other.name == case.name));
        let unique = refuse_twin(resolver, &variant.ident, taken.map(|other| &other.ident));
        read.push(unique.and(case));
    }
    let cases: Vec<Case> = read.into_iter().collect::<Option<_>>()?;
    let is_enum = cases.iter().all(|case| matches!(case.payload, Payload::Nothing(_)));
    Some(if is_enum { Body::Enum(cases) } else { Body::Variant(cases) })
}

fn case(resolver: &mut Resolver<'_>, owner: &Ident, variant: &Variant) -> Option<Case> {
    let allowed = refuse_cfg(resolver, &variant.attrs);
    let name = resolver.check(names::kebab(&variant.ident));
    let payload = match &variant.fields {
        Fields::Unit => Some(Payload::Nothing(Empty::Plain)),
        Fields::Unnamed(unnamed) => {
            let types = resolver.values(unnamed.unnamed.iter().map(|field| &field.ty));
            types.map(|mut types| match types.len() {
                0 => Payload::Nothing(Empty::Parens),
                1 => Payload::One(types.remove(0)),
                _ => Payload::Tuple(types),
            })
        }
        Fields::Named(named) if named.named.is_empty() => Some(Payload::Nothing(Empty::Braces)),
        Fields::Named(_) => {
            let made = resolver.check(names::kebab(owner)).zip(name.as_ref());
            let fields = fields(resolver, &variant.fields);
            made.zip(fields)
                .map(|((owner, case), fields)| Payload::Record(format!("{owner}-{case}"), fields))
        }
    };
    allowed?;
    Some(Case {
        ident: variant.ident.clone(),
        name: name?,
        docs: docs::of(&variant.attrs),
        payload: payload?,
    })
}

/// Two names that differ in Rust may be the same in WIT, which has no capitals and one separator.
pub fn refuse_twin(
    resolver: &mut Resolver<'_>,
    ident: &Ident,
    other: Option<&Ident>,
) -> Option<()> {
    match other {
        None => Some(()),
        Some(other) => {
            let message = format!(
                "`{ident}` and `{other}` have the same name in WIT, which is kebab-case: rename one"
            );
            resolver.error(ident, message);
            None
        }
    }
}
