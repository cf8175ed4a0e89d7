//! What a task store says about itself: which versions may work with it, and which store it is.
//!
//! It is an object of its own, made once. Only [`renew`] replaces it, with the same but another incarnation, in one write,
//! so that whoever reads it finds the one or the other whole. It belongs to no entry of the log, for no version that reads
//! the log has to know: whoever says that the store was restored writes it, owner or not, once the owner has answered. A
//! process that dies in between has told nobody that it is done, and to do both again is safe; so a new incarnation always
//! means that every older lease is void. Of two who do it at once the last one's stands.

use bytes::Bytes;

use super::Root;
use super::objects::{Objects, random};
use crate::log::wire::{In, Out, Read};
use crate::{Error, Layout, Result};

/// The layout this version writes, and the oldest it works with.
const SCHEMA: u32 = 1;
const OLDEST: u32 = 1;
pub(super) const NAME: &str = "tasks/meta";

/// The layout of the store there, which is made if there is none.
///
/// # Errors
/// [`Schema`](crate::ErrorKind::Schema) when this version cannot work with it.
pub(super) async fn obtain(root: &Root) -> Result<Layout> {
    const ACTION: &str = "read what the store is";
    let objects = Objects::new(root.clone());
    let bytes = match objects.get(NAME, ACTION).await? {
        Some(bytes) => bytes,
        None => {
            let fresh = fresh()?;
            // Of two who make it, one is faster, and both go on with that one's.
            objects.create(NAME, Bytes::from(fresh.clone()), ACTION).await?;
            objects.get(NAME, ACTION).await?.unwrap_or_else(|| Bytes::from(fresh))
        }
    };
    let place = format!("{}/{NAME}", root.shown);
    let layout = read(&bytes)
        .map_err(|error| Error::Corrupt { place: place.clone(), reason: error.reason })?;
    if layout.min_writer > SCHEMA || layout.schema < OLDEST {
        return Err(Error::Schema {
            place,
            found: layout.schema,
            oldest: OLDEST,
            newest: SCHEMA,
            next: "install the omniq that wrote it, or a newer one",
        });
    }
    Ok(layout)
}

/// Gives the store there another incarnation.
pub(super) async fn renew(root: &Root) -> Result<String> {
    const ACTION: &str = "give the store another incarnation";
    let Layout { schema, min_writer, incarnation: old, .. } = obtain(root).await?;
    let objects = Objects::new(root.clone());
    let there = objects.get(NAME, ACTION).await?.unwrap_or_default();
    let new = incarnation()?;
    let mut bytes = written(schema, min_writer, &new);
    // What a later version says there beyond that stays.
    bytes.extend_from_slice(
        there.strip_prefix(&written(schema, min_writer, &old)[..]).unwrap_or_default(),
    );
    objects.replace(NAME, Bytes::from(bytes), ACTION).await?;
    Ok(new)
}

fn incarnation() -> Result<String> {
    Ok(random()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fresh() -> Result<Vec<u8>> {
    Ok(written(SCHEMA, SCHEMA, &incarnation()?))
}

fn written(schema: u32, min_writer: u32, incarnation: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.text("omniq tasks");
    out.number(schema.into());
    out.number(min_writer.into());
    out.text(incarnation);
    out.into_bytes()
}

fn read(bytes: &[u8]) -> Read<Layout> {
    let mut input = In::new(bytes);
    if input.text()? != "omniq tasks" {
        return Err(crate::log::wire::bad("it is something else"));
    }
    let number = |input: &mut In<'_>| Ok(u32::try_from(input.number()?).unwrap_or(u32::MAX));
    let (schema, min_writer) = (number(&mut input)?, number(&mut input)?);
    let incarnation = input.text()?.to_owned(); // later versions may say more
    Ok(Layout { schema, min_writer, oldest: OLDEST, newest: SCHEMA, incarnation })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn another_incarnation_leaves_the_rest_as_it_is() {
        let root = Root::of(Arc::new(InMemory::new()), "b".into(), "memory");
        let first = obtain(&root).await.unwrap();
        let objects = Objects::new(root.clone());
        let mut more = objects.get(NAME, "test").await.unwrap().unwrap().to_vec();
        more.extend_from_slice(b"more");
        objects.replace(NAME, more.into(), "test").await.unwrap();
        for _ in 0..2 {
            let before = obtain(&root).await.unwrap().incarnation;
            let incarnation = renew(&root).await.unwrap();
            assert_ne!(incarnation, before);
            assert_eq!(obtain(&root).await.unwrap(), Layout { incarnation, ..first.clone() });
        }
        let bytes = objects.get(NAME, "test").await.unwrap().unwrap();
        assert!(bytes.ends_with(b"more"));
    }

    #[tokio::test]
    async fn a_store_stays_the_same_and_one_of_a_newer_version_is_left_alone() {
        let root = Root::of(Arc::new(InMemory::new()), "a".into(), "memory");
        let first = obtain(&root).await.unwrap();
        assert_eq!(obtain(&root).await.unwrap(), first);
        let mut newer = Out::default();
        newer.text("omniq tasks");
        newer.number(9);
        newer.number(9);
        newer.text("x");
        let objects = Objects::new(root.clone());
        objects.delete(NAME, "test").await.unwrap();
        objects.create(NAME, newer.into_bytes().into(), "test").await.unwrap();
        assert_eq!(obtain(&root).await.unwrap_err().kind(), crate::ErrorKind::Schema);
    }
}
