//! What a backend's own client does without a store around it: the floors that benchmarks hold a store against.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Options, Result};

/// What a bare loop keeps of each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// A small row that moves between three states: the least with which anything is claimed and finished.
    Row,
    /// What a queue cannot do without on that backend: arguments apart from what changes, leases that belong to a session,
    /// lanes with priorities, results, a history that can be listed. Still nothing is checked, counted or told.
    Task,
}

/// A bare loop over a backend's client, with the same batches and the same durability as the store's.
#[async_trait]
pub trait Floor: fmt::Debug + Send {
    /// Inserts `rows` rows, `batch` in each commit; returns how long it took.
    async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration>;

    /// Claims and finishes all rows, `batch` at a time, in two commits each; returns how many and how long it took.
    async fn drain(&mut self, batch: usize) -> Result<(usize, Duration)>;
}

/// The floor of the backend that `url` names, at that place; `None`: it has none that keeps that. What it writes is its own
/// and stands beside what a store keeps there.
///
/// # Errors
/// What the backend says when it is opened.
#[cfg_attr(
    not(any(feature = "postgres", feature = "redis", feature = "nats")),
    expect(unused_variables, reason = "floors in files need no options")
)]
pub async fn open_floor(
    url: &str,
    options: &Options,
    keeps: Keeps,
) -> Result<Option<Box<dyn Floor>>> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Some(Box::new(crate::sqlite::Floor::open(path_of(url), keeps).await?))),
        #[cfg(feature = "object")]
        "file" => {
            let path = path_of(url);
            let failed = |error: std::io::Error| {
                crate::Error::Config(format!("`{}` could not be made: {error}", path.display()))
            };
            std::fs::create_dir_all(path).map_err(failed)?;
            let path = path.join("floor");
            Ok(Some(match keeps {
                Keeps::Row => Box::new(crate::object::Floor::open(&path)?),
                Keeps::Task => Box::new(crate::object::TaskFloor::open(&path)?),
            }))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let config = crate::postgres::Config::of_url(url, options)?;
            Ok(Some(Box::new(crate::postgres::Floor::open(&config, keeps).await?)))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "valkey" | "valkeys" => {
            let config = crate::redis::Config::of_url(url, options)?;
            Ok(Some(Box::new(crate::redis::Floor::open(&config, keeps).await?)))
        }
        #[cfg(feature = "nats")]
        "nats" | "nats+tls" if keeps == Keeps::Row => {
            let config = crate::nats::Config::of_url(url, options)?;
            Ok(Some(Box::new(crate::nats::Floor::open(&config).await?)))
        }
        _ => Ok(None),
    }
}

/// The path of a URL of files.
#[cfg(any(feature = "sqlite", feature = "object"))]
fn path_of(url: &str) -> &std::path::Path {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    std::path::Path::new(rest.strip_prefix("//").unwrap_or(rest))
}

/// Lends a backend's own floor to the trait.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis", feature = "nats"))]
macro_rules! floor {
    ($floor:ty) => {
        #[async_trait]
        impl Floor for $floor {
            async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
                <$floor>::insert(self, rows, batch).await
            }

            async fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
                <$floor>::drain(self, batch).await
            }
        }
    };
}

#[cfg(feature = "sqlite")]
floor!(crate::sqlite::Floor);
#[cfg(feature = "postgres")]
floor!(crate::postgres::Floor);
#[cfg(feature = "redis")]
floor!(crate::redis::Floor);
#[cfg(feature = "nats")]
floor!(crate::nats::Floor);

/// The same for one that does not wait for a server.
#[cfg(feature = "object")]
macro_rules! floor_on_disk {
    ($floor:ty) => {
        #[async_trait]
        impl Floor for $floor {
            async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
                <$floor>::insert(self, rows, batch)
            }

            async fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
                <$floor>::drain(self, batch)
            }
        }
    };
}

#[cfg(feature = "object")]
floor_on_disk!(crate::object::Floor);
#[cfg(feature = "object")]
floor_on_disk!(crate::object::TaskFloor);
