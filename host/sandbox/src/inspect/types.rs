//! Turns the validator's graph of types into the trees of the model, with a bound on their depth and size.
//!
//! A few bytes can describe a tree of astronomic size (a tuple of two tuples of two tuples …), so that nothing is
//! written out before it is measured: each type of the graph is visited once and carries the size of its tree.

use std::collections::HashMap;
use std::sync::Arc;

use omniq_model::wit::{Case, Field, Labels, Record, ResultType, Signature, Type, Variant};
use wasmparser::component_types::{
    AliasableResourceId, ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId,
    ComponentEntityType, ComponentFuncTypeId, ComponentValType, ResourceId,
};
use wasmparser::names::KebabString;
use wasmparser::types::TypesRef;
use wasmparser::{PrimitiveValType, WasmFeatures};

use super::read::Component;

/// How many instances inside instances are searched for the names of types.
const NAMED_LEVELS: usize = 3;
/// How many aliases of aliases are followed to a name.
const MAX_ALIASES: usize = 64;

/// Reads signatures out of one component.
pub(super) struct TypeReader<'a> {
    types: TypesRef<'a>,
    names: HashMap<ComponentDefinedTypeId, &'a str>,
    resources: HashMap<ResourceId, &'a str>,
    seen: HashMap<ComponentDefinedTypeId, Measured>,
    max_depth: usize,
    max_size: usize,
}

/// A type and how large it is as a tree.
#[derive(Clone)]
struct Measured {
    ty: Type,
    depth: usize,
    size: usize,
}

/// A signature and the size of its types.
pub(super) struct Read {
    pub(super) signature: Signature,
    pub(super) size: usize,
}

/// Why a function has no signature in the model.
pub(super) enum Refused {
    /// It takes or returns what is no plain value.
    NoValue(NoValue),
    /// A type nests too deep.
    TooDeep,
    /// The types are too large.
    TooLarge,
}

/// A place in a signature that holds something else than a plain value.
pub(super) struct NoValue {
    /// The way there, innermost step first.
    steps: Vec<String>,
    /// The type found there, as WIT writes it.
    what: String,
    /// The feature that it belongs to, if it is one of its own.
    pub(super) feature: Option<WasmFeatures>,
}

impl NoValue {
    /// Where it is and what it is: `param 2 field body: stream<u8>`.
    pub(super) fn path(&self) -> String {
        let steps: Vec<_> = self.steps.iter().rev().map(String::as_str).collect();
        format!("{}: {}", steps.join(" "), self.what)
    }
}

impl Refused {
    fn at(mut self, step: impl FnOnce() -> String) -> Self {
        if let Self::NoValue(place) = &mut self {
            place.steps.push(step());
        }
        self
    }
}

impl<'a> TypeReader<'a> {
    pub(super) fn new(component: &'a Component<'_>, max_depth: usize, max_size: usize) -> Self {
        let types = component.types.as_ref();
        let mut reader = Self {
            types,
            names: HashMap::new(),
            resources: HashMap::new(),
            seen: HashMap::new(),
            max_depth,
            max_size,
        };
        for name in &component.exports {
            if let Some((name, item)) =
                types.component_item_for_export(name).map(|item| (*name, item))
            {
                reader.add_names(name, &item.ty, NAMED_LEVELS);
            }
        }
        for name in &component.imports {
            if let Some((name, item)) =
                types.component_item_for_import(name).map(|item| (*name, item))
            {
                reader.add_names(name, &item.ty, NAMED_LEVELS);
            }
        }
        reader
    }

