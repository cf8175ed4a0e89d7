//! Modules: those of a name in the order they were pushed, so that the last one stays the last.

use super::{Copied, Copy, Left, Phase, Progress};
use crate::{Pushed, Result};

impl Copy {
    pub(super) async fn modules(
        &self,
        copied: &mut Copied,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let (Some(from), Some(to)) = (&self.from.modules, &self.to.modules) else { return Ok(()) };
        let mut modules = from.list().await?;
        modules.reverse(); // the list begins with the version pushed last
        let of = Some(modules.len() as u64);
        for (done, module) in modules.into_iter().enumerate() {
            tell(Progress { phase: Phase::Modules, done: done as u64, of });
            let (name, version) = (module.name.clone(), module.version.clone());
            if to
                .find(&name, Some(&version))
                .await?
                .is_some_and(|there| there.digest == module.digest)
            {
                copied.modules += 1; // megabytes that need not be moved again
                continue;
            }
            // What is there under another name stays as it is; here somebody may have removed it meanwhile.
            let bytes = match to.bytes(&module.digest).await? {
                Some(there) => Some(there),
                None => from.bytes(&module.digest).await?,
            };
            let Some(bytes) = bytes else { continue };
            match to.push(module, bytes).await? {
                Pushed::Created | Pushed::Unchanged => copied.modules += 1,
                Pushed::Conflict(_) => copied.left.push(Left::Module(name, version)),
            }
        }
        Ok(())
    }
}
