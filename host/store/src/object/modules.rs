//! The module store: a record for each name and version, created once, and the bytes beside it.
//!
//! `modules/version/NAME/VERSION` is the record: whoever creates it has pushed that version, also of two processes at the
//! same time. `modules/bytes/DIGEST/PUSH` are the bytes, in a folder that says what they are; PUSH is a random name that
//! the record knows. So every version has bytes of its own, and to remove one never takes away those of another, however
//! many push and remove at the same time. Bytes are written before the record and deleted after it: a process that dies
//! in between leaves bytes that nobody points to, never a record without bytes.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use omniq_model::{Digest, Module, Name, record};
use sha2::{Digest as _, Sha256};

use super::Root;
use super::objects::{NAME, Objects, WIDTH, corrupt, part, random};
use crate::{ModuleStore, Pushed, Result, failpoint};

/// Modules as objects.
#[derive(Debug, Clone)]
pub struct ObjectModules {
    objects: Objects,
}

/// A version's record: what was pushed, as the how manyeth of its name, and under which name its bytes are.
#[derive(Debug, PartialEq)]
struct Version {
    module: Module,
    /// One more than the highest of the name when it was pushed.
    number: u64,
    bytes: [u8; 10],
}

impl ObjectModules {
    /// The modules under a root.
    pub fn new(root: Root) -> Self {
        Self { objects: Objects::new(root) }
    }

    async fn read(&self, name: String, action: &'static str) -> Result<Option<Version>> {
        let Some(bytes) = self.objects.get(&name, action).await? else { return Ok(None) };
        let version = Version::decode(&bytes);
        version.map(Some).map_err(|reason| corrupt(&self.objects.root, &name, reason))
    }

    /// All versions in a folder, the one pushed last first.
    async fn versions(&self, folder: &str, action: &'static str) -> Result<Vec<Version>> {
        let names = self.objects.list(folder, action).await?;
        let reads = names.into_iter().map(|name| self.read(name, action));
        let read: Vec<_> = stream::iter(reads).buffer_unordered(WIDTH).try_collect().await?;
        let mut versions: Vec<Version> = read.into_iter().flatten().collect();
        // Two that were pushed at the same time may have the same number.
        versions.sort_by(|a, b| {
            let order = |v: &Version| (v.number, v.module.pushed);
            order(b).cmp(&order(a)).then_with(|| b.module.version.cmp(&a.module.version))
        });
        Ok(versions)
    }

    /// Whose the version is that could not be created; where it is the same, its bytes are these from then on.
    async fn whose(&self, version: &Version, bytes: &Bytes) -> Result<Option<Pushed>> {
        let there = self.read(record_name(&version.module), ACTION).await?;
        let Some(there) = there else { return Ok(None) };
        if there.module.digest != version.module.digest {
            return Ok(Some(Pushed::Conflict(there.module.digest)));
        }
        self.mend_own(&there, bytes).await?;
        self.mend_others(&there, bytes).await?;
        // An earlier try of this very call, whose answer was lost, has the same bytes.
        let is_own = there.bytes == version.bytes;
        Ok(Some(if is_own { Pushed::Created } else { Pushed::Unchanged }))
    }

    /// Sees to it that these are the bytes of a version.
    async fn mend_own(&self, version: &Version, bytes: &Bytes) -> Result<()> {
        let own = version.bytes_name();
        if self.objects.get(&own, ACTION).await?.is_some_and(|there| there == *bytes) {
            return Ok(());
        }
        self.objects.replace(&own, bytes.clone(), ACTION).await?;
        // They were missing because the version was being removed, perhaps: then they go, too.
        let there = self.read(record_name(&version.module), ACTION).await?;
        if there.is_none_or(|there| there.bytes != version.bytes) {
            self.objects.delete(&own, ACTION).await?;
        }
        Ok(())
    }

    /// Sees to it that these are the bytes of all other versions that have the same.
    async fn mend_others(&self, version: &Version, bytes: &Bytes) -> Result<()> {
        let own = version.bytes_name();
        let names = self.objects.list(&bytes_folder(&version.module.digest), ACTION).await?;
        for name in names.into_iter().filter(|name| *name != own) {
            if self.objects.get(&name, ACTION).await?.is_some_and(|there| there != *bytes) {
                self.objects.replace(&name, bytes.clone(), ACTION).await?;
            }
        }
        Ok(())
    }
}

