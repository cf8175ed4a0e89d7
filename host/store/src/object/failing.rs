//! Objects in memory whose requests can be made to fail, for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

use super::Root;
use super::objects::Objects;

#[derive(Debug, Default)]
pub(super) struct Failing {
    inner: InMemory,
    /// How many more reads fail.
    pub gets: AtomicUsize,
    /// How many more writes fail.
    pub puts: AtomicUsize,
    /// Whether lists are never answered.
    pub hangs: AtomicBool,
    /// The name whose write is done and not answered.
    held: watch::Sender<Option<String>>,
    /// By how many seconds what is in an inbox shows as older than it is.
    pub aged: AtomicU64,
}

impl Failing {
    /// A place like that, and what is in it.
    pub fn place() -> (Arc<Self>, Objects) {
        let place = Arc::<Self>::default();
        let root = Root::of(Arc::clone(&place) as Arc<dyn ObjectStore>, Path::default(), "failing");
        (place, Objects::new(root))
    }

    /// Does not answer a write of that name until [`Self::let_go`].
    pub fn hold(&self, name: &str) {
        self.held.send_replace(Some(name.to_owned()));
    }

    pub fn let_go(&self) {
        self.held.send_replace(None);
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing")
    }
}

fn pass(failures: &AtomicUsize) -> Result<()> {
    let one_less = |left: usize| left.checked_sub(1);
    match failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
        Ok(_) => Err(Error::Generic { store: "failing", source: "it is told to".into() }),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        pass(&self.puts)?;
        let done = self.inner.put_opts(at, what, how).await;
        let mut held = self.held.subscribe();
        let _ = held.wait_for(|held| held.as_deref() != Some(at.as_ref())).await; // it is there as long as we are
        done
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        pass(&self.gets)?;
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(which)
    }

    fn list(&self, folder: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.hangs.load(Ordering::Relaxed) {
            return stream::pending().boxed();
        }
        let aged = Duration::from_secs(self.aged.load(Ordering::Relaxed));
        let age = move |mut object: ObjectMeta| {
            if object.location.as_ref().contains("/inbox/") {
                object.last_modified -= aged;
            }
            object
        };
        self.inner.list(folder).map_ok(age).boxed()
    }

    async fn list_with_delimiter(&self, folder: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(folder).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
