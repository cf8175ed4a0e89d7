//! Modules that tasks need: loaded once per digest, beside the path that claims.
//!
//! Tasks of a module that is being loaded wait here; tasks of one that is not in the store go back for a while, and
//! longer each time it is still not there. Neither counts an attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use omniq_model::{Digest, Kind, TaskError};
use omniq_sandbox::inspect::LookupError;
use omniq_sandbox::{Function, Module, Sandbox};
use omniq_store::ModuleStore;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinError;

/// Modules that stay loaded; one more lets go of the one used longest ago.
const MOST: usize = 256;
/// The first and the longest time tasks of a missing module go back for.
const ABSENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A loaded module and those of its functions that were called.
#[derive(Debug)]
pub(super) struct Loaded {
    pub module: Module,
    functions: HashMap<String, Arc<Function>>,
}

impl Loaded {
    /// The function of that name, looked up once.
    pub fn function(&mut self, name: &str) -> Result<Arc<Function>, LookupError> {
        if let Some(function) = self.functions.get(name) {
            return Ok(Arc::clone(function));
        }
        let function = Arc::new(self.module.function(name)?);
        self.functions.insert(name.to_owned(), Arc::clone(&function));
        Ok(function)
    }
}

/// What is known of a module.
#[derive(Debug)]
enum Slot {
    /// Somebody is at it.
    Loading,
    /// It can be run.
    Ready { loaded: Loaded, used: u64 },
    /// It was not there, or could not be loaded for a reason that may pass; not to be asked for again before `until`.
    Absent { until: Instant, error: TaskError },
    /// It will never run here.
    Broken(TaskError),
}

/// What there is of a module that a task needs.
pub(super) enum Access<'a> {
    /// It can be run.
    Ready(&'a mut Loaded),
    /// It is being loaded: ask again when [`Modules::arrived`] names it.
    Loading,
    /// It is not there; the task goes back for so long, and why.
    Absent(Duration, TaskError),
    /// It will never run here, and why.
    Broken(TaskError),
}

/// Why a module was not loaded.
#[derive(Debug)]
struct Fault {
    error: Box<TaskError>,
    /// It may go well later.
    passes: bool,
}

impl Fault {
    fn passing(kind: Kind, message: impl Into<String>) -> Self {
        Self { error: Box::new(TaskError::new(kind, message)), passes: true }
    }

    fn of_host(error: &JoinError) -> Self {
        Self::passing(Kind::Host, format!("the host failed while it loaded the module: {error}"))
    }
}

type Arrival = (Digest, Result<Module, Fault>);

/// The modules of a worker.
#[derive(Debug)]
pub(super) struct Modules {
    sandbox: Sandbox,
    store: Arc<dyn ModuleStore>,
    slots: HashMap<Digest, Slot>,
    /// How often each was absent in a row.
    absences: HashMap<Digest, u32>,
    uses: u64,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    wake: Arc<Notify>,
}

impl Modules {
    /// No module is loaded yet; `wake` is told when one has arrived.
    pub fn new(sandbox: Sandbox, store: Arc<dyn ModuleStore>, wake: Arc<Notify>) -> Self {
        Self {
            sandbox,
            store,
            slots: HashMap::new(),
            absences: HashMap::new(),
            uses: 0,
            arrivals: Arc::default(),
            wake,
        }
    }

