//! From a URL to a folder or a bucket.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::{Durability, Error, Options, Result};

/// Where everything is kept: an object store, and the folder in it that is ours.
#[derive(Clone)]
pub struct Root {
    /// The objects.
    pub objects: Arc<dyn ObjectStore>,
    /// What all our names begin with; empty for a whole bucket or folder.
    pub prefix: Path,
    /// The folder, where the objects are files on this host. [`Root::prefix`] is empty then.
    pub folder: Option<PathBuf>,
    /// What people call it: the URL without anything secret. Two roots with the same name are the same place.
    pub shown: String,
    /// What the URL says of [`Config::lease`](super::Config::lease).
    pub lease: Option<Duration>,
    /// How much time there must be between two writes of the same name.
    pub pace: Duration,
}

impl Root {
    /// The folder `folder` on this host; it is made if there is none.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when it cannot be made or opened, or is no folder.
    pub fn folder(folder: impl Into<PathBuf>, durability: Durability) -> Result<Self> {
        let folder = folder.into();
        let failed = |reason: String| {
            Error::Config(format!("the folder `{}` cannot be used: {reason}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
        let folder = folder.canonicalize().map_err(|error| failed(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|error| failed(error.to_string()))?
            .with_fsync(durability == Durability::Disk);
        let shown = format!("file:{}", folder.display());
        Ok(Self {
            objects: Arc::new(objects),
            prefix: Path::default(),
            folder: Some(folder),
            shown,
            lease: None,
            pace: Duration::ZERO,
        })
    }

    /// Any object store; `shown` is what it is called in errors, and what tells it from other places.
    pub fn of(objects: Arc<dyn ObjectStore>, prefix: Path, shown: impl Into<String>) -> Self {
        let (shown, pace) = (shown.into(), Duration::ZERO);
        Self { objects, prefix, folder: None, shown, lease: None, pace }
    }

    /// The path of the object `name` under this root; `name` may have several parts, parted by `/`.
    pub fn path(&self, name: &str) -> Path {
        let parts = name.split('/').filter(|part| !part.is_empty());
        self.prefix.parts().chain(parts.map(Into::into)).collect()
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.shown).finish() // the client may hold a password
    }
}

/// Opens the place that a URL names: `file:PATH`, `file://PATH`, and buckets this build has clients for.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config) when it cannot be opened, or this build has no client for it.
pub fn open(url: &str, options: &Options) -> Result<Root> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "file" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() {
                let reason = "`file:` needs the path of a folder, such as `file:omniq-data`";
                return Err(Error::Config(reason.into()));
            }
            Root::folder(path, options.durability)
        }
        #[cfg(feature = "cloud")]
        "s3" | "az" | "gs" => super::cloud::open(scheme, rest),
        #[cfg(not(feature = "cloud"))]
        "s3" | "az" | "gs" => Err(Error::Config(format!(
            "this build leaves out the client of `{scheme}:`; the feature `cloud` adds it"
        ))),
        _ => Err(Error::Config(format!("this build has no client for `{scheme}:`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_and_both_forms_of_its_url_lead_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        for form in ["file:", "file://"] {
            let root = open(&format!("{form}{}", path.display()), &Options::default()).unwrap();
            assert_eq!(root.folder, Some(path.canonicalize().unwrap()), "{form}");
            assert_eq!(root.path("results/x").as_ref(), "results/x");
        }
        assert!(path.is_dir());
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (url, part) in [
            (format!("file:{}", file.display()), "cannot be used"),
            ("file:".to_owned(), "needs the path of a folder"),
            ("ftp://user:secret@host".to_owned(), "no client for `ftp:`"),
        ] {
            let message = open(&url, &Options::default()).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("secret"), "{url}: {message}");
        }
    }

    #[test]
    fn names_stand_under_the_prefix() {
        let objects = Arc::new(object_store::memory::InMemory::new());
        let root = Root::of(objects, Path::from("a/b"), "memory");
        assert_eq!(root.path("modules/by/name").as_ref(), "a/b/modules/by/name");
    }
}
