//! From bytes to something that can be called: inspect, compile or fetch from the cache, link, once per digest.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use omniq_model::wit::Signature;
use omniq_model::{Digest, Kind};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::abi::Args;
use crate::cache::{CodeCache, Image, Key};
use crate::call::{self, Admission, Call, Command, Entry, Target};
use crate::engine::{self, Allocation, Parts, Settings, Ticker};
use crate::error::Error;
use crate::import::{self, State};
use crate::inspect::{
    self, Capability, FunctionName, Inspected, Inspection, LookupError, Profile, Rules,
};
use crate::limit::{Cancel, Meter};
use crate::outcome::{Failure, Outcome};
use crate::value::{Bounds, args, cbor};

/// Loads components and runs them. Cheap to clone; clones share the engine and everything that is loaded.
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    allocation: Allocation,
    rules: Rules,
    stack: usize,
    compatibility: [u8; 32],
    cache: Option<CodeCache>,
    slots: Semaphore,
    /// Held while a digest is compiled, so that a second caller waits for the first instead of compiling again.
    loaded: Mutex<HashMap<Digest, Arc<Mutex<Weak<Loaded>>>>>,
    runtime: OnceLock<Runtime>,
    _ticker: Ticker,
}

/// Bytes of stack a guest has unless it is told otherwise.
const DEFAULT_STACK: usize = 512 << 10;
/// The most it can be given.
const MAX_STACK: usize = 64 << 20;

/// Settings of a [`Sandbox`].
#[derive(Debug, Clone)]
#[must_use = "nothing is opened until `open` is called"]
pub struct Builder {
    rules: Rules,
    allocation: Allocation,
    stack: usize,
    cache: Option<(PathBuf, u64)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            allocation: Allocation::OnDemand,
            stack: 512 << 10,
            cache: None,
        }
    }
}

impl Builder {
    /// Which components are taken. Default: the strict profile, at most 32 MiB.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Which features components may use. Default [`Profile::Strict`].
    pub fn profile(mut self, profile: Profile) -> Self {
        self.rules.profile = profile;
        self
    }

    /// Where instances get their memory. Default [`Allocation::OnDemand`].
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = allocation;
        self
    }

    /// Bytes of stack a guest's calls may use; the engine fixes it for all its calls. Default 512 KiB, which Python and
    /// JavaScript programs that nest deeply may want to see raised; at least 64 KiB and at most 64 MiB.
    pub fn stack(mut self, bytes: usize) -> Self {
        self.stack = bytes.clamp(64 << 10, MAX_STACK);
        self
    }

    /// Keeps compiled code in `folder`, at most `bytes` of it. Default: compiled code is not kept.
    pub fn cache(mut self, folder: impl Into<PathBuf>, bytes: u64) -> Self {
        self.cache = Some((folder.into(), bytes));
        self
    }

    /// Opens the sandbox.
    ///
    /// # Errors
    /// [`Error::Engine`] if this machine cannot run the engine, [`Error::Cache`] if the cache's folder is not safe to use.
    pub fn open(self) -> Result<Sandbox, Error> {
        let settings = Settings {
            profile: self.rules.profile,
            allocation: self.allocation,
            stack: self.stack,
        };
        let cache =
            self.cache.map(|(folder, bytes)| CodeCache::open(&folder, bytes)).transpose()?;
        let (engine, allocation) = engine::open(&settings)?;
        // What was asked for bounds the instances even where the pool found no room.
        let slots = match self.allocation {
            Allocation::Pooled { instances } => instances as usize,
            Allocation::OnDemand => Semaphore::MAX_PERMITS,
        };
        Ok(Sandbox(Arc::new(Shared {
            linker: import::linker(&engine)?,
            compatibility: engine::compatibility(&engine, self.rules.profile),
            _ticker: Ticker::start(&engine)?,
            engine,
            allocation,
            rules: self.rules,
            stack: self.stack,
            cache,
            slots: Semaphore::new(slots),
            loaded: Mutex::default(),
            runtime: OnceLock::new(),
        })))
    }
}

/// What loading a component is about to do. Reported so that a person can be told why it takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is no compiled code for it yet: it is compiled, which takes about half a second per megabyte.
    Compiling,
}

impl Sandbox {
    /// The settings of a new sandbox.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where instances get their memory: what was asked for, or what this machine had room for.
    pub fn allocation(&self) -> Allocation {
        self.0.allocation
    }

    /// How many more instances there is room for at this moment. A component of many parts takes the room of several.
    pub fn free_slots(&self) -> usize {
        self.0.slots.available_permits()
    }

    /// The profile that components are taken in.
    pub fn profile(&self) -> Profile {
        self.0.rules.profile
    }

    /// The cache of compiled code, if there is one.
    pub fn cache(&self) -> Option<&CodeCache> {
        self.0.cache.as_ref()
    }