    /// What there is of a module; begins to load it if nothing is known of it. `name` is for people.
    pub fn access(&mut self, digest: &Digest, name: impl Fn() -> String) -> Access<'_> {
        self.uses += 1;
        let now = Instant::now();
        let is_due = match self.slots.get(digest) {
            None => true,
            Some(Slot::Absent { until, .. }) => *until <= now,
            Some(_) => false,
        };
        if is_due {
            self.load(*digest, name());
        }
        match self.slots.get_mut(digest) {
            None | Some(Slot::Loading) => Access::Loading,
            Some(Slot::Ready { loaded, used }) => {
                *used = self.uses;
                Access::Ready(loaded)
            }
            Some(Slot::Absent { until, error }) => {
                Access::Absent(until.saturating_duration_since(now), error.clone())
            }
            Some(Slot::Broken(error)) => Access::Broken(error.clone()),
        }
    }

    fn load(&mut self, digest: Digest, name: String) {
        self.slots.insert(digest, Slot::Loading);
        let (store, sandbox) = (Arc::clone(&self.store), self.sandbox.clone());
        let (arrivals, wake) = (Arc::clone(&self.arrivals), Arc::clone(&self.wake));
        tokio::spawn(async move {
            // Whatever becomes of it, there is something to be said to those who wait.
            let loading = tokio::spawn(async move { load(&*store, sandbox, &digest, name).await });
            let loaded = loading.await.unwrap_or_else(|error| Err(Fault::of_host(&error)));
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((digest, loaded));
            wake.notify_one();
        });
    }

    /// Modules about which something is known now that were being loaded.
    pub fn arrived(&mut self) -> Vec<Digest> {
        let arrivals =
            std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
        arrivals.into_iter().map(|(digest, loaded)| self.keep(digest, loaded)).collect()
    }

    fn keep(&mut self, digest: Digest, loaded: Result<Module, Fault>) -> Digest {
        self.make_room();
        let slot = match loaded {
            Ok(module) => {
                self.absences.remove(&digest);
                let loaded = Loaded { module, functions: HashMap::new() };
                Slot::Ready { loaded, used: self.uses }
            }
            Err(Fault { error, passes: false }) => Slot::Broken(*error),
            Err(Fault { error, .. }) => {
                let times = self.absences.entry(digest).or_default();
                let pause = ABSENCE.0.saturating_mul(1 << (*times).min(5)).min(ABSENCE.1);
                *times += 1;
                tracing::warn!(%digest, reason = error.message, "a module cannot be loaded yet");
                Slot::Absent { until: Instant::now() + pause, error: *error }
            }
        };
        self.slots.insert(digest, slot);
        digest
    }

    /// Lets go of the module used longest ago if there are too many.
    fn make_room(&mut self) {
        let used = |slot: &Slot| match slot {
            Slot::Ready { used, .. } => Some(*used),
            Slot::Loading => None,
            // What is known of others is cheap to find out again.
            Slot::Absent { .. } | Slot::Broken(_) => Some(0),
        };
        while self.slots.len() > MOST {
            let oldest =
                self.slots.iter().filter_map(|(digest, slot)| Some((used(slot)?, *digest)));
            let Some((_, digest)) = oldest.min() else { return };
            self.slots.remove(&digest);
            self.absences.remove(&digest);
        }
    }
}

async fn load(
    store: &dyn ModuleStore,
    sandbox: Sandbox,
    digest: &Digest,
    name: String,
) -> Result<Module, Fault> {
    let bytes = match store.bytes(digest).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let message = format!(
                "the module `{name}` ({digest}) is not in the module store; push it, and its tasks go on"
            );
            return Err(Fault::passing(Kind::NotFound, message));
        }
        Err(error) => {
            let message = format!("the module `{name}` cannot be fetched: {error}");
            return Err(Fault::passing(Kind::Unavailable, message));
        }
    };
    let digest = *digest;
    // The compiler takes its time, and must not have that of the thread that claims.
    let compiled = tokio::task::spawn_blocking(move || compile(&sandbox, &bytes, &digest, &name));
    compiled.await.unwrap_or_else(|error| Err(Fault::of_host(&error)))
}

fn compile(sandbox: &Sandbox, bytes: &[u8], digest: &Digest, name: &str) -> Result<Module, Fault> {
    // Bytes that are not what was pushed may be anything, also a component: they are not compiled.
    if *digest != Digest::from_sha256(Sha256::digest(bytes).into()) {
        let message = format!(
            "the bytes stored for the module `{name}` are not those of {digest}: the module store is damaged; \
             push the module again"
        );
        return Err(Fault::passing(Kind::Unavailable, message));
    }
    sandbox.load(bytes).map_err(|error| {
        let kind = error.kind();
        let message = format!("the module `{name}` cannot be run: {error}");
        // What this machine refuses may go well later; what is wrong with the module stays wrong.
        Fault { passes: kind == Kind::Host, ..Fault::passing(kind, message) }
    })
}
