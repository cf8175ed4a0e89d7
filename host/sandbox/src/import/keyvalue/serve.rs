//! Both drafts of `wasi:keyvalue`, served from the buckets of the grants.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTableError};

use self::draft2::wasi::keyvalue::atomics::CasError;
use super::{Bucket, BucketError};
use crate::import::State;
use crate::inspect::Capability;

mod draft {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Open },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Refusal },
    });
}

mod draft2 {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft2",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Open,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Refusal },
    });
}

/// Keys in one answer to `list-keys`.
const PAGE: usize = 1000;
/// Bytes in one answer to `get-many`: the host must not build what the guest has no room for.
const BATCH: usize = 16 << 20;
/// Numbers one handle may hand out for places in the list of keys.
const CURSORS: usize = 1000;

/// Bytes of keys and values that all handles of one guest may hold together.
const KEPT: usize = 16 << 20;

/// What the handles of one guest hold: a handle is small, and ten thousand of them may be had.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: usize,
}

impl Kept {
    fn add(&mut self, bytes: usize) -> Result<(), BucketError> {
        let sum = self.bytes.saturating_add(bytes);
        if sum > KEPT {
            return Err(BucketError(format!(
                "open handles would hold {sum} bytes of keys and values; the limit is {KEPT}: drop some first"
            )));
        }
        self.bytes = sum;
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A bucket that a guest has open.
#[derive(Debug)]
pub struct Open {
    bucket: Arc<dyn Bucket>,
    /// The first draft counts places in the list of keys; here stands the key before each place.
    cursors: Vec<String>,
}

/// A value that a guest means to replace.
#[derive(Debug)]
pub struct Cas {
    bucket: Arc<dyn Bucket>,
    key: String,
    expected: Option<Vec<u8>>,
}

impl Cas {
    fn size(&self) -> usize {
        self.key.len() + self.expected.as_ref().map_or(0, Vec::len)
    }
}

/// Why a function gives the guest an error, or ends it.
#[derive(Debug)]
pub enum Refusal {
    NotGranted,
    Other(String),
    Trap(wasmtime::Error),
}

impl From<BucketError> for Refusal {
    fn from(error: BucketError) -> Self {
        Self::Other(error.0)
    }
}

impl From<ResourceTableError> for Refusal {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type Answer<T> = Result<T, Refusal>;
type Handle = Resource<Open>;

impl State {
    fn open_bucket(&mut self, name: &str) -> Answer<Handle> {
        let Some(bucket) = self.grants.keyvalue.as_ref().and_then(|buckets| buckets.get(name))
        else {
            self.denials().note(Capability::KeyValue.name(), name);
            return Err(Refusal::NotGranted);
        };
        let open = Open { bucket: Arc::clone(bucket), cursors: Vec::new() };
        Ok(self.table.push(open)?)
    }

    fn bucket(&self, handle: &Handle) -> Answer<Arc<dyn Bucket>> {
        Ok(Arc::clone(&self.table.get(handle)?.bucket))
    }

    fn hold(&mut self, cas: Cas) -> Answer<Resource<Cas>> {
        self.keyvalue.add(cas.size())?;
        Ok(self.table.push(cas)?)
    }

    fn let_go(&mut self, cas: Resource<Cas>) -> Result<Cas, ResourceTableError> {
        let cas = self.table.delete(cas)?;
        self.keyvalue.release(cas.size());
        Ok(cas)
    }
}

/// A place in the list of keys, as a draft writes it.
trait Cursor: Sized {
    /// The key before that place.
    fn key(self, open: &Open) -> Answer<String>;

    /// The place behind that key.
    fn behind(key: &str, open: &mut Open, kept: &mut Kept) -> Answer<Self>;
}

impl Cursor for u64 {
    fn key(self, open: &Open) -> Answer<String> {
        let key = usize::try_from(self).ok().and_then(|place| open.cursors.get(place));
        key.cloned().ok_or_else(|| Refusal::Other(format!("`{self}` is no cursor of this bucket")))
    }

    fn behind(key: &str, open: &mut Open, kept: &mut Kept) -> Answer<Self> {
        let place =
            open.cursors.iter().position(|known| known == key).unwrap_or(open.cursors.len());
        if place == CURSORS {
            return Err(Refusal::Other(
                "the keys changed too often while they were listed; open the bucket anew"
                    .to_owned(),
            ));
        }
        if place == open.cursors.len() {
            kept.add(key.len())?;
            open.cursors.push(key.to_owned());
        }
        Ok(place as u64)
    }
}

impl Cursor for String {
    fn key(self, _: &Open) -> Answer<String> {
        Ok(self)
    }

    fn behind(key: &str, _: &mut Open, _: &mut Kept) -> Answer<Self> {
        Ok(key.to_owned())
    }
}

/// What the drafts have in common.
macro_rules! serve_draft {
    ($draft:ident, cursor: $cursor:ty) => {
        impl $draft::wasi::keyvalue::store::Host for State {
            async fn open(&mut self, name: String) -> Answer<Handle> {
                self.open_bucket(&name)
            }

            fn convert_error(
                &mut self,
                refusal: Refusal,
            ) -> wasmtime::Result<$draft::wasi::keyvalue::store::Error> {
                use $draft::wasi::keyvalue::store::Error;
                match refusal {
                    Refusal::NotGranted => Ok(Error::AccessDenied),
                    Refusal::Other(message) => Ok(Error::Other(message)),
                    Refusal::Trap(error) => Err(error),
                }
            }
        }

        impl $draft::wasi::keyvalue::batch::Host for State {
            async fn get_many(
                &mut self,
                handle: Handle,
                keys: Vec<String>,
            ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
                let bucket = self.bucket(&handle)?;
                let mut found = Vec::new();
                let mut room = BATCH;
                for key in keys {
                    let value = bucket.get(&key).await?;
                    let size = key.len() + value.as_ref().map_or(0, Vec::len);
                    room = room.checked_sub(size).ok_or_else(|| {
                        Refusal::Other(format!(
                            "the values have more than {BATCH} bytes; ask for fewer at once"
                        ))
                    })?;
                    found.push(value.map(|value| (key, value)));
                }
                Ok(found)
            }

            async fn set_many(
                &mut self,
                handle: Handle,
                pairs: Vec<(String, Vec<u8>)>,
            ) -> Answer<()> {
                let bucket = self.bucket(&handle)?;
                for (key, value) in pairs {
                    bucket.set(&key, value).await?;
                }
                Ok(())
            }

            async fn delete_many(&mut self, handle: Handle, keys: Vec<String>) -> Answer<()> {
                let bucket = self.bucket(&handle)?;
                for key in keys {
                    bucket.delete(&key).await?;
                }
                Ok(())
            }
        }

        impl $draft::wasi::keyvalue::store::HostBucket for State {
            async fn get(&mut self, handle: Handle, key: String) -> Answer<Option<Vec<u8>>> {
                Ok(self.bucket(&handle)?.get(&key).await?)
            }

            async fn set(&mut self, handle: Handle, key: String, value: Vec<u8>) -> Answer<()> {
                Ok(self.bucket(&handle)?.set(&key, value).await?)
            }

            async fn delete(&mut self, handle: Handle, key: String) -> Answer<()> {
                Ok(self.bucket(&handle)?.delete(&key).await?)
            }

            async fn exists(&mut self, handle: Handle, key: String) -> Answer<bool> {
                Ok(self.bucket(&handle)?.exists(&key).await?)
            }

            async fn list_keys(
                &mut self,
                handle: Handle,
                cursor: Option<$cursor>,
            ) -> Answer<$draft::wasi::keyvalue::store::KeyResponse> {
                let open = self.table.get(&handle)?;
                let bucket = Arc::clone(&open.bucket);
                let after = cursor.map(|cursor| cursor.key(open)).transpose()?;
                let keys = bucket.keys(after.as_deref(), PAGE).await?;
                let open = self.table.get_mut(&handle)?;
                let last = keys.last().filter(|_| keys.len() == PAGE);
                let cursor =
                    last.map(|last| Cursor::behind(last, open, &mut self.keyvalue)).transpose()?;
                Ok($draft::wasi::keyvalue::store::KeyResponse { keys, cursor })
            }

            async fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
                let open = self.table.delete(handle)?;
                self.keyvalue.release(open.cursors.iter().map(String::len).sum());
                Ok(())
            }
        }
    };
}

serve_draft!(draft, cursor: u64);
serve_draft!(draft2, cursor: String);

impl draft::wasi::keyvalue::atomics::Host for State {
    async fn increment(&mut self, handle: Handle, key: String, delta: u64) -> Answer<u64> {
        let delta = i64::try_from(delta)
            .map_err(|_| Refusal::Other(format!("{delta} does not fit in 63 bits")))?;
        let sum = self.bucket(&handle)?.increment(&key, delta).await?;
        u64::try_from(sum).map_err(|_| {
            Refusal::Other(format!("the sum is {sum}, which this function cannot return"))
        })
    }
}

impl draft2::wasi::keyvalue::atomics::Host for State {
    async fn increment(&mut self, handle: Handle, key: String, delta: i64) -> Answer<i64> {
        Ok(self.bucket(&handle)?.increment(&key, delta).await?)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        use draft2::wasi::keyvalue::store::Host;
        let Cas { bucket, key, expected } = self.let_go(cas)?;
        let now = match bucket.swap(&key, expected.as_deref(), value).await {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => bucket.get(&key).await,
            Err(error) => Err(error),
        };
        let next = match now {
            Ok(expected) => self.hold(Cas { bucket, key, expected }),
            Err(error) => Err(error.into()),
        };
        Ok(Err(match next {
            Ok(cas) => CasError::CasFailed(cas),
            Err(refusal) => CasError::StoreError(self.convert_error(refusal)?),
        }))
    }
}

impl draft2::wasi::keyvalue::atomics::HostCas for State {
    async fn new(&mut self, handle: Handle, key: String) -> Answer<Resource<Cas>> {
        let bucket = self.bucket(&handle)?;
        let expected = bucket.get(&key).await?;
        self.hold(Cas { bucket, key, expected })
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        Ok(self.table.get(&cas)?.expected.clone())
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.let_go(cas)?;
        Ok(())
    }
}

struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = &'a mut State;
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    macro_rules! serve {
        ($($name:literal => $draft:ident::$interface:ident)+) => {$(
            $draft::wasi::keyvalue::$interface::add_to_linker::<State, KeyValue>(linker, |state| {
                state.seam.enter($name);
                state
            })?;
        )+};
    }
    serve! {
        "wasi:keyvalue/store" => draft::store
        "wasi:keyvalue/atomics" => draft::atomics
        "wasi:keyvalue/batch" => draft::batch
        "wasi:keyvalue/store" => draft2::store
        "wasi:keyvalue/atomics" => draft2::atomics
        "wasi:keyvalue/batch" => draft2::batch
    }
    Ok(())
}