    fn add_names(&mut self, name: &'a str, entity: &ComponentEntityType, levels: usize) {
        match entity {
            ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(id), .. } => {
                self.names.entry(*id).or_insert(name);
            }
            ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => {
                self.resources.entry(id.resource()).or_insert(name);
            }
            ComponentEntityType::Instance(id) if levels > 0 => {
                let types = self.types;
                for (name, item) in
                    types.get(*id).into_iter().flat_map(|instance| &instance.exports)
                {
                    self.add_names(name, &item.ty, levels - 1);
                }
            }
            _ => {}
        }
    }

    /// Reads the signature of a function.
    pub(super) fn signature(&mut self, id: ComponentFuncTypeId) -> Result<Read, Refused> {
        let types = self.types;
        let function = &types[id];
        let mut size = 0;
        let mut params = Vec::with_capacity(function.params.len());
        for (index, (name, ty)) in function.params.iter().enumerate() {
            let read =
                self.value(*ty).map_err(|refused| refused.at(|| format!("param {}", index + 1)))?;
            size = self.grown(size, read.size + label(name))?;
            params.push(Field { name: name.to_string(), ty: read.ty });
        }
        let result = match function.result {
            Some(ty) => {
                let read = self.value(ty).map_err(|refused| refused.at(|| "result".to_owned()))?;
                size = self.grown(size, read.size)?;
                Some(read.ty)
            }
            None => None,
        };
        Ok(Read { signature: Signature { params, result, is_async: function.async_ }, size })
    }

    fn value(&mut self, ty: ComponentValType) -> Result<Measured, Refused> {
        let id = match ty {
            ComponentValType::Primitive(primitive) => return self.primitive(primitive),
            ComponentValType::Type(id) => id,
        };
        if let Some(known) = self.seen.get(&id) {
            return Ok(known.clone());
        }
        // The validator refuses types that nest deeper than a hundred levels, which bounds this recursion.
        let read = self.defined(id)?;
        if read.depth > self.max_depth {
            return Err(Refused::TooDeep);
        }
        self.seen.insert(id, read.clone());
        Ok(read)
    }

    fn primitive(&self, primitive: PrimitiveValType) -> Result<Measured, Refused> {
        let ty = match primitive {
            PrimitiveValType::Bool => Type::Bool,
            PrimitiveValType::S8 => Type::S8,
            PrimitiveValType::U8 => Type::U8,
            PrimitiveValType::S16 => Type::S16,
            PrimitiveValType::U16 => Type::U16,
            PrimitiveValType::S32 => Type::S32,
            PrimitiveValType::U32 => Type::U32,
            PrimitiveValType::S64 => Type::S64,
            PrimitiveValType::U64 => Type::U64,
            PrimitiveValType::F32 => Type::F32,
            PrimitiveValType::F64 => Type::F64,
            PrimitiveValType::Char => Type::Char,
            PrimitiveValType::String => Type::String,
            PrimitiveValType::ErrorContext => {
                return Err(no_value(
                    "error-context".to_owned(),
                    Some(WasmFeatures::CM_ERROR_CONTEXT),
                ));
            }
        };
        Ok(Measured { ty, depth: 1, size: 1 })
    }

    fn defined(&mut self, id: ComponentDefinedTypeId) -> Result<Measured, Refused> {
        let types = self.types;
        let name = || self.name(id).map(str::to_owned);
        match &types[id] {
            ComponentDefinedType::Primitive(primitive) => self.primitive(*primitive),
            ComponentDefinedType::Flags(labels) => {
                let (labels, size) = self.labels(name(), labels)?;
                Ok(Measured { ty: Type::Flags(labels), depth: 1, size })
            }
            ComponentDefinedType::Enum(labels) => {
                let (labels, size) = self.labels(name(), labels)?;
                Ok(Measured { ty: Type::Enum(labels), depth: 1, size })
            }
            ComponentDefinedType::Record(record) => {
                let name = name();
                let mut tree = Tree::new(name.as_deref());
                let mut fields = Vec::with_capacity(record.fields.len());
                for (name, ty) in &record.fields {
                    let ty = self.child(&mut tree, *ty, || format!("field {name}"))?;
                    tree.size = self.grown(tree.size, label(name))?;
                    fields.push(Field { name: name.to_string(), ty });
                }
                Ok(tree.done(Type::Record(Arc::new(Record { name, fields }))))
            }
            ComponentDefinedType::Variant(variant) => {
                let name = name();
                let mut tree = Tree::new(name.as_deref());
                let mut cases = Vec::with_capacity(variant.cases.len());
                for (name, case) in &variant.cases {
                    let ty = self.optional(&mut tree, case.ty, || format!("case {name}"))?;
                    tree.size = self.grown(tree.size, label(name))?;
                    cases.push(Case { name: name.to_string(), ty });
                }
                Ok(tree.done(Type::Variant(Arc::new(Variant { name, cases }))))
            }
            ComponentDefinedType::Tuple(tuple) => {
                let mut tree = Tree::new(None);
                let mut items = Vec::with_capacity(tuple.types.len());
                for (index, ty) in tuple.types.iter().enumerate() {
                    items.push(self.child(&mut tree, *ty, || format!("item {}", index + 1))?);
                }
                Ok(tree.done(Type::Tuple(items.into())))
            }
            ComponentDefinedType::List { element, .. } => {
                let mut tree = Tree::new(None);
                let ty = self.child(&mut tree, *element, || "element".to_owned())?;
                Ok(tree.done(Type::List(Arc::new(ty))))
            }
            ComponentDefinedType::Option { ty, .. } => {
                let mut tree = Tree::new(None);
                let ty = self.child(&mut tree, *ty, || "some".to_owned())?;
                Ok(tree.done(Type::Option(Arc::new(ty))))
            }
            ComponentDefinedType::Result { ok, err, .. } => {
                let mut tree = Tree::new(None);
                let ok = self.optional(&mut tree, *ok, || "ok".to_owned())?;
                let err = self.optional(&mut tree, *err, || "err".to_owned())?;
                Ok(tree.done(Type::Result(Arc::new(ResultType { ok, err }))))
            }
            other => Err(self.refuse(other)),
        }
    }

    /// Says what a type is that has no place in the model.
    fn refuse(&self, ty: &ComponentDefinedType) -> Refused {
        let (what, feature) = match ty {
            ComponentDefinedType::Own(id) => (format!("resource {}", self.resource(*id)), None),
            ComponentDefinedType::Borrow(id) => (format!("borrow<{}>", self.resource(*id)), None),
            ComponentDefinedType::Stream { ty, .. } => {
                (self.of("stream", *ty), Some(WasmFeatures::CM_ASYNC))
            }
            ComponentDefinedType::Future { ty, .. } => {
                (self.of("future", *ty), Some(WasmFeatures::CM_ASYNC))
            }
            ComponentDefinedType::Map { key, value, .. } => {
                let what = format!("map<{}, {}>", self.brief(*key), self.brief(*value));
                (what, Some(WasmFeatures::CM_MAP))
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                let what = format!("list<{}, {length}>", self.brief(*element));
                (what, Some(WasmFeatures::CM_FIXED_LENGTH_LISTS))
            }
            _ => ("a type that is unknown here".to_owned(), None),
        };
        no_value(what, feature)
    }

    fn of(&self, kind: &str, inner: Option<ComponentValType>) -> String {
        match inner {
            Some(inner) => format!("{kind}<{}>", self.brief(inner)),
            None => kind.to_owned(),
        }
    }

    /// A type in one word, for messages.
    fn brief(&self, ty: ComponentValType) -> &str {
        match ty {
            ComponentValType::Type(id) => self.name(id).unwrap_or("…"),
            ComponentValType::Primitive(primitive) => match primitive {
                PrimitiveValType::Bool => "bool",
                PrimitiveValType::S8 => "s8",
                PrimitiveValType::U8 => "u8",
                PrimitiveValType::S16 => "s16",
                PrimitiveValType::U16 => "u16",
                PrimitiveValType::S32 => "s32",
                PrimitiveValType::U32 => "u32",
                PrimitiveValType::S64 => "s64",
                PrimitiveValType::U64 => "u64",
                PrimitiveValType::F32 => "f32",
                PrimitiveValType::F64 => "f64",
                PrimitiveValType::Char => "char",
                PrimitiveValType::String => "string",
                PrimitiveValType::ErrorContext => "error-context",
            },
        }
    }

    fn resource(&self, id: AliasableResourceId) -> &'a str {
        self.resources.get(&id.resource()).copied().unwrap_or("without a name")
    }

    /// The name a type is exported or imported under, its own or that of the type it is an alias of.
    fn name(&self, mut id: ComponentDefinedTypeId) -> Option<&'a str> {
        for _ in 0..MAX_ALIASES {
            if let Some(name) = self.names.get(&id) {
                return Some(name);
            }
            id = self.types.peel_alias(id)?;
        }
        None
    }

    fn labels<'b>(
        &self,
        name: Option<String>,
        labels: impl IntoIterator<Item = &'b KebabString>,
    ) -> Result<(Arc<Labels>, usize), Refused> {
        let mut size = Tree::new(name.as_deref()).size;
        let mut all = Vec::new();
        for text in labels {
            size = self.grown(size, label(text))?;
            all.push(text.to_string());
        }
        Ok((Arc::new(Labels { name, labels: all }), size))
    }

    fn optional(
        &mut self,
        tree: &mut Tree,
        ty: Option<ComponentValType>,
        step: impl FnOnce() -> String,
    ) -> Result<Option<Type>, Refused> {
        ty.map(|ty| self.child(tree, ty, step)).transpose()
    }

    fn child(
        &mut self,
        tree: &mut Tree,
        ty: ComponentValType,
        step: impl FnOnce() -> String,
    ) -> Result<Type, Refused> {
        let read = self.value(ty).map_err(|refused| refused.at(step))?;
        tree.depth = tree.depth.max(read.depth + 1);
        tree.size = self.grown(tree.size, read.size)?;
        Ok(read.ty)
    }

    fn grown(&self, size: usize, by: usize) -> Result<usize, Refused> {
        let size = size.saturating_add(by);
        if size > self.max_size { Err(Refused::TooLarge) } else { Ok(size) }
    }
}

/// The measure of a type while its parts are read.
struct Tree {
    depth: usize,
    size: usize,
}

impl Tree {
    fn new(name: Option<&str>) -> Self {
        Self { depth: 1, size: 1 + name.map_or(0, long) }
    }

    fn done(self, ty: Type) -> Measured {
        Measured { ty, depth: self.depth, size: self.size }
    }
}

/// What a label adds to the size of a tree: one, and more if it is a long one.
fn label(text: &KebabString) -> usize {
    1 + long(text.as_str())
}

/// Names may have 100,000 bytes each and be repeated wherever their type is used, so they count as well.
fn long(text: &str) -> usize {
    text.len() / 64
}

fn no_value(what: String, feature: Option<WasmFeatures>) -> Refused {
    Refused::NoValue(NoValue { steps: Vec::new(), what, feature })
}
