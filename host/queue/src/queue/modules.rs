//! Pushing modules: read from their bytes, without the engine, and kept with their signatures as data.

use std::future::{Future, IntoFuture};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use omniq_model::{Digest, Module, ModuleFunction, Name};
use omniq_sandbox::inspect::{Inspected, Inspection, Rules, text};
use omniq_store::{ErrorKind, Pushed};
use sha2::{Digest as _, Sha256};

use super::Queue;
use crate::error::{Error, Result};

/// A module that is in the store.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// What is known of it.
    pub module: Module,
    /// Whether it was put there now; the same bytes may have been there under the same name and version.
    pub is_new: bool,
}

/// A module that is to be pushed: `.await` does it.
#[derive(Debug, Clone)]
#[must_use = "nothing is pushed until it is awaited"]
pub struct Push<Q = Queue> {
    pub(crate) queue: Q,
    name: Option<String>,
    version: Option<String>,
    rules: Rules,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Digits of the digest that a version is made of where none is said.
const VERSION_DIGITS: usize = 12;

impl<Q> Push<Q> {
    pub(crate) fn of_bytes(queue: Q, name: String, bytes: Vec<u8>) -> Self {
        let source = Source::Bytes(bytes);
        Self { queue, name: Some(name), version: None, rules: Rules::default(), source }
    }

    pub(crate) fn of_file(queue: Q, path: PathBuf) -> Self {
        let source = Source::File(path);
        Self { queue, name: None, version: None, rules: Rules::default(), source }
    }

    /// What tasks call it by. Default for a file: its name without the ending.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Its version; name and version together stand for the same bytes for ever. Default: the first twelve digits of its
    /// digest, so that every change is a version of its own.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// What it may be. Default: what a worker runs unless it is told otherwise.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    pub(crate) fn with_queue<P>(self, queue: P) -> Push<P> {
        let Self { name, version, rules, source, .. } = self;
        Push { queue, name, version, rules, source }
    }
}

impl Push<Queue> {
    /// Pushes the module. The same again changes nothing, but puts right what was damaged in the store.
    ///
    /// # Errors
    /// The file cannot be read, the bytes are no component that can be run, other bytes are there under the same name and
    /// version, or the store failed.
    pub async fn publish(self) -> Result<Published> {
        let Self { queue, name, version, rules, source } = self;
        queue.check_open()?;
        let read = tokio::task::spawn_blocking(move || read(source, rules));
        let (inspected, stem) = read.await.map_err(|_| Error::Closed)??;
        let name = name.or(stem).unwrap_or_default();
        let inspection = inspected.inspection();
        let version =
            version.unwrap_or_else(|| inspection.digest.to_hex()[..VERSION_DIGITS].to_owned());
        let (name, version) = (plain(&name)?, plain(&version)?);
        let pushed = queue.shared().clock.now();
        let module = Module { pushed, ..module(name, version, inspection) };
        let bytes = inspected.bytes().to_vec();
        let answer = queue.shared().stores.modules.push(module.clone(), bytes).await?;
        queue.shared().catalog.forget();
        match answer {
            Pushed::Created => Ok(Published { module, is_new: true }),
            Pushed::Unchanged => Ok(Published { module, is_new: false }),
            Pushed::Conflict(there) => {
                let Module { name, version, digest: given, .. } = module;
                Err(Error::VersionConflict { name, version, there, given })
            }
        }
    }
}

impl IntoFuture for Push<Queue> {
    type Output = Result<Published>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// As [`publish`](Push::publish).
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.publish())
    }
}

impl Queue {
    /// A component, as bytes or as its text form, to be pushed under `name`: complete it and `.await` it.
    pub fn push(&self, name: impl Into<String>, component: impl Into<Vec<u8>>) -> Push<Self> {
        Push::of_bytes(self.clone(), name.into(), component.into())
    }

    /// A component in a file, `.wasm` or `.wat`, to be pushed under the file's name: complete it and `.await` it.
    pub fn push_file(&self, path: impl AsRef<Path>) -> Push<Self> {
        Push::of_file(self.clone(), path.as_ref().to_owned())
    }

