//! What is done to the task store as a whole.

use async_trait::async_trait;

use super::{ObjectTasks, meta};
use crate::log::{Command, Query};
use crate::{
    Admin, CopyPage, Durability, Imported, Layout, Report, Restored, Result, Stats, TaskCopy,
    Weakness,
};

#[async_trait]
impl Admin for ObjectTasks {
    async fn check(&self) -> Result<Report> {
        let config = &self.hub().config;
        let layout = meta::obtain(&config.root).await?;
        let is_local = config.root.folder.is_some();
        let durability = if is_local { config.durability } else { Durability::Disk };
        let what = match durability {
            Durability::Disk => None,
            Durability::Os => Some("a loss of power may lose the latest calls"),
            Durability::None => Some("nothing is promised to survive"),
        };
        let weaker = what.map(|what| Weakness {
            what: what.to_owned(),
            next: "set the durability of the tasks to `disk`".to_owned(),
        });
        let kind = if is_local { "files" } else { "objects" };
        Ok(Report {
            version: format!("{kind} of omniq {}", env!("CARGO_PKG_VERSION")),
            durability,
            layout: Some(layout),
            weaker: weaker.into_iter().collect(),
        })
    }

    /// There has been one layout so far.
    async fn finish_migration(&self) -> Result<Layout> {
        meta::obtain(&self.hub().config.root).await
    }

    async fn restored(&self) -> Result<Restored> {
        let moved = self.command(Command::Restored, "note that it was restored").await?;
        let incarnation = meta::renew(&self.hub().config.root).await?;
        Ok(Restored { incarnation: Some(incarnation), moved })
    }

    async fn stats(&self) -> Result<Stats> {
        let stats: Box<Stats> = self.query(Query::Stats, "count what is in it").await?;
        let bytes = match &self.hub().config.root.folder {
            Some(folder) => bytes_in(&folder.join("tasks")),
            None => Vec::new(),
        };
        Ok(Stats { bytes, ..*stats })
    }

    async fn export(&self, after: Option<u64>, max: usize) -> Result<CopyPage> {
        self.query(Query::Export(after, max), "export tasks").await
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> Result<Vec<Imported>> {
        self.command(Command::Import(tasks), "import tasks").await
    }
}

/// Bytes of the log and of the images in a folder.
fn bytes_in(folder: &std::path::Path) -> Vec<(&'static str, u64)> {
    let (mut log, mut images) = (0, 0);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let size = entry.metadata().map_or(0, |data| data.len());
        let name = entry.file_name();
        match name.to_str() {
            Some(name) if name.starts_with("log-") => log += size,
            Some(name) if name.starts_with("image-") => images += size,
            _ => {}
        }
    }
    vec![("log", log), ("images", images)]
}
