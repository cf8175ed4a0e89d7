//! The layout of a store: numbered steps forward, and which versions of OmniQ may work with it. A step that was released
//! is never changed; there is one so far.

use super::config::Config;
use super::link::{Link, random};
use super::{reply, script};
use crate::{Error, Result};

/// What is kept in it, as its meta key says.
const KIND: &str = "tasks";
/// The oldest layout this version works with.
pub(super) const OLDEST: u32 = 1;
/// The layout this version writes.
pub(super) const NEWEST: u32 = 1;
/// The oldest writer that works with what this version writes.
const MIN_WRITER: u32 = 1;

/// Makes a new store what this version needs, or checks that this version may work with the one that is there.
pub(super) async fn migrate(link: &Link, config: &Config) -> Result<()> {
    let place = format!("`{}` in `{}`", config.name, config.place());
    let keys = [script::key(&config.name, "meta")];
    let args = [KIND.to_owned(), NEWEST.to_string(), MIN_WRITER.to_string(), incarnation()];
    let found = async {
        let answer = link.run(&script::MIGRATE, &keys, args.iter()).await?;
        let [kind, schema, min_writer] = reply::parts(answer)?;
        let number =
            |value| reply::int(&value).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Ok((reply::bytes(kind)?, number(schema)?, number(min_writer)?))
    };
    let (kind, schema, min_writer) = found.await.map_err(|fault: super::fault::Fault| {
        fault.into_error(config.place(), "read its schema")
    })?;
    if kind != KIND.as_bytes() {
        let kind = kind.escape_ascii();
        return Err(Error::Config(format!(
            "{place} holds {kind}, not {KIND}; give each its own `name`"
        )));
    }
    if min_writer > NEWEST {
        return Err(Error::Schema {
            place,
            found: schema,
            oldest: OLDEST,
            newest: NEWEST,
            next: "start an omniq at least as new as the one that wrote it",
        });
    }
    Ok(())
}

/// What tells a store from any other, and from what it was before it was restored.
pub(super) fn incarnation() -> String {
    [random(), random()].concat().iter().map(|byte| format!("{byte:02x}")).collect()
}
