//! Which module and function a name means, and what a task must know of them. Lookups are kept for a second, so that a
//! burst of tasks asks its store once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use omniq_model::wit::Signature;
use omniq_model::{Module, ModuleFunction, ModuleRef, Name};
use omniq_sandbox::inspect::nearest::suggestion;
use omniq_sandbox::inspect::{FunctionName, find_function};
use omniq_store::ModuleStore;

use crate::error::{Error, Result};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// How many modules an error lists.
const LISTED: usize = 5;

/// The modules of a store, by name.
#[derive(Debug)]
pub(crate) struct Catalog {
    store: Arc<dyn ModuleStore>,
    known: Mutex<HashMap<String, (Instant, Arc<Entry>)>>,
}

/// A module whose functions can be looked up.
#[derive(Debug)]
pub(crate) struct Entry {
    pub module: Module,
    names: Vec<FunctionName>,
    targets: Mutex<HashMap<String, Arc<Target>>>,
}

/// What a task runs.
#[derive(Debug)]
pub(crate) struct Target {
    pub module: ModuleRef,
    /// The function's full name; empty for a command.
    pub function: String,
    /// How it is called in messages: `add@1.0.0` and the function's short name.
    pub shown: String,
    /// What arguments are checked against; `None` for a command.
    pub signature: Option<Signature>,
}

impl Catalog {
    pub fn new(store: Arc<dyn ModuleStore>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The module that `name` or `name@version` means; without a version the one pushed last.
    pub async fn find(&self, wanted: &str) -> Result<Arc<Entry>> {
        if let Some(entry) = self.cached(wanted) {
            return Ok(entry);
        }
        let (name, version) = split(wanted)?;
        let Some(module) = self.store.find(&name, version.as_ref()).await? else {
            return Err(self.missing(wanted, &name).await?);
        };
        let entry = Arc::new(Entry::new(module));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody asks for any more must not stay for ever.
        known.retain(|_, (at, _)| at.elapsed() < FRESH);
        known.insert(wanted.to_owned(), (Instant::now(), Arc::clone(&entry)));
        Ok(entry)
    }

    /// Forgets what was looked up, after a change that this process made itself.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn cached(&self, wanted: &str) -> Option<Arc<Entry>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, entry) = known.get(wanted)?;
        (at.elapsed() < FRESH).then(|| Arc::clone(entry))
    }

    /// What to say about a module that is not there.
    async fn missing(&self, wanted: &str, name: &Name) -> Result<Error> {
        let all = self.store.list().await?;
        let shown = |module: &Module| format!("{}@{}", module.name, module.version);
        let versions = all.iter().filter(|module| module.name == *name).map(shown);
        let mut known: Vec<_> = versions.take(LISTED).collect();
        if known.is_empty() {
            let near = suggestion(name.as_str(), all.iter().map(|module| module.name.as_str()));
            let near = near.and_then(|near| all.iter().find(|module| module.name.as_str() == near));
            known = match near {
                Some(module) => vec![shown(module)],
                None => all.iter().take(LISTED).map(shown).collect(),
            };
        }
        Ok(Error::NoModule { wanted: wanted.to_owned(), known })
    }
}

impl Entry {
    fn new(module: Module) -> Self {
        let names = module.functions.iter().map(|function| function.name.clone().into()).collect();
        Self { module, names, targets: Mutex::default() }
    }

    /// What a task that calls `function` runs.
    pub fn function(&self, function: &str) -> Result<Arc<Target>> {
        if let Some(target) = self.targets().get(function) {
            return Ok(Arc::clone(target));
        }
        let target = Arc::new(self.resolve(function)?);
        self.targets().insert(function.to_owned(), Arc::clone(&target));
        Ok(target)
    }

    /// What a task that runs the module as a program runs.
    pub fn command(&self) -> Result<Arc<Target>> {
        let shown = self.shown();
        if !self.module.command {
            let names =
                self.module.functions.iter().map(|function| format!("`{}`", function.short));
            let names: Vec<_> = names.take(10).collect();
            let names = names.join(", ");
            return Err(Error::Shape(format!(
                "the module `{shown}` is no command; call one of its functions: {names}"
            )));
        }
        let module = self.module.reference();
        Ok(Arc::new(Target { module, function: String::new(), shown, signature: None }))
    }

    /// What is known of the function that this name means.
    pub fn described(&self, function: &str) -> Result<&ModuleFunction> {
        let names: Vec<_> = self.names.iter().collect();
        let found = find_function(function, &names);
        let index = found.map_err(|error| Error::NoFunction { module: self.shown(), error })?;
        Ok(&self.module.functions[index])
    }

    fn resolve(&self, function: &str) -> Result<Target> {
        let function = self.described(function)?;
        Ok(Target {
            module: self.module.reference(),
            function: function.name.clone(),
            shown: format!("{} {}{}", self.shown(), function.short, function.signature),
            signature: Some(function.signature.clone()),
        })
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> String {
        format!("{}@{}", self.module.name, self.module.version)
    }
}

/// Takes `name@version` apart. The last `@` decides, since a name may have others.
pub(crate) fn split(wanted: &str) -> Result<(Name, Option<Name>)> {
    match wanted.rsplit_once('@') {
        Some((name, version)) => Ok((name.parse()?, Some(version.parse()?))),
        None => Ok((wanted.parse()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_version() {
        let parts = |text: &str| {
            let (name, version) = split(text).unwrap();
            (name.to_string(), version.map(|version| version.to_string()))
        };
        assert_eq!(parts("add"), ("add".into(), None));
        assert_eq!(parts("acme/add@1.2"), ("acme/add".into(), Some("1.2".into())));
        for text in ["", "add@", "@1", "a b"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
