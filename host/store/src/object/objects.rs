//! Objects by name: what results, modules and events need of an object store, each call with a deadline and our errors.
//!
//! The one primitive all stores share is that a name is created once: of two who create it, one is told that it is there.
//! Names are made here of parts that are safe on every file system and in every bucket, so that no name that people give
//! leads out of its folder.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    GetOptions, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload,
};
use omniq_model::Timestamp;
use tokio::time::Instant;

use super::Root;
use crate::{BoxError, Error, Options, Result};

/// The backend's name in errors.
pub(super) const NAME: &str = "object";
/// Requests that one call has under way at once.
pub(super) const WIDTH: usize = 16;

/// How long a request may take, and what each mebibyte adds to that.
const DEADLINE: Duration = Duration::from_secs(30);
const DEADLINE_PER_MIB: Duration = Duration::from_secs(2);

/// The objects under a root.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    pub(super) root: Root,
    /// When a name was replaced last, as long as that is to be waited for.
    replaced: Arc<Mutex<HashMap<Name, Instant>>>,
}

/// One object of a listing: its name under the root.
pub(super) type Name = String;

impl Objects {
    pub(super) fn new(root: Root) -> Self {
        Self { root, replaced: Arc::default() }
    }

    /// Creates an object; `false`: one is there, and stays as it is.
    pub(super) async fn create(
        &self,
        name: &str,
        bytes: Bytes,
        action: &'static str,
    ) -> Result<bool> {
        self.put(name, bytes, PutMode::Create, action).await
    }

