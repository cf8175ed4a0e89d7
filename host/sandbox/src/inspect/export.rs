//! Sorts a component's exports: what can be called, what has a meaning of its own, and what is left alone.

use omniq_model::wit::Signature;
use wasmparser::WasmFeatures;
use wasmparser::component_types::{
    ComponentEntityType, ComponentFuncTypeId, ComponentInstanceTypeId,
};

use super::error::{Error, OtherExport, shorten};
use super::name::{FunctionName, Interface};
use super::read::Component;
use super::types::{NoValue, Refused, TypeReader};
use super::{Function, Rules, contract, known};

/// All signatures of a component together may be this many times as large as one.
const SIGNATURES: usize = 50;

/// A component's exports, sorted.
#[derive(Default)]
pub(super) struct Exports {
    pub(super) functions: Vec<Function>,
    pub(super) command: Option<String>,
    pub(super) handler: Option<FunctionName>,
    pub(super) describe: Option<FunctionName>,
    pub(super) others: Vec<OtherExport>,
    /// Where exported signatures use features that not every profile has.
    pub(super) places: Vec<Place>,
}

/// Where an exported signature uses a feature.
pub(super) struct Place {
    pub(super) feature: WasmFeatures,
    pub(super) text: String,
}

/// Reads and sorts the exports of a component.
pub(super) fn read(component: &Component<'_>, rules: &Rules) -> Result<Exports, Error> {
    let mut sorter = Sorter {
        component,
        rules,
        types: TypeReader::new(component, rules.max_type_depth, rules.max_type_nodes),
        items: 0,
        size: 0,
        exports: Exports::default(),
    };
    for name in &component.exports {
        sorter.export(name)?;
    }
    Ok(sorter.exports)
}

struct Sorter<'a> {
    component: &'a Component<'a>,
    rules: &'a Rules,
    types: TypeReader<'a>,
    /// How many functions and other items were met so far.
    items: usize,
    /// How large their signatures are together.
    size: usize,
    exports: Exports,
}

impl<'a> Sorter<'a> {
    fn export(&mut self, name: &str) -> Result<(), Error> {
        let Some(item) = self.component.types.component_item_for_export(name) else {
            return Ok(());
        };
        self.count(&item.ty)?;
        match item.ty {
            ComponentEntityType::Func(id) => self.function(None, name, id)?,
            ComponentEntityType::Instance(id) => self.interface(name, id)?,
            // Types are there for the functions that use them.
            ComponentEntityType::Type { .. } => {}
            ComponentEntityType::Module(_) => self.other(name, "a core module, not a function"),
            ComponentEntityType::Component(_) => self.other(name, "a component, not a function"),
            ComponentEntityType::Value(_) => self.other(name, "a value, not a function"),
        }
        Ok(())
    }

    /// Counts an item against the limit. Types are free: the validator bounds them, and nothing is kept of them.
    fn count(&mut self, item: &ComponentEntityType) -> Result<(), Error> {
        if !matches!(item, ComponentEntityType::Type { .. }) {
            self.items += 1;
        }
        let max = self.rules.max_functions;
        if self.items > max { Err(Error::TooManyExports { max }) } else { Ok(()) }
    }

    fn interface(&mut self, name: &str, id: ComponentInstanceTypeId) -> Result<(), Error> {
        if known::is(name, "wasi:cli/run", "0.2") {
            return self.command(name, id);
        }
        if name.starts_with("wasi:") {
            self.other(name, foreign(name));
            return Ok(());
        }
        for (function, item) in &self.component.types[id].exports {
            self.count(&item.ty)?;
            match item.ty {
                ComponentEntityType::Func(id) => self.function(Some(name), function, id)?,
                ComponentEntityType::Type { .. } => {}
                _ => self.other(&format!("{name}#{function}"), "not a function"),
            }
        }
        Ok(())
    }

    fn command(&mut self, name: &str, id: ComponentInstanceTypeId) -> Result<(), Error> {
        let run = match self.component.types[id].exports.get("run").map(|item| item.ty) {
            Some(ComponentEntityType::Func(id)) => self.types.signature(id).ok(),
            _ => None,
        };
        if self.exports.command.is_some() {
            self.other(name, "a second command");
        } else if run.is_some_and(|run| contract::same(&run.signature, &contract::command_run())) {
            self.exports.command = Some(name.to_owned());
        } else {
            self.other(name, "its `run` is not `func() -> result`");
        }
        Ok(())
    }

