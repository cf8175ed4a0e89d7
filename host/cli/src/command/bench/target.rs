//! Which backend is measured, how each measurement gets a place of its own there, and what it is to reach.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use omniq::config::StorageKind;

/// A backend, and where it is.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the rows call it.
    pub name: &'static str,
    /// What it is to reach.
    pub bars: Bars,
    kind: StorageKind,
    /// The URL that was given; `None`: a file in the folder of the benchmark.
    url: Option<String>,
}

/// What a backend is to reach; a part without a figure is only measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bars {
    /// Tasks a second that come in by many.
    pub bulk: Option<f64>,
    /// Tasks a second of many callers with one task each.
    pub single: Option<f64>,
    /// Tasks a second that are drained.
    pub drain: Option<f64>,
    /// The same, of the bare loop.
    pub ratio: Option<f64>,
    /// Milliseconds from enqueue to result in one process: the median, and 99 of 100.
    pub here: (Option<f64>, Option<f64>),
    /// The same across processes.
    pub across: (Option<f64>, Option<f64>),
}

impl Target {
    /// SQLite, in files of its own.
    pub fn sqlite() -> Self {
        let bars = Bars {
            bulk: Some(60_000.0),
            single: Some(15_000.0),
            drain: Some(25_000.0),
            ratio: Some(0.6),
            here: (Some(3.0), Some(15.0)),
            across: (Some(30.0), None),
        };
        Self { name: "SQLite", bars, kind: StorageKind::Sqlite, url: None }
    }

    /// The backend that `url` names. What is measured stands beside whatever is there.
    pub fn of_url(url: &str) -> Result<Self> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let (name, kind, bars) = match scheme {
            "sqlite" => return Ok(Self { url: Some(url.to_owned()), ..Self::sqlite() }),
            "file" => ("file", StorageKind::File, Bars::of(100_000.0, 25_000.0, 0.3)),
            "s3" | "az" | "gs" => ("objects", StorageKind::File, Bars::default()),
            "postgres" | "postgresql" => {
                ("PostgreSQL", StorageKind::Postgres, Bars::of(50_000.0, 18_000.0, 0.5))
            }
            "redis" | "rediss" | "valkey" | "valkeys" => {
                ("Redis", StorageKind::Redis, Bars::of(30_000.0, 15_000.0, 0.5))
            }
            "nats" | "nats+tls" => ("NATS", StorageKind::Nats, Bars::of(30_000.0, 18_000.0, 0.5)),
            _ => bail!(
                "`{}:` is no backend that can be measured; there are `sqlite:`, `file:`, `s3:`, `postgres:`, `redis:` and `nats:`",
                scheme.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>()
            ),
        };
        Ok(Self { name, bars, kind, url: Some(url.to_owned()) })
    }

    /// The URL of a place there that nothing is in; files of the benchmark are in `folder`.
    pub fn place(&self, folder: &Path) -> String {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("omniq_bench_{}_{number}", std::process::id());
        let Some(url) = self.url.as_deref().filter(|_| self.kind != StorageKind::Sqlite) else {
            return format!("sqlite:{}", folder.join(format!("{name}.db")).display());
        };
        let (base, query) = url.split_once('?').map_or((url, ""), |(base, query)| (base, query));
        match self.kind {
            StorageKind::Postgres => with(base, query, "schema", &name),
            StorageKind::Redis => with(base, query, "name", &name),
            // The last part of the path.
            StorageKind::Nats => {
                let rest = base.find("://").map_or(0, |at| at + 3);
                let end = base[rest..].rfind('/').map_or(base.len(), |at| rest + at);
                joined(&format!("{}/{name}", &base[..end]), query)
            }
            _ => joined(&format!("{}/{name}", base.trim_end_matches('/')), query),
        }
    }

    /// What is left behind, for a person to remove; `None`: nothing.
    pub fn leftovers(&self) -> Option<&'static str> {
        self.url.as_ref()?;
        match self.kind {
            StorageKind::Postgres => Some("schemas"),
            StorageKind::Redis => Some("names"),
            StorageKind::Nats => Some("streams and buckets"),
            StorageKind::File => Some("folders"),
            StorageKind::Sqlite | StorageKind::Memory => None,
        }
    }
}

impl Bars {
    /// What a backend is to reach whose processes find each other at once.
    fn of(bulk: f64, drain: f64, ratio: f64) -> Self {
        Self {
            bulk: Some(bulk),
            single: None,
            drain: Some(drain),
            ratio: Some(ratio),
            here: (None, None),
            across: (Some(5.0), Some(25.0)),
        }
    }
}

/// A URL whose query says `key` once, and that `value`.
fn with(base: &str, query: &str, key: &str, value: &str) -> String {
    let others = query.split('&').filter(|pair| {
        !pair.is_empty() && pair.split_once('=').map_or(*pair, |(name, _)| name) != key
    });
    let own = format!("{key}={value}");
    let pairs: Vec<&str> = others.chain([own.as_str()]).collect();
    format!("{base}?{}", pairs.join("&"))
}

fn joined(base: &str, query: &str) -> String {
    if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_has_a_place_of_its_own() {
        for (url, before, after) in [
            ("postgres://a:b@h/d?schema=mine&pool=4", "postgres://a:b@h/d?pool=4&schema=", ""),
            ("redis://h:1/0?name=mine", "redis://h:1/0?name=", ""),
            ("redis://h:1/0", "redis://h:1/0?name=", ""),
            ("nats://t@h:1/mine?sync=always", "nats://t@h:1/", "?sync=always"),
            ("nats://h:1", "nats://h:1/", ""),
            ("file:/tmp/x/", "file:/tmp/x/", ""),
            ("s3://bucket/p?region=r", "s3://bucket/p/", "?region=r"),
        ] {
            let target = Target::of_url(url).unwrap();
            let (one, other) = (target.place(Path::new("f")), target.place(Path::new("f")));
            assert_ne!(one, other);
            assert!(one.starts_with(&format!("{before}omniq_bench_")), "{url}: {one}");
            assert!(one.ends_with(after), "{url}: {one}");
            assert!(target.leftovers().is_some());
        }
        let file = Target::sqlite();
        assert!(file.place(Path::new("f")).starts_with("sqlite:f/omniq_bench_"));
        assert_eq!(file.leftovers(), None);
    }

    #[test]
    fn what_is_no_backend_is_said_without_a_password() {
        for url in ["mysql://a:secret@h", "memory:", "secret@h", ""] {
            let error = Target::of_url(url).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("sqlite:"), "{error}");
        }
    }
}