    /// Loads a component: inspects it, and compiles it unless its code is at hand.
    ///
    /// The same bytes are compiled once, however many callers load them at the same time. Blocks for as long as the
    /// compiler takes, seconds for a large component: in async code call it through `spawn_blocking`.
    ///
    /// # Errors
    /// [`Error::Inspect`] and [`Error::Compile`] if it cannot be run here.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, Error> {
        self.load_with(bytes, |_| ())
    }

    /// As [`Self::load`]; `report` is told about steps that take long, before they start.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(&self, bytes: &[u8], report: impl FnOnce(Step)) -> Result<Module, Error> {
        let inspection = inspect::inspect(bytes, &self.0.rules)?;
        self.load_known(bytes, inspection, report)
    }

    /// As [`Self::load_with`], for a component that was inspected already, which saves doing it again if it was held to
    /// the rules of this sandbox.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_inspected(
        &self,
        component: &Inspected,
        report: impl FnOnce(Step),
    ) -> Result<Module, Error> {
        if *component.rules() != self.0.rules {
            return self.load_with(component.bytes(), report);
        }
        self.load_known(component.bytes(), component.inspection().clone(), report)
    }

    fn load_known(
        &self,
        bytes: &[u8],
        inspection: Inspection,
        report: impl FnOnce(Step),
    ) -> Result<Module, Error> {
        let slot = {
            let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            // A slot that nobody else holds and whose module is gone is of no more use.
            loaded.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|module| module.strong_count() > 0)
            });
            Arc::clone(loaded.entry(inspection.digest).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.upgrade() {
            return Ok(Module { sandbox: self.clone(), loaded });
        }
        let loaded = Arc::new(self.prepare(bytes, inspection, report)?);
        *slot = Arc::downgrade(&loaded);
        Ok(Module { sandbox: self.clone(), loaded })
    }

    fn prepare(
        &self,
        bytes: &[u8],
        inspection: Inspection,
        report: impl FnOnce(Step),
    ) -> Result<Loaded, Error> {
        let key = Key { digest: inspection.digest, engine: self.0.compatibility };
        let image = self.0.cache.as_ref().and_then(|cache| cache.load(&key));
        // Code that the engine does not take although it is authentic is compiled again.
        let component = match image.and_then(|image| trusted(&self.0.engine, &image)) {
            Some(component) => component,
            None => {
                report(Step::Compiling);
                self.compile(bytes, &key)?
            }
        };
        let pre = self.0.linker.instantiate_pre(&component).map_err(Error::compile)?;
        let slots = self.slots(bytes, &component);
        let imports_wasi = inspection.imports.iter().any(|import| import.name.starts_with("wasi:"));
        let waits = inspection
            .imports
            .iter()
            .any(|import| WAITING.iter().any(|name| import.name.starts_with(name)));
        let exports = inspection
            .functions
            .iter()
            .map(|function| Export::find(&component, &function.name, &function.signature))
            .collect::<Result<_, _>>()?;
        let command = match &inspection.command {
            Some(interface) => {
                let name =
                    FunctionName { interface: Some(interface.clone()), function: "run".to_owned() };
                Some(Export::index(&component, &name)?)
            }
            None => None,
        };
        Ok(Loaded { pre, inspection, exports, command, imports_wasi, waits, slots })
    }

    /// How many slots of the pool a component takes.
    fn slots(&self, bytes: &[u8], component: &Component) -> u32 {
        // Memory on demand has no parts that could run out.
        let Allocation::Pooled { instances } = self.0.allocation else { return 1 };
        let saturate = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let (memories, tables) = match component.resources_required() {
            Some(resources) => (resources.num_memories, resources.num_tables),
            // It instantiates a module that it is given, which nobody here gives it: it cannot run anyway.
            None => (0, 0),
        };
        // In the full profile a heap for garbage-collected values takes a memory as well.
        let heap = u32::from(self.0.rules.profile == Profile::Full);
        let parts = Parts {
            core_instances: saturate(inspect::core_instances(bytes)),
            memories: memories.saturating_add(heap),
            tables,
        };
        parts.slots(instances)
    }

    fn compile(&self, bytes: &[u8], key: &Key) -> Result<Component, Error> {
        let component = Component::from_binary(&self.0.engine, bytes).map_err(Error::compile)?;
        let Some(cache) = &self.0.cache else { return Ok(component) };
        // Without its code in the cache the component runs all the same; it is compiled again next time.
        if let Ok(code) = component.serialize() {
            let _ = cache.store(key, &code);
        }
        Ok(component)
    }

    fn runtime(&self) -> Result<&Runtime, Error> {
        if let Some(runtime) = self.0.runtime.get() {
            return Ok(runtime);
        }
        let runtime = RuntimeBuilder::new_multi_thread()
            .worker_threads(1)
            .thread_name("omniq-sandbox")
            .enable_all()
            .build()
            .map_err(|source| {
                Error::host("could not start a runtime for blocking calls", source)
            })?;
        Ok(self.0.runtime.get_or_init(|| runtime))
    }

    /// Takes so many slots; who asks for many waits its turn like any other, and is not passed by who asks for few.
    async fn admit(
        &self,
        slots: u32,
        admission: Admission,
        cancel: &Cancel,
    ) -> Result<SemaphorePermit<'_>, Failure> {
        let full = || {
            Failure::new(Kind::NoCapacity, "every slot for an instance is taken; try again later")
        };
        match self.0.slots.try_acquire_many(slots) {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(full()),
            Err(TryAcquireError::NoPermits) if admission == Admission::Refuse => {
                return Err(full());
            }
            Err(TryAcquireError::NoPermits) => {}
        }
        tokio::select! {
            permit = self.0.slots.acquire_many(slots) => permit.map_err(|_| full()),
            () = cancel.elapsed() => Err(Failure::new(Kind::Cancelled, Meter::cancelled().message)),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A thread that is stuck in the system, opening a pipe that nobody writes to, must not hold up its owner; and a
        // runtime must not be waited for inside another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("allocation", &self.0.allocation)
            .field("rules", &self.0.rules)
            .finish_non_exhaustive()
    }
}

