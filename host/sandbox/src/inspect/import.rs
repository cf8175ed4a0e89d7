//! What a component asks for: each import with what it uses of it, and the capability that takes.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentEntityType, ComponentInstanceTypeId, ResourceId,
};
use wasmparser::types::TypesRef;

use super::error::{Error, UnknownImport, similar_interface};
use super::known::{self, Capability};
use super::name::Interface;
use super::read::Component;

/// Ten times as many as all of WASI has interfaces, with room for types.
const MAX_IMPORTS: usize = 1000;

/// One import of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its name in full, with the version: `wasi:cli/environment@0.2.3`.
    pub name: String,
    /// The functions it uses, as the component names them; toolchains leave out those that nobody calls. Empty where
    /// only types are imported.
    pub functions: Vec<String>,
    /// What it needs to work; [`Capability::None`] where only types are imported.
    pub capability: Capability,
}

/// Reads the imports of a component.
///
/// # Errors
/// [`Error::Imports`] names every import that nobody here serves.
pub(super) fn read(component: &Component<'_>) -> Result<Vec<Import>, Error> {
    if component.imports.len() > MAX_IMPORTS {
        return Err(Error::TooManyImports { max: MAX_IMPORTS });
    }
    let types = component.types.as_ref();
    let mut reader = Reader { types, resources: HashSet::new() };
    let (mut served, mut unknown) = (Vec::new(), Vec::new());
    for name in &component.imports {
        let Some(item) = types.component_item_for_import(name) else { continue };
        match reader.import(name, &item.ty) {
            Ok(import) => served.push(import),
            Err(reason) => unknown.push(UnknownImport { name: (*name).to_owned(), reason }),
        }
    }
    if unknown.is_empty() { Ok(served) } else { Err(Error::Imports(unknown)) }
}

struct Reader<'a> {
    types: TypesRef<'a>,
    /// The resources that earlier imports brought in.
    resources: HashSet<ResourceId>,
}

impl Reader<'_> {
    /// Reads one import, or says why nobody serves it.
    fn import(&mut self, name: &str, entity: &ComponentEntityType) -> Result<Import, String> {
        match entity {
            ComponentEntityType::Instance(id) => self.interface(name, *id),
            ComponentEntityType::Type { created, .. } if !self.is_new(created) => {
                Ok(types_only(name))
            }
            ComponentEntityType::Type { .. } => Err("a resource".to_owned()),
            ComponentEntityType::Func(_) => Err("a function outside of any interface".to_owned()),
            ComponentEntityType::Module(_) => Err("a core module".to_owned()),
            ComponentEntityType::Component(_) => Err("a component".to_owned()),
            ComponentEntityType::Value(_) => Err("a value".to_owned()),
        }
    }

    fn interface(&mut self, name: &str, id: ComponentInstanceTypeId) -> Result<Import, String> {
        let types = self.types;
        let mut functions = Vec::new();
        let mut resources = Vec::new();
        for (member, item) in &types[id].exports {
            match &item.ty {
                ComponentEntityType::Func(_) => functions.push(member.clone()),
                ComponentEntityType::Type { created, .. } => {
                    if let ComponentAnyTypeId::Resource(id) = created
                        && self.is_new(created)
                    {
                        resources.push(id.resource());
                    }
                }
                _ => return Err(format!("its `{member}` is neither a function nor a type")),
            }
        }
        // Types need nobody to serve them, unless they are resources that only a host can make.
        if functions.is_empty() && resources.is_empty() {
            return Ok(types_only(name));
        }
        let interface = known::serving(name).ok_or_else(|| why_unknown(name))?;
        self.resources.extend(resources);
        let capability = if functions.is_empty() { Capability::None } else { interface.capability };
        Ok(Import { name: name.to_owned(), functions, capability })
    }

    /// Whether it is a resource that no earlier import has.
    fn is_new(&self, ty: &ComponentAnyTypeId) -> bool {
        match ty {
            ComponentAnyTypeId::Resource(id) => !self.resources.contains(&id.resource()),
            _ => false,
        }
    }
}

fn types_only(name: &str) -> Import {
    Import { name: name.to_owned(), functions: Vec::new(), capability: Capability::None }
}

fn why_unknown(name: &str) -> String {
    let asked = Interface::parse(name);
    let is_wasi_3 = asked.name.starts_with("wasi:")
        && asked.version.is_some_and(|version| version.starts_with("0.3."));
    if is_wasi_3 {
        return "WASI 0.3 is not served; build for WASI 0.2, such as `wasm32-wasip2`".to_owned();
    }
    if let Some(interface) = known::interface(asked.name) {
        let versions: Vec<_> = interface
            .versions
            .iter()
            .map(|version| if version.is_empty() { "no version" } else { version })
            .collect();
        return format!("served in {} only", versions.join(", "));
    }
    match similar_interface(asked.name) {
        Some(similar) => format!("unknown; did you mean `{similar}`?"),
        None => "unknown".to_owned(),
    }
}