    /// Writes an object whatever is there: for what may be lost, or is the same whoever writes it.
    pub(super) async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        action: &'static str,
    ) -> Result<()> {
        self.turn(name).await;
        let put = self.put(name, bytes, PutMode::Overwrite, action).await;
        if !self.root.pace.is_zero() {
            let mut replaced = self.replaced();
            replaced.retain(|_, at| at.elapsed() < self.root.pace);
            replaced.insert(name.to_owned(), Instant::now());
        }
        put.map(drop)
    }

    /// Waits until the place takes the next object of that name from this process.
    pub(super) async fn turn(&self, name: &str) {
        let last = self.replaced().get(name).copied();
        if let Some(last) = last {
            tokio::time::sleep_until(last + self.root.pace).await;
        }
    }

    fn replaced(&self) -> MutexGuard<'_, HashMap<Name, Instant>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        mode: PutMode,
        action: &'static str,
    ) -> Result<bool> {
        let (path, size, creates) = (self.root.path(name), bytes.len(), mode == PutMode::Create);
        let put = self.root.objects.put_opts(&path, PutPayload::from(bytes), mode.into());
        match within(size, put).await {
            Ok(_) => Ok(true),
            // What replaces is refused so, too (409), as where another request for the name is under way.
            Err(Failed::Said(object_store::Error::AlreadyExists { source, .. })) if creates => {
                self.confirm(&path, &*source, action).await
            }
            Err(failed) => Err(self.error(failed, action)),
        }
    }

    /// Looks whether an object is there that is said to be: S3 also answers so (409) where another request for the same
    /// name was under way, which may yet come to nothing.
    async fn confirm(
        &self,
        path: &Path,
        said: &(dyn std::error::Error + Send + Sync + 'static),
        action: &'static str,
    ) -> Result<bool> {
        use object_store::Error::{NotFound, NotModified, Precondition};
        let sure = matches!(said.downcast_ref(), Some(NotModified { .. } | Precondition { .. }));
        if sure || self.root.folder.is_some() {
            return Ok(false);
        }
        match within(0, self.root.objects.head(path)).await {
            Ok(_) => Ok(false),
            Err(Failed::Said(NotFound { .. })) => Err(Error::unavailable(
                NAME,
                action,
                "another request for the same name was under way",
            )),
            Err(failed) => Err(self.error(failed, action)),
        }
    }

    /// The whole of an object, if it is there.
    pub(super) async fn get(&self, name: &str, action: &'static str) -> Result<Option<Bytes>> {
        self.read(name, GetOptions::default(), action).await
    }

    /// The first `len` bytes of an object, or all it has.
    pub(super) async fn head(
        &self,
        name: &str,
        len: u64,
        action: &'static str,
    ) -> Result<Option<Bytes>> {
        let read = self.read(name, GetOptions::default().with_range(Some(0..len)), action).await;
        // Of an object without any bytes no range is given, and each place says so in its own way.
        if read.is_err() && self.is_empty(name).await { Ok(Some(Bytes::new())) } else { read }
    }

    async fn is_empty(&self, name: &str) -> bool {
        let there = within(0, self.root.objects.head(&self.root.path(name))).await;
        there.is_ok_and(|there| there.size == 0)
    }

    async fn read(
        &self,
        name: &str,
        options: GetOptions,
        action: &'static str,
    ) -> Result<Option<Bytes>> {
        let path = self.root.path(name);
        let opened = match within(0, self.root.objects.get_opts(&path, options)).await {
            Ok(opened) => opened,
            Err(Failed::Said(object_store::Error::NotFound { .. })) => return Ok(None),
            Err(failed) => return Err(self.error(failed, action)),
        };
        let size = usize::try_from(opened.range.end - opened.range.start).unwrap_or(usize::MAX);
        match within(size, opened.bytes()).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Failed::Said(object_store::Error::NotFound { .. })) => Ok(None),
            Err(failed) => Err(self.error(failed, action)),
        }
    }

    /// Deletes an object; one that is not there is as good as deleted.
    pub(super) async fn delete(&self, name: &str, action: &'static str) -> Result<()> {
        match within(0, self.root.objects.delete(&self.root.path(name))).await {
            Ok(()) | Err(Failed::Said(object_store::Error::NotFound { .. })) => {
                self.tidy(name);
                Ok(())
            }
            Err(failed) => Err(self.error(failed, action)),
        }
    }

    /// Removes the folders of a deleted file that are empty now. Whoever makes a file there makes its folders anew.
    fn tidy(&self, name: &str) {
        let Some(folder) = &self.root.folder else { return };
        let mut name = name;
        // The folders of a kind, such as `results`, stay.
        while let Some((above, _)) = name.rsplit_once('/').filter(|(above, _)| above.contains('/'))
        {
            if std::fs::remove_dir(folder.join(above)).is_err() {
                return;
            }
            name = above;
        }
    }

    /// Deletes several, a few at a time.
    pub(super) async fn delete_all(
        &self,
        names: impl IntoIterator<Item = Name>,
        action: &'static str,
    ) -> Result<()> {
        let deletes = names.into_iter().map(|name| async move { self.delete(&name, action).await });
        let mut deletes = stream::iter(deletes).buffer_unordered(WIDTH);
        while let Some(deleted) = deletes.next().await {
            deleted?;
        }
        Ok(())
    }

    /// The names of all objects in a folder and the folders below it, sorted.
    pub(super) async fn list(&self, folder: &str, action: &'static str) -> Result<Vec<Name>> {
        let listed = self.listed(folder, action).await?;
        Ok(listed.into_iter().map(|(name, _)| name).collect())
    }

    /// The same, each with its size in bytes.
    pub(super) async fn list_sized(
        &self,
        folder: &str,
        action: &'static str,
    ) -> Result<Vec<(Name, u64)>> {
        let listed = self.listed(folder, action).await?;
        Ok(listed.into_iter().map(|(name, object)| (name, object.size)).collect())
    }

    /// The same, each with when it was written by the clock of the place.
    pub(super) async fn list_dated(
        &self,
        folder: &str,
        action: &'static str,
    ) -> Result<Vec<(Name, Timestamp)>> {
        let listed = self.listed(folder, action).await?;
        Ok(listed.into_iter().map(|(name, object)| (name, written(&object))).collect())
    }

    /// When an object was written by the clock of the place, if it is there.
    pub(super) async fn modified(
        &self,
        name: &str,
        action: &'static str,
    ) -> Result<Option<Timestamp>> {
        match within(0, self.root.objects.head(&self.root.path(name))).await {
            Ok(object) => Ok(Some(written(&object))),
            Err(Failed::Said(object_store::Error::NotFound { .. })) => Ok(None),
            Err(failed) => Err(self.error(failed, action)),
        }
    }

    async fn listed(&self, folder: &str, action: &'static str) -> Result<Vec<(Name, ObjectMeta)>> {
        let folder = self.root.path(folder);
        let mut found: BoxStream<'_, _> = self.root.objects.list(Some(&folder));
        let mut objects = Vec::new();
        loop {
            let next = async { found.next().await.transpose() };
            match within(0, next).await {
                Ok(Some(object)) => {
                    objects.extend(self.name_of(&object.location).zip(Some(object)));
                }
                Ok(None) => break,
                // A file that went away while its folder was read.
                Err(Failed::Said(object_store::Error::NotFound { .. })) => {}
                Err(failed) => return Err(self.error(failed, action)),
            }
        }
        objects.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(objects)
    }

    /// The names of the folders in a folder, sorted, without what is above them.
    pub(super) async fn folders(&self, folder: &str, action: &'static str) -> Result<Vec<String>> {
        let folder = self.root.path(folder);
        match within(0, self.root.objects.list_with_delimiter(Some(&folder))).await {
            Ok(found) => {
                let last =
                    |path: &Path| path.parts().next_back().map(|part| part.as_ref().to_owned());
                let mut names: Vec<_> = found.common_prefixes.iter().filter_map(last).collect();
                names.sort_unstable();
                Ok(names)
            }
            Err(Failed::Said(object_store::Error::NotFound { .. })) => Ok(Vec::new()),
            Err(failed) => Err(self.error(failed, action)),
        }
    }

    /// What a path is called under the root.
    fn name_of(&self, path: &Path) -> Option<Name> {
        let parts: Vec<_> = path.prefix_match(&self.root.prefix)?.collect();
        Some(parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>().join("/"))
    }

    fn error(&self, failed: Failed, action: &'static str) -> Error {
        error(&self.root.shown, failed, action)
    }
}