/// Interfaces with functions that can wait; a component that imports none of them runs without a stack of its own.
const WAITING: &[&str] = &[
    "wasi:io/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:http/",
    "wasi:keyvalue/",
    "wasi:cli/std",
];

#[expect(unsafe_code, reason = "loading compiled code is as trusting as running it")]
fn trusted(engine: &Engine, image: &Image) -> Option<Component> {
    // SAFETY: the image was authenticated with this installation's secret after it was sealed against every change, so
    // it is what `Component::serialize` gave for an engine of the same settings, version and processor.
    unsafe { Component::deserialize_file(engine, image.path()) }.ok()
}

struct Loaded {
    pre: InstancePre<State>,
    inspection: Inspection,
    /// In the order of `inspection.functions`.
    exports: Vec<Export>,
    command: Option<ComponentExportIndex>,
    imports_wasi: bool,
    waits: bool,
    /// How many slots of the pool an instance takes.
    slots: u32,
}

struct Export {
    index: ComponentExportIndex,
    /// For each entry of the canonical arguments, which parameter it is.
    order: Vec<usize>,
}

impl Export {
    fn find(
        component: &Component,
        name: &FunctionName,
        signature: &Signature,
    ) -> Result<Self, Error> {
        let order = cbor::canonical_order(&signature.params);
        Ok(Self { index: Self::index(component, name)?, order })
    }

    fn index(component: &Component, name: &FunctionName) -> Result<ComponentExportIndex, Error> {
        let interface = name.interface.as_ref();
        let instance = interface.map(|interface| component.get_export_index(None, interface));
        let index = match instance {
            Some(instance) => instance
                .and_then(|instance| component.get_export_index(Some(&instance), &name.function)),
            None => component.get_export_index(None, &name.function),
        };
        index.ok_or_else(|| Error::Compile {
            message: format!("the engine does not find the export `{name}`"),
        })
    }
}

/// A component that is ready to run. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    sandbox: Sandbox,
    loaded: Arc<Loaded>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.loaded.inspection.digest)
            .finish_non_exhaustive()
    }
}

impl Module {
    /// What the component says about itself.
    pub fn inspection(&self) -> &Inspection {
        &self.loaded.inspection
    }

    /// Whether it uses anything that a call must grant.
    pub fn capabilities(&self) -> Vec<Capability> {
        self.loaded.inspection.capabilities()
    }

    /// One of its functions, by any name that means one of them only.
    ///
    /// # Errors
    /// [`LookupError`] lists what there is.
    pub fn function(&self, name: &str) -> Result<Function, LookupError> {
        let found = self.loaded.inspection.function(name)?;
        let functions = &self.loaded.inspection.functions;
        let index =
            functions.iter().position(|function| std::ptr::eq(function, found)).unwrap_or_default();
        Ok(Function { module: self.clone(), index })
    }

    /// Runs the component as a program; [`Kind::NotFound`] if it is none.
    ///
    /// Dropping the future stops the guest.
    ///
    /// # Panics
    /// Outside of a tokio runtime with timers, as soon as the guest waits for something.
    pub async fn run(&self, command: Command, call: Call) -> Outcome {
        let meter = Meter::start(&call.limits, call.cancel.clone());
        let Some(index) = &self.loaded.command else {
            return call::refused(self.no_command(), &meter);
        };
        match self.sandbox.admit(self.loaded.slots, call.admission, &call.cancel).await {
            Ok(_permit) => {
                let target =
                    Target { command: Some(command), ..self.target(Entry::Command { index }) };
                call::run(target, call).await
            }
            Err(failure) => call::refused(failure, &meter),
        }
    }

