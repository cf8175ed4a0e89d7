//! How large a component becomes when it is instantiated.
//!
//! A component may instantiate another any number of times, and that one others: two kilobytes describe millions of
//! instances, each of which the compiler would lay out. So they are counted while the bytes are read, by adding and
//! multiplying, and nothing is built up. So is what the instances of core modules take in the host, where no limit of a
//! call sees it. What a component is given as an argument, or takes out of an instance, could be
//! any other; such a component is not instantiated here. No toolchain asks for it.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

use super::error::Error;
use super::read::Failure;
use super::weigh::Weight;

/// What an instance of a component is made of, all that is inside it included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    /// Instances of components and core modules.
    instances: u64,
    /// Those of core modules among them.
    core_instances: u64,
    /// Imports, exports, aliases, arguments, types and functions: all that the compiler wires up.
    items: u64,
    /// Bytes that the core instances take in the host beside their memories and tables.
    bytes: u64,
    /// Core instances of modules that could be any.
    of_any_module: u64,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.items = self.items.saturating_add(other.items);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.of_any_module = self.of_any_module.saturating_add(other.of_any_module);
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
    /// The bytes that an instance of each core module that can be named here takes, by index; `None` if it could be any.
    modules: Vec<Option<u64>>,
}

/// What is being read.
#[derive(Debug)]
enum Place {
    Component(Scope),
    Module(Weight),
}

/// What a component may at most be made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// Instances of components and core modules.
    pub(super) instances: usize,
    /// What the compiler wires up between them.
    pub(super) items: usize,
    /// What sets up their globals, tables and memories, each module counted once.
    pub(super) values: usize,
    /// Bytes that all core instances together take beside their memories and tables.
    pub(super) bytes: usize,
}

/// Counts along while a valid component is read.
#[derive(Debug)]
pub(super) struct Counter {
    most: Most,
    /// Values of all modules that have been read to their end.
    values: u64,
    /// Bytes that an instance of the largest module so far takes.
    largest: u64,
    /// The components around the place that is read, and the module that may be there, innermost last.
    places: Vec<Place>,
}

/// How many core instances a valid component makes when it starts.
#[cfg(feature = "engine")]
pub(crate) fn core_instances(bytes: &[u8]) -> u64 {
    let most =
        Most { instances: usize::MAX, items: usize::MAX, values: usize::MAX, bytes: usize::MAX };
    let mut counter = Counter::new(most);
    let mut parser = wasmparser::Parser::new(0);
    parser.set_features(wasmparser::WasmFeatures::all());
    for payload in parser.parse_all(bytes).map_while(Result::ok) {
        // With the end of the whole its count would be gone.
        if matches!(payload, Payload::End(_)) && counter.places.len() == 1 {
            break;
        }
        if counter.read(&payload).is_err() {
            break;
        }
    }
    match counter.places.first() {
        Some(Place::Component(scope)) => scope.size.core_instances,
        _ => 0,
    }
}

impl Counter {
    pub(super) fn new(most: Most) -> Self {
        Self { most, values: 0, largest: 0, places: vec![Place::Component(Scope::default())] }
    }