/// What a push is called in errors.
const ACTION: &str = "push a module";

#[async_trait]
impl ModuleStore for ObjectModules {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> Result<Pushed> {
        let bytes = Bytes::from(bytes);
        let mut version = Version { module, number: 0, bytes: random()? };
        if let Some(there) = self.whose(&version, &bytes).await? {
            return Ok(there);
        }
        let others = self.versions(&folder(&version.module.name), ACTION).await?;
        version.number = others.first().map_or(1, |newest| newest.number.saturating_add(1));
        self.objects.create(&version.bytes_name(), bytes.clone(), ACTION).await?;
        failpoint::hit("object.modules.bytes");
        let (name, record) = (record_name(&version.module), version.encode());
        loop {
            if self.objects.create(&name, record.clone().into(), ACTION).await? {
                self.mend_others(&version, &bytes).await?;
                return Ok(Pushed::Created);
            }
            if let Some(there) = self.whose(&version, &bytes).await? {
                if there != Pushed::Created {
                    self.objects.delete(&version.bytes_name(), ACTION).await?;
                }
                return Ok(there);
            }
            // Somebody removed what was in the way.
        }
    }

    async fn find(&self, name: &Name, version: Option<&Name>) -> Result<Option<Module>> {
        const ACTION: &str = "find a module";
        let found = match version {
            Some(version) => {
                let name = format!("{}/{}", folder(name), part(version.as_str()));
                self.read(name, ACTION).await?
            }
            None => self.versions(&folder(name), ACTION).await?.into_iter().next(),
        };
        Ok(found.map(|version| version.module))
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        const ACTION: &str = "read a module";
        let names = self.objects.list(&bytes_folder(digest), ACTION).await?;
        let mut damaged = None;
        for name in &names {
            // One that was removed meanwhile is as good as any other.
            let Some(bytes) = self.objects.get(name, ACTION).await? else { continue };
            // Of several one may be damaged, and another one not.
            if names.len() == 1 || is_sound(&bytes, digest).await {
                return Ok(Some(bytes.into()));
            }
            damaged = Some(bytes.into());
        }
        Ok(damaged)
    }

    async fn list(&self) -> Result<Vec<Module>> {
        let mut versions = self.versions("modules/version", "list modules").await?;
        versions.sort_by(|a, b| a.module.name.cmp(&b.module.name)); // stable: the newest stay first
        Ok(versions.into_iter().map(|version| version.module).collect())
    }

    async fn remove(&self, name: &Name, version: &Name) -> Result<bool> {
        const ACTION: &str = "remove a module";
        let record = format!("{}/{}", folder(name), part(version.as_str()));
        let Some(version) = self.read(record.clone(), ACTION).await? else { return Ok(false) };
        self.objects.delete(&record, ACTION).await?;
        failpoint::hit("object.modules.removed");
        self.objects.delete(&version.bytes_name(), ACTION).await?;
        Ok(true)
    }