    /// As [`Self::run`], on the current thread.
    ///
    /// # Panics
    /// Inside async code, where it would hold up the runtime: use [`Self::run`] there.
    pub fn run_blocking(&self, command: Command, call: Call) -> Outcome {
        let meter = Meter::start(&call.limits, call.cancel.clone());
        match self.sandbox.runtime() {
            Ok(runtime) => runtime.block_on(self.run(command, call)),
            Err(error) => call::refused(Failure::new(error.kind(), error.to_string()), &meter),
        }
    }

    fn no_command(&self) -> Failure {
        let functions: Vec<_> =
            self.loaded.inspection.functions.iter().map(|function| &function.name).collect();
        let names: Vec<_> =
            functions.iter().map(|name| self.loaded.inspection.short_name(name)).collect();
        let message =
            format!("the component is no command; its functions are {}", names.join(", "));
        Failure::new(Kind::NotFound, message)
    }

    fn target<'a>(&'a self, entry: Entry<'a>) -> Target<'a> {
        Target {
            engine: &self.sandbox.0.engine,
            pre: &self.loaded.pre,
            imports_wasi: self.loaded.imports_wasi,
            most_table_elements: match self.sandbox.0.allocation {
                Allocation::Pooled { .. } => engine::POOLED_TABLE_ELEMENTS as u64,
                Allocation::OnDemand => u64::MAX,
            },
            entry,
            command: None,
        }
    }
}

/// A function of a [`Module`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Function {
    module: Module,
    index: usize,
}

impl Function {
    /// Its full name.
    pub fn name(&self) -> &FunctionName {
        &self.described().name
    }

    /// What it takes and gives back.
    pub fn signature(&self) -> &Signature {
        &self.described().signature
    }

    /// What its author says about it.
    pub fn docs(&self) -> Option<&str> {
        self.described().docs.as_deref()
    }

    /// The module it belongs to.
    pub fn module(&self) -> &Module {
        &self.module
    }

    fn described(&self) -> &inspect::Function {
        &self.module.loaded.inspection.functions[self.index]
    }

    /// Calls the function with arguments in CBOR: a map by parameter name, or an array in order.
    ///
    /// The result is [`Output::Value`](crate::Output::Value). Dropping the future stops the guest.
    pub async fn call(&self, args: &[u8], call: Call) -> Outcome {
        let meter = Meter::start(&call.limits, call.cancel.clone());
        let args = match self.check(args, &call) {
            Ok(args) => args,
            Err(failure) => return call::refused(failure, &meter),
        };
        let module = &self.module;
        match module.sandbox.admit(module.loaded.slots, call.admission, &call.cancel).await {
            Ok(_permit) => call::run(self.target(&args), call).await,
            Err(failure) => call::refused(failure, &meter),
        }
    }

    /// As [`Self::call`], on the current thread: without a stack of its own where the component never waits.
    ///
    /// # Panics
    /// Inside async code, where it would hold up the runtime: use [`Self::call`] there.
    pub fn call_blocking(&self, args: &[u8], call: Call) -> Outcome {
        let meter = Meter::start(&call.limits, call.cancel.clone());
        let sandbox = &self.module.sandbox.0;
        // The thread's own stack is known to have room for the default only.
        let direct = !self.module.loaded.waits
            && sandbox.rules.profile == Profile::Strict
            && sandbox.stack <= DEFAULT_STACK;
        let slots = self.module.loaded.slots;
        if direct && let Ok(_permit) = sandbox.slots.try_acquire_many(slots) {
            return match self.check(args, &call) {
                Ok(args) => call::run_on_thread(self.target(&args), call),
                Err(failure) => call::refused(failure, &meter),
            };
        }
        match self.module.sandbox.runtime() {
            Ok(runtime) => runtime.block_on(self.call(args, call)),
            Err(error) => call::refused(Failure::new(error.kind(), error.to_string()), &meter),
        }
    }

    /// The arguments in canonical form.
    fn check<'a>(&self, args: &'a [u8], call: &Call) -> Result<Cow<'a, [u8]>, Failure> {
        let bounds = Bounds::with_bytes(usize::try_from(call.limits.args).unwrap_or(usize::MAX));
        args::check_cbor(self.signature(), args, &bounds)
            .map_err(|error| Failure::new(error.kind(), error.to_string()))
    }

    fn target<'a>(&'a self, args: &'a [u8]) -> Target<'a> {
        let export = &self.module.loaded.exports[self.index];
        let signature = self.signature();
        self.module.target(Entry::Function {
            index: &export.index,
            args: Args { cbor: args, order: &export.order },
            result: signature.result.as_ref(),
            is_async: signature.is_async,
        })
    }
}