    /// Takes in the next part, which the validator has found right.
    pub(super) fn read(&mut self, payload: &Payload<'_>) -> Result<(), Failure> {
        if let Some(Place::Module(weight)) = self.places.last_mut() {
            weight.read(payload)?;
            let values = self.values.saturating_add(weight.values);
            if values > self.most.values as u64 {
                return Err(Error::TooManyValues { max: self.most.values }.into());
            }
        }
        match payload {
            Payload::ModuleSection { .. } => self.places.push(Place::Module(Weight::default())),
            Payload::ComponentSection { .. } => {
                self.places.push(Place::Component(Scope::default()));
            }
            Payload::End(_) => self.leave()?,
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    match import?.ty {
                        ComponentTypeRef::Component(_) => self.name(Named::Any),
                        ComponentTypeRef::Module(_) => self.name_module(None),
                        _ => {}
                    }
                    self.items(1)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Component => {
                            self.name(self.component(0, export.index));
                        }
                        ComponentExternalKind::Module => {
                            self.name_module(self.module(0, export.index));
                        }
                        _ => {}
                    }
                    self.items(1)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?);
                    self.items(1)?;
                }
            }
            Payload::ComponentTypeSection(section) => self.items(section.count().into())?,
            Payload::ComponentCanonicalSection(section) => self.items(section.count().into())?,
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    match instance? {
                        Instance::Instantiate { module_index, args } => {
                            let bytes = self.module(0, module_index);
                            self.count(Size {
                                instances: 1,
                                core_instances: 1,
                                items: 1 + args.len() as u64,
                                bytes: bytes.unwrap_or(0),
                                of_any_module: u64::from(bytes.is_none()),
                            })?;
                        }
                        Instance::FromExports(exports) => self.items(1 + exports.len() as u64)?,
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
                            let items = 1 + args.len() as u64;
                            self.count(Size { instances: 1, items, ..Size::default() })?;
                        }
                        ComponentInstance::FromExports(exports) => {
                            self.items(1 + exports.len() as u64)?;
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The component around the place that is read, `count` levels out.
    fn scope(&self, count: u32) -> Option<&Scope> {
        let level = self.places.len().checked_sub(1 + count as usize)?;
        match &self.places[level] {
            Place::Component(scope) => Some(scope),
            Place::Module(_) => None,
        }
    }

    /// A component that is named from `count` levels inside the one that has it.
    fn component(&self, count: u32, index: u32) -> Named {
        let named = self.scope(count).and_then(|scope| scope.components.get(index as usize));
        named.copied().unwrap_or(Named::Any)
    }

    /// The bytes that an instance of a core module takes, which is named from `count` levels inside; `None` if it could be
    /// any.
    fn module(&self, count: u32, index: u32) -> Option<u64> {
        self.scope(count).and_then(|scope| scope.modules.get(index as usize).copied().flatten())
    }

    /// A component or a module can be named by an alias from now on, if that is what it stands for.
    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match *alias {
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                self.name(self.component(count, index));
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => {
                self.name_module(self.module(count, index));
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                self.name(Named::Any);
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                self.name_module(None);
            }
            _ => {}
        }
    }

    fn name(&mut self, component: Named) {
        if let Some(Place::Component(scope)) = self.places.last_mut() {
            scope.components.push(component);
        }
    }

    fn name_module(&mut self, bytes: Option<u64>) {
        if let Some(Place::Component(scope)) = self.places.last_mut() {
            scope.modules.push(bytes);
        }
    }

    fn items(&mut self, items: u64) -> Result<(), Error> {
        self.count(Size { items, ..Size::default() })
    }

    fn count(&mut self, size: Size) -> Result<(), Error> {
        let Some(Place::Component(scope)) = self.places.last_mut() else { return Ok(()) };
        scope.size.add(size);
        if scope.size.instances > self.most.instances as u64 {
            return Err(Error::TooManyInstances { max: self.most.instances });
        }
        if scope.size.items > self.most.items as u64 {
            return Err(Error::TooManyItems { max: self.most.items });
        }
        let size = scope.size;
        self.check_bytes(size)
    }

    /// A module that could be any is taken for the largest there is: so the whole is looked at again at its end, when all
    /// are known.
    fn check_bytes(&self, size: Size) -> Result<(), Error> {
        let of_any = size.of_any_module.saturating_mul(self.largest);
        if size.bytes.saturating_add(of_any) > self.most.bytes as u64 {
            return Err(Error::TooMuchState { max: self.most.bytes });
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        match self.places.pop() {
            Some(Place::Component(scope)) if self.places.is_empty() => {
                return self.check_bytes(scope.size);
            }
            Some(Place::Component(scope)) => self.name(Named::Known(scope.size)),
            Some(Place::Module(weight)) => {
                self.values = self.values.saturating_add(weight.values);
                self.largest = self.largest.max(weight.bytes);
                self.name_module(Some(weight.bytes));
            }
            None => {}
        }
        Ok(())
    }
}
