//! Files of modules: pushed at the start, and whenever their content changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use omniq::{Module, Queue};
use omniq_sandbox::Rules;

use crate::component;
use crate::output::console;
use crate::output::problem::Problem;

/// How often files are looked at. A file is read when it has stayed the same for as long: a compiler may be at it.
const EVERY: Duration = Duration::from_millis(200);

/// What tells that a file may have changed: when it was written, and its size.
type Mark = Option<(SystemTime, u64)>;

/// A module and the file it comes from.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    module: Module,
    /// What the file was like when it was read last.
    read: Mark,
    /// What it was like when it was looked at last.
    seen: Mark,
}

impl Watched {
    /// Pushes the file.
    ///
    /// # Errors
    /// It cannot be read or is no component, or the store failed.
    pub async fn push_first(queue: &Queue, path: &Path, rules: &Rules) -> Result<Self, Problem> {
        let mark = mark(path);
        let module = push(queue, path, rules).await?;
        Ok(Self { path: path.to_owned(), module, read: mark, seen: mark })
    }

    /// The module that was pushed last.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn look(&mut self, queue: &Queue, rules: &Rules) {
        let now = mark(&self.path);
        let is_still = now == self.seen;
        self.seen = now;
        if now == self.read || now.is_none() || !is_still {
            return;
        }
        self.read = now;
        match push(queue, &self.path, rules).await {
            Ok(module) if module.digest == self.module.digest => {}
            Ok(module) => {
                let shown = format!("{}@{}", module.name, module.version);
                console::note(&format!("module   {shown} from {}, changed\n", self.path.display()));
                self.module = module;
            }
            Err(problem) => {
                let text = console::tame(problem.message());
                let (name, version) = (&self.module.name, &self.module.version);
                console::warning(&format!(
                    "{}: {text}; {name}@{version} stays",
                    self.path.display()
                ));
            }
        }
    }
}

/// Looks after the files for ever.
pub async fn follow(queue: &Queue, mut watched: Vec<Watched>, rules: &Rules) {
    loop {
        tokio::time::sleep(EVERY).await;
        for one in &mut watched {
            one.look(queue, rules).await;
        }
    }
}

async fn push(queue: &Queue, path: &Path, rules: &Rules) -> Result<Module, Problem> {
    let component = component::read(path, rules)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let version = format!("dev-{}", &component.inspection().digest.to_hex()[..12]);
    let bytes = component.inspected().bytes().to_vec();
    let push = || queue.push(&*name, bytes.clone()).version(&*version).rules(rules.clone());
    let published = push().await?;
    // A file that is again what it was before is to be the one that is meant from now on: the one pushed last.
    if !published.is_new && queue.module(&name).await?.digest != published.module.digest {
        queue.remove_module(format!("{name}@{version}")).await?;
        return Ok(push().await?.module);
    }
    Ok(published.module)
}

fn mark(path: &Path) -> Mark {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}