fn written(object: &ObjectMeta) -> Timestamp {
    Timestamp::from_millis(object.last_modified.timestamp_millis())
}

/// Opens the place of a URL, and lets it show that it can be used.
///
/// # Errors
/// As [`open`](super::open) and [`probe`].
pub(crate) async fn open(url: &str, options: &Options) -> Result<Root> {
    let root = super::open(url, options)?;
    probe(&root).await?;
    Ok(root)
}

/// Checks that a place creates a name once: what everything here relies on. Once for each place and process.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config) for one that does not; otherwise what the place says.
async fn probe(root: &Root) -> Result<()> {
    const ACTION: &str = "try whether it creates a name once";
    static PROBED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Default::default);
    let probed = || PROBED.lock().unwrap_or_else(PoisonError::into_inner);
    if root.folder.is_some() || probed().contains(&root.shown) {
        return Ok(());
    }
    let random: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let (objects, name) = (Objects::new(root.clone()), format!("probe/{random}"));
    let first = match objects.create(&name, Bytes::from_static(b"1"), ACTION).await {
        // Whoever made what is there has tried it, and it can be read.
        Err(Error::Full { .. }) if objects.get(super::meta::NAME, ACTION).await?.is_some() => {
            return Ok(());
        }
        Err(error) if is_nowhere(&error) => {
            let shown = &root.shown;
            return Err(Error::Config(format!("{shown} is in no bucket there is: make it first")));
        }
        first => first?,
    };
    let second = objects.create(&name, Bytes::from_static(b"2"), ACTION).await?;
    objects.delete(&name, ACTION).await?;
    if !first || second {
        return Err(Error::Config(format!(
            "{} lets a name be created twice: it does not know `If-None-Match: *`, without which nothing would be safe there; use a server that does, or another backend",
            root.shown
        )));
    }
    probed().insert(root.shown.clone());
    Ok(())
}

/// Whether a write failed because there is nothing to write into.
fn is_nowhere(error: &Error) -> bool {
    let Error::Unavailable { source, .. } = error else { return false };
    matches!(source.downcast_ref(), Some(object_store::Error::NotFound { .. }))
}

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// The store, or the way to it, said so.
    Said(object_store::Error),
    /// It took too long.
    Late(Duration),
}

