//! How large a component becomes when it is instantiated.
//!
//! A component may instantiate another any number of times, and that one others: two kilobytes describe millions of
//! instances, each of which the compiler would lay out. So they are counted while the bytes are read, by adding and
//! multiplying, and nothing is built up. What a component is given as an argument, or takes out of an instance, could be
//! any other; such a component is not instantiated here. No toolchain asks for it.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

use super::error::Error;
use super::read::Failure;

/// What an instance of a component is made of, all that is inside it included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    /// Instances of components and core modules.
    instances: u64,
    /// Imports, exports, aliases, arguments, types and functions: all that the compiler wires up.
    items: u64,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.items = self.items.saturating_add(other.items);
    }
}

/// A component that can be named somewhere.
#[derive(Debug, Clone, Copy)]
enum Named {
    Known(Size),
    /// It could be any: an argument, or part of an instance.
    Any,
}

/// One component that is being read.
#[derive(Debug, Default)]
struct Scope {
    size: Size,
    /// The components that can be named here, by index.
    components: Vec<Named>,
}

/// Counts along while a valid component is read.
#[derive(Debug)]
pub(super) struct Counter {
    max_instances: usize,
    max_items: usize,
    /// The components around the place that is read, innermost last; `None` for a core module.
    scopes: Vec<Option<Scope>>,
}

impl Counter {
    pub(super) fn new(max_instances: usize, max_items: usize) -> Self {
        Self { max_instances, max_items, scopes: vec![Some(Scope::default())] }
    }

    /// Takes in the next part, which the validator has found right.
    pub(super) fn read(&mut self, payload: &Payload<'_>) -> Result<(), Failure> {
        match payload {
            Payload::ModuleSection { .. } => self.scopes.push(None),
            Payload::ComponentSection { .. } => self.scopes.push(Some(Scope::default())),
            Payload::End(_) => self.leave(),
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let is_component = matches!(import?.ty, ComponentTypeRef::Component(_));
                    self.item(1, is_component.then_some(Named::Any))?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    let is_component = export.kind == ComponentExternalKind::Component;
                    self.item(1, is_component.then(|| self.component(0, export.index)))?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    let component = self.alias(&alias?);
                    self.item(1, component)?;
                }
            }
            Payload::ComponentTypeSection(section) => self.item(section.count().into(), None)?,
            Payload::ComponentCanonicalSection(section) => {
                self.item(section.count().into(), None)?;
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    match instance? {
                        Instance::Instantiate { args, .. } => {
                            self.count(Size { instances: 1, items: 1 + args.len() as u64 })?;
                        }
                        Instance::FromExports(exports) => {
                            self.item(1 + exports.len() as u64, None)?;
                        }
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    match instance? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            let Named::Known(size) = self.component(0, component_index) else {
                                return Err(Error::UnknownComponent.into());
                            };
                            self.count(size)?;
                            self.count(Size { instances: 1, items: 1 + args.len() as u64 })?;
                        }
                        ComponentInstance::FromExports(exports) => {
                            self.item(1 + exports.len() as u64, None)?;
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A component that is named from `count` levels inside the one that has it.
    fn component(&self, count: u32, index: u32) -> Named {
        let level = self.scopes.len().checked_sub(1 + count as usize);
        let scope = level.and_then(|level| self.scopes[level].as_ref());
        let named = scope.and_then(|scope| scope.components.get(index as usize));
        named.copied().unwrap_or(Named::Any)
    }

    /// The component that an alias stands for, if it is one.
    fn alias(&self, alias: &ComponentAlias<'_>) -> Option<Named> {
        match alias {
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                Some(self.component(*count, *index))
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                Some(Named::Any)
            }
            _ => None,
        }
    }

    /// Counts items; one of them may be a component that can be named from now on.
    fn item(&mut self, items: u64, component: Option<Named>) -> Result<(), Error> {
        if let Some(Some(scope)) = self.scopes.last_mut() {
            scope.components.extend(component);
        }
        self.count(Size { instances: 0, items })
    }

    fn count(&mut self, size: Size) -> Result<(), Error> {
        let Some(Some(scope)) = self.scopes.last_mut() else { return Ok(()) };
        scope.size.add(size);
        if scope.size.instances > self.max_instances as u64 {
            return Err(Error::TooManyInstances { max: self.max_instances });
        }
        if scope.size.items > self.max_items as u64 {
            return Err(Error::TooManyItems { max: self.max_items });
        }
        Ok(())
    }

    fn leave(&mut self) {
        let Some(left) = self.scopes.pop() else { return };
        if let (Some(left), Some(Some(outer))) = (left, self.scopes.last_mut()) {
            outer.components.push(Named::Known(left.size));
        }
    }
}