    /// Does nothing: no call leaves anything behind.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Whether bytes have that digest; some megabytes, for which nobody else is to wait.
async fn is_sound(bytes: &Bytes, digest: &Digest) -> bool {
    let bytes = bytes.clone();
    let hash = tokio::task::spawn_blocking(move || Sha256::digest(bytes)).await;
    hash.is_ok_and(|hash| Digest::from_sha256(hash.into()) == *digest)
}

fn folder(name: &Name) -> String {
    format!("modules/version/{}", part(name.as_str()))
}

fn bytes_folder(digest: &Digest) -> String {
    format!("modules/bytes/{}", digest.to_hex())
}

fn record_name(module: &Module) -> String {
    format!("{}/{}", folder(&module.name), part(module.version.as_str()))
}

// A record: the version of this form, the number, the name of the bytes, then the module.
const VERSION: u8 = 1;
const HEAD: usize = 19;

impl Version {
    fn bytes_name(&self) -> String {
        let push: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}/{push}", bytes_folder(&self.module.digest))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.bytes);
        bytes.extend_from_slice(&record::encode(&self.module));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (head, module) = bytes.split_first_chunk::<HEAD>().ok_or("it is too short")?;
        if head[0] != VERSION {
            return Err("it was written by a newer version of OmniQ".to_owned());
        }
        let module = record::decode("module", module).map_err(|error| error.to_string())?;
        let number = head[1..9].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&head[9..]);
        Ok(Self { module, number, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    fn modules() -> ObjectModules {
        ObjectModules::new(Root::of(Arc::new(InMemory::new()), Path::from("a"), "memory"))
    }

    fn module(version: &str, fill: u8) -> Module {
        Module {
            name: "m".parse().unwrap(),
            version: version.parse().unwrap(),
            digest: Digest::from_sha256([fill; 32]),
            size: 1,
            functions: Vec::new(),
            command: false,
            capabilities: Vec::new(),
            pushed: Default::default(),
            unknown: Default::default(),
        }
    }

    #[test]
    fn records_come_back_whole_and_damage_is_told() {
        let version = Version { module: module("1", 7), number: u64::MAX - 1, bytes: [3; 10] };
        let bytes = version.encode();
        assert_eq!(Version::decode(&bytes), Ok(version));
        for len in 0..bytes.len() {
            assert!(Version::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(Version::decode(&[2; 64]).unwrap_err().contains("newer"));
    }

    #[tokio::test]
    async fn of_several_bytes_the_sound_ones_are_given() {
        let (modules, bytes) = (modules(), Bytes::from_static(b"whole"));
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        for (name, bytes) in [("1", "damaged"), ("2", "whole"), ("3", "damaged")] {
            let name = format!("{}/{name}", bytes_folder(&digest));
            modules.objects.create(&name, bytes.into(), ACTION).await.unwrap();
        }
        assert_eq!(modules.bytes(&digest).await.unwrap().as_deref(), Some(&bytes[..]));
    }

    #[tokio::test]
    async fn bytes_that_a_removal_took_meanwhile_are_not_left_behind() {
        let modules = modules();
        modules.push(module("1", 7), vec![7]).await.unwrap();
        let there = modules.read(record_name(&module("1", 7)), ACTION).await.unwrap().unwrap();
        modules.remove(&there.module.name, &there.module.version).await.unwrap();
        modules.mend_own(&there, &vec![7].into()).await.unwrap();
        assert_eq!(modules.bytes(&there.module.digest).await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_two_that_push_at_the_same_time_one_wins_and_nothing_of_the_other_stays() {
        for round in 0..20 {
            let (modules, version) = (modules(), format!("1.{round}"));
            let push = |fill| modules.push(module(&version, fill), vec![fill]);
            let (one, two) = tokio::join!(push(1), push(2));
            let (one, two) = (one.unwrap(), two.unwrap());
            let digest = |fill| Digest::from_sha256([fill; 32]);
            let won = match (one, two) {
                (Pushed::Created, Pushed::Conflict(there)) if there == digest(1) => 1,
                (Pushed::Conflict(there), Pushed::Created) if there == digest(2) => 2,
                both => panic!("{both:?}"),
            };
            assert_eq!(modules.bytes(&digest(won)).await.unwrap(), Some(vec![won]));
            assert_eq!(modules.bytes(&digest(3 - won)).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_version_keeps_its_bytes_when_another_with_the_same_goes() {
        let modules = modules();
        for version in ["1", "2"] {
            modules.push(module(version, 7), vec![7]).await.unwrap();
        }
        let (name, digest) = ("m".parse().unwrap(), Digest::from_sha256([7; 32]));
        let [first, second] = ["1", "2"].map(|version| version.parse().unwrap());
        let (removed, pushed) =
            tokio::join!(modules.remove(&name, &first), modules.push(module("3", 7), vec![7]));
        assert!(removed.unwrap());
        assert_eq!(pushed.unwrap(), Pushed::Created);
        modules.remove(&name, &second).await.unwrap();
        assert_eq!(modules.bytes(&digest).await.unwrap(), Some(vec![7]));
        assert_eq!(modules.list().await.unwrap().len(), 1);
    }
}