/// Awaits a request that moves `size` bytes, for as long as it may take.
pub(super) async fn within<T>(
    size: usize,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failed> {
    let mebibytes = u32::try_from(size >> 20).unwrap_or(u32::MAX);
    let deadline = DEADLINE.saturating_add(DEADLINE_PER_MIB.saturating_mul(mebibytes));
    match tokio::time::timeout(deadline, request).await {
        Ok(answer) => answer.map_err(Failed::Said),
        Err(_) => Err(Failed::Late(deadline)),
    }
}

/// What a failed request means for the caller. `shown` is the place, without anything secret.
pub(super) fn error(shown: &str, failed: Failed, action: &'static str) -> Error {
    use object_store::Error as Said;
    let said = match failed {
        Failed::Late(deadline) => {
            let reason = format!("{shown} did not answer within {} s", deadline.as_secs());
            return Error::unavailable(NAME, action, reason);
        }
        Failed::Said(said) => said,
    };
    if let Some(reason) = full(&said) {
        return Error::Full { place: shown.to_owned(), reason };
    }
    let next = match &said {
        Said::PermissionDenied { .. } => "check the credentials, and whether they may do that",
        Said::Unauthenticated { .. } => "check the credentials, which were refused",
        Said::NotSupported { .. } | Said::NotImplemented { .. } => {
            "this kind of place cannot do that"
        }
        _ => return Error::unavailable(NAME, action, said),
    };
    Error::Config(format!("{shown}: could not {action}; {next}"))
}

/// What servers say when a bucket has no room, or no more than its quota allows: any of them, MinIO, Ceph and Garage.
const FULL: [&str; 6] = [
    "507 Insufficient Storage",
    "<Code>XMinioStorageFull<",
    "<Code>XMinioAdminBucketQuotaExceeded<",
    "<Code>QuotaExceeded<",
    "<Message>Object quota is reached",
    "<Message>Bucket size quota is reached",
];

/// How it shows that there is no room left, if that is what an error says.
fn full(error: &object_store::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(kind, Some(StorageFull | QuotaExceeded)) {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    // The client has no type for what a server answered, only its text.
    let text = error.to_string();
    FULL.iter().any(|said| text.contains(said)).then(|| answer(&text))
}

/// The server's own words in the text of an error: the status, its message and its code.
fn answer(text: &str) -> String {
    let between = |from: &str, to: &str| {
        let (_, rest) = text.split_once(from)?;
        Some(rest.split_once(to).map_or(rest, |(part, _)| part))
    };
    let Some(status) = between("status code: ", ":") else { return text.to_owned() };
    let parts = [between("<Message>", "</Message>"), between("<Code>", "</Code>")];
    let parts = parts.into_iter().flatten().map(|part| part.trim_end_matches('.'));
    let said: Vec<_> = std::iter::once(status).chain(parts).collect();
    format!("it answers `{}`", said.join(": "))
}

/// A record that cannot be read.
pub(super) fn corrupt(root: &Root, name: &str, reason: impl Into<BoxError>) -> Error {
    let place = format!("`{name}` in {}", root.shown);
    Error::Corrupt { place, reason: reason.into().to_string() }
}

/// Ten random bytes, for names that nobody else makes.
pub(super) fn random() -> Result<[u8; 10]> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::unavailable(NAME, "make a name of its own", error.to_string()))?;
    Ok(bytes)
}

/// The longest part of a name, in bytes: file systems take 255, and staged files have a suffix.
const PART: usize = 200;

