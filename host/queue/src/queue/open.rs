//! From settings to open stores.

use omniq_store::{Options, open_events, open_modules, open_results, open_tasks};

use crate::config::{Config, StorageKind};
use crate::error::Result;
use crate::stores::Stores;

impl Stores {
    /// How the stores of these settings are opened.
    pub fn options(config: &Config) -> Options {
        Options {
            durability: config.storage.durability.into(),
            timeout: config.storage.deadline,
            ..Options::default()
        }
    }

    /// Opens what these settings describe.
    ///
    /// # Errors
    /// A store cannot be opened, or is of a kind this version does not have.
    pub async fn open(config: &Config) -> Result<Self> {
        let options = Self::options(config);
        let tasks_url = config.tasks.url.as_str();
        let tasks = open_tasks(tasks_url, &options).await?;
        // In memory nothing is gained by keeping results apart from their tasks.
        let has_results = config.results.kind != StorageKind::Memory;
        let results = match has_results {
            true => Some(open_results(config.results.url.as_str(), &options).await?),
            false => None,
        };
        let has_events = config.events.kind != StorageKind::Memory;
        let events = match has_events {
            true => Some(open_events(config.events.url.as_str(), &options).await?),
            false => None,
        };
        let modules_url = config.objects.url.as_ref().map_or(tasks_url, |url| url.as_str());
        let modules = open_modules(modules_url, &options).await?;
        let inline_max = match has_results {
            true => usize::try_from(config.storage.inline_bytes.0).unwrap_or(usize::MAX),
            false => usize::MAX,
        };
        Ok(Self { tasks, results, events, modules, inline_max })
    }
}