    /// Whether the bytes of that digest are in the module store as they were pushed: neither missing nor damaged.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_module_sound(&self, digest: &Digest) -> Result<bool> {
        let bytes = match self.shared().stores.modules.bytes(digest).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(false),
            // Some stores look at what they give themselves.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // Some megabytes, for which nobody else is to wait.
        let hash = tokio::task::spawn_blocking(move || Sha256::digest(bytes)).await;
        Ok(Digest::from_sha256(hash.map_err(|_| Error::Closed)?.into()) == *digest)
    }

    /// All modules, by name, the version pushed last first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn modules(&self) -> Result<Vec<Module>> {
        Ok(self.shared().stores.modules.list().await?)
    }

    /// The module of a name, or of `name@version`; without a version the one pushed last, at most a second ago.
    ///
    /// # Errors
    /// [`NoModule`](Error::NoModule), or the store failed.
    pub async fn module(&self, name: impl AsRef<str>) -> Result<Module> {
        Ok(self.shared().catalog.find(name.as_ref()).await?.module.clone())
    }

    /// What is known of a module's function: its full name, its types, its documentation. `function` is its name, or any
    /// shorter form that means it alone.
    ///
    /// # Errors
    /// [`NoModule`](Error::NoModule), [`NoFunction`](Error::NoFunction), or the store failed.
    pub async fn function(
        &self,
        module: impl AsRef<str>,
        function: impl AsRef<str>,
    ) -> Result<ModuleFunction> {
        let entry = self.shared().catalog.find(module.as_ref()).await?;
        entry.described(function.as_ref()).cloned()
    }

    /// Forgets one version of a module, `name@version`. Tasks of it that have not started wait until it is pushed again.
    /// Tells whether it was there.
    ///
    /// # Errors
    /// It names no version, or the store failed.
    pub async fn remove_module(&self, name: impl AsRef<str>) -> Result<bool> {
        let (name, version) = super::catalog::split(name.as_ref())?;
        let Some(version) = version else {
            let text =
                format!("`{name}` names no version; say which one to forget, as `{name}@VERSION`");
            return Err(Error::Invalid(text));
        };
        let removed = self.shared().stores.modules.remove(&name, &version).await?;
        self.shared().catalog.forget();
        Ok(removed)
    }
}

/// A name without `@`, which stands between name and version.
fn plain(text: &str) -> Result<Name> {
    if text.contains('@') {
        return Err(Error::Invalid(format!(
            "`{text}` has an `@`, which stands between a module's name and version"
        )));
    }
    Ok(text.parse()?)
}

/// Reads and inspects a component; with the name of its file, if it has one.
fn read(source: Source, rules: Rules) -> Result<(Inspected, Option<String>)> {
    let (bytes, file) = match source {
        Source::Bytes(bytes) => (bytes, None),
        Source::File(path) => (read_file(&path, &rules)?, Some(path)),
    };
    let shown = file.as_ref().map(|path| path.display().to_string());
    let bytes = match text::to_binary(&bytes, shown.as_deref())? {
        std::borrow::Cow::Owned(binary) => binary,
        std::borrow::Cow::Borrowed(_) => bytes,
    };
    let stem = file.and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    Ok((Inspected::new(bytes, rules)?, stem))
}

fn read_file(path: &Path, rules: &Rules) -> Result<Vec<u8>> {
    use std::io::Read;

    let failed = |source: std::io::Error| Error::File {
        path: path.display().to_string(),
        source: Arc::new(source),
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    // One byte more than may be is enough to see that it is too much.
    let max = rules.max_bytes.max(text::MAX_TEXT_BYTES) as u64 + 1;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// What is kept of a component besides its bytes.
fn module(name: Name, version: Name, inspection: &Inspection) -> Module {
    let function = |function: &omniq_sandbox::inspect::Function| ModuleFunction {
        name: function.name.to_string(),
        short: inspection.short_name(&function.name),
        signature: function.signature.clone(),
        docs: function.docs.clone().unwrap_or_default(),
        unknown: Default::default(),
    };
    Module {
        name,
        version,
        digest: inspection.digest,
        size: inspection.size,
        functions: inspection.functions.iter().map(function).collect(),
        command: inspection.command.is_some(),
        capabilities: inspection
            .capabilities()
            .into_iter()
            .map(|capability| capability.name().to_owned())
            .collect(),
        pushed: Default::default(),
        unknown: Default::default(),
    }
}
