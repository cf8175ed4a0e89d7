//! Objects in memory whose requests can be made to fail, for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

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
}

impl Failing {
    /// A place like that, and what is in it.
    pub fn place() -> (Arc<Self>, Objects) {
        let place = Arc::<Self>::default();
        let root = Root::of(Arc::clone(&place) as Arc<dyn ObjectStore>, Path::default(), "failing");
        (place, Objects::new(root))
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
        self.inner.put_opts(at, what, how).await
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
        self.inner.list(folder)
    }

    async fn list_with_delimiter(&self, folder: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(folder).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