    fn function(
        &mut self,
        interface: Option<&str>,
        function: &str,
        id: ComponentFuncTypeId,
    ) -> Result<(), Error> {
        let name =
            FunctionName { interface: interface.map(str::to_owned), function: function.to_owned() };
        if let Some(reason) = self.internal(&name) {
            self.other(&name.to_string(), reason);
            return Ok(());
        }
        let read = match self.types.signature(id) {
            Ok(read) => read,
            Err(Refused::NoValue(place)) => {
                self.no_value(&name, &place);
                return Ok(());
            }
            Err(Refused::TooDeep) => {
                let max = self.rules.max_type_depth;
                return Err(Error::TypeDepth { function: name.to_string(), max });
            }
            Err(Refused::TooLarge) => {
                let max = self.rules.max_type_nodes;
                return Err(Error::TypeSize { function: name.to_string(), max });
            }
        };
        self.size = self.size.saturating_add(read.size);
        let max = self.rules.max_type_nodes.saturating_mul(SIGNATURES);
        if self.size > max {
            return Err(Error::AllTypesSize { max });
        }
        self.callable(name, read.signature);
        Ok(())
    }

    /// Why a function is no task whatever its signature is.
    fn internal(&self, name: &FunctionName) -> Option<&'static str> {
        if name.function.starts_with('[') {
            return Some("belongs to a resource");
        }
        // componentize-py makes a snapshot of the started interpreter through this function, and leaves it behind.
        let snapshot = |tool: &String| tool.starts_with("component-init-transform ");
        let is_init = name.interface.as_deref() == Some("exports") && name.function == "init";
        (is_init && self.component.producers.tools.iter().any(snapshot))
            .then_some("start-up code of the toolchain")
    }

    fn callable(&mut self, name: FunctionName, signature: Signature) {
        let interface = name.interface.as_deref().unwrap_or_default();
        let special = |base| known::is(interface, base, "0.1");
        if special("omniq:task/handler") && name.function == "run" {
            if !contract::same(&signature, &contract::handler_run()) {
                return self
                    .other(&name.to_string(), "not the signature that `omniq:task/handler` has");
            }
            self.exports.handler.get_or_insert(name.clone());
        }
        if special("omniq:task/describe") && name.function == "tasks" {
            if !contract::same(&signature, &contract::describe_tasks()) {
                return self
                    .other(&name.to_string(), "not the signature that `omniq:task/describe` has");
            }
            self.exports.describe.get_or_insert(name);
            return;
        }
        if signature.is_async {
            let text = format!("{} is an async func", brief(&name));
            self.exports.places.push(Place { feature: WasmFeatures::CM_ASYNC, text });
        }
        self.exports.functions.push(Function { name, signature, docs: None });
    }

    fn no_value(&mut self, name: &FunctionName, place: &NoValue) {
        let text = format!("{} {}", brief(name), place.path());
        let reason = format!("not a plain value: {}", shorten(&text));
        self.other(&name.to_string(), &reason);
        if let Some(feature) = place.feature {
            self.exports.places.push(Place { feature, text });
        }
    }

    fn other(&mut self, name: &str, reason: &str) {
        self.exports.others.push(OtherExport { name: name.to_owned(), reason: reason.to_owned() });
    }
}

/// A function's name as messages write it: `jobs.resize`.
fn brief(name: &FunctionName) -> String {
    match &name.interface {
        Some(interface) => format!("{}.{}", Interface::parse(interface).short(), name.function),
        None => name.function.clone(),
    }
}

/// Why an interface of WASI is not called.
fn foreign(name: &str) -> &'static str {
    match Interface::parse(name).name {
        "wasi:cli/run" => "only version 0.2 of it is run here",
        "wasi:http/incoming-handler" | "wasi:http/handler" => {
            "the entry of an HTTP server, which is not called here"
        }
        _ => "an interface of WASI that is not called here",
    }
}