/// A name that people gave as one part of an object's name: two names never give the same part, also where upper and
/// lower case are the same.
pub(super) fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => part.push(char::from(byte)),
            b'.' if index > 0 => part.push('.'), // none is `.`, `..` or hidden
            _ => part.push_str(&format!("!{byte:02x}")),
        }
    }
    if part.len() > PART {
        part.truncate(PART - 66);
        part.push_str("!!");
        part.push_str(&blake3::hash(name.as_bytes()).to_hex());
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_head_of_an_object_is_what_there_is_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Arc::new(object_store::memory::InMemory::new());
        for root in [
            Root::folder(folder.path(), crate::Durability::Os).unwrap(),
            Root::of(memory, Path::default(), "memory"),
        ] {
            let objects = Objects::new(root);
            for there in ["", "a", "ab", "abc"] {
                let name = format!("x/{}", there.len());
                assert_eq!(objects.head(&name, 2, "test").await.unwrap(), None, "{objects:?}");
                assert!(objects.create(&name, there.into(), "test").await.unwrap());
                let head = objects.head(&name, 2, "test").await.unwrap().unwrap();
                assert_eq!(head, there[..there.len().min(2)], "{objects:?}");
            }
        }
    }

    #[test]
    fn names_of_people_are_one_bounded_part_each() {
        let long = "N".repeat(128);
        let other = format!("{}M", &long[1..]);
        let names =
            ["a", "A", "a/b", "a.b", ".", "..", "...", "a@1:2+x", "!41", "a!2fb", &long, &other];
        let mut parts: Vec<_> = names.iter().map(|name| part(name)).collect();
        for part in &parts {
            assert!(part.len() <= PART && !part.starts_with('.') && !part.contains('/'), "{part}");
            assert_eq!(Path::parse(part).unwrap().as_ref(), part);
            assert_eq!(Path::from(part.as_str()).as_ref(), part, "nothing is escaped once more");
            assert_eq!(*part, part.to_lowercase());
        }
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(parts.len(), names.len());
        assert_eq!(part("resize@1.2.0"), "resize!401.2.0");
    }

    #[test]
    fn a_full_bucket_is_known_by_what_its_server_says() {
        const SAID: &str = "Error performing PUT http://h/b/x in 2s, after 5 retries - Server returned non-2xx status code: ";
        let said =
            |source: String| object_store::Error::Generic { store: "S3", source: source.into() };
        for (answer, shown) in [
            (
                "507 Insufficient Storage: <Error><Code>XMinioStorageFull</Code><Message>No room.</Message></Error>",
                Some("it answers `507 Insufficient Storage: No room: XMinioStorageFull`"),
            ),
            (
                "403 Forbidden: <Error><Code>QuotaExceeded</Code></Error>",
                Some("it answers `403 Forbidden: QuotaExceeded`"),
            ),
            (
                "403 Forbidden: <Error><Code>AccessDenied</Code><Message>Bucket size quota is reached, maximum size for this bucket: 9</Message></Error>",
                Some("maximum size for this bucket: 9: AccessDenied`"),
            ),
            ("507 Insufficient Storage: ", Some("it answers `507 Insufficient Storage`")),
            ("403 Forbidden: <Error><Code>AccessDenied</Code></Error>", None),
            ("503 Service Unavailable: <Error><Code>SlowDown</Code></Error>", None),
        ] {
            let error = error("s3://b", Failed::Said(said(format!("{SAID}{answer}"))), "append");
            match shown {
                Some(shown) => {
                    assert_eq!(error.kind(), crate::ErrorKind::Full, "{answer}");
                    let text = error.to_string();
                    assert!(text.starts_with("s3://b is full: it answers"), "{text}");
                    assert!(text.contains(shown) && text.contains("free some space"), "{text}");
                }
                None => assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{answer}"),
            }
        }
    }

    /// S3 answers 409 also to what replaces, where others write the same name; Azure where nothing may replace it.
    #[cfg(feature = "cloud")]
    #[tokio::test]
    async fn what_was_not_replaced_is_not_said_to_be() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let _ = client.read(&mut [0; 16 << 10]);
                let answer =
                    "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = client.write_all(answer.as_bytes());
            }
        });
        for url in [
            format!("s3://b?access_key_id=k&secret_access_key=s&region=r&endpoint={endpoint}"),
            format!("az://b?account_name=a&access_key=aaaa&endpoint={endpoint}"),
        ] {
            let objects = Objects::new(crate::object::open(&url, &Options::default()).unwrap());
            let error =
                objects.replace("beat", Bytes::from_static(b"1"), "live").await.unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{url}: {error}");
        }
    }

    #[test]
    fn a_full_disk_is_known_behind_other_errors() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let said = object_store::Error::Generic { store: "local", source: Box::new(full) };
        let error = error("file:/x", Failed::Said(said), "keep results");
        assert_eq!(error.kind(), crate::ErrorKind::Full);
        assert!(error.to_string().starts_with("file:/x is full"), "{error}");
    }
}
