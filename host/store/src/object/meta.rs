//! What a task store says about itself: which versions may work with it, and which store it is.

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

fn fresh() -> Result<Vec<u8>> {
    let incarnation: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = Out::default();
    out.text("omniq tasks");
    out.number(SCHEMA.into());
    out.number(SCHEMA.into());
    out.text(&incarnation);
    Ok(out.into_bytes())
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
