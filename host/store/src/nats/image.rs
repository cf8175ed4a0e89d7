//! Images of everything, so that who starts need not apply the log from its beginning, and the log need not be kept.
//!
//! Whoever's message makes the log long enough takes one: everybody counts alike, so nobody has to be chosen, and should
//! that process die, the next one comes after as much log again. An image is an object; the entry `images` of the bucket
//! names the newest two. Only then, and only what the older one has, goes from the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connect::Connection;
use super::engine::Shared;
use super::entry::{Entry, Image};
use super::fault::{self, Fault, Result};
use super::follow;
use super::state::{Place, State};
use super::values::Values;
use crate::failpoint;
use crate::log::wire::{In, Out};

/// Images that are kept.
const KEPT: usize = 2;

/// Begins to take an image, unless this process is taking one.
pub(super) fn begin(shared: &Arc<Shared>, connection: &Connection) {
    if shared.imaging.swap(true, Ordering::AcqRel) {
        return;
    }
    let (shared, connection) = (Arc::clone(shared), connection.clone());
    tokio::spawn(async move {
        // One that fails is taken again after as much log again; until then the log is only longer.
        if let Ok(Some(image)) = take(&shared, &connection).await {
            let _ = shared.ask(Entry::Took(image), None).await;
        }
        shared.imaging.store(false, Ordering::Release);
    });
}

/// Takes an image; `None` when somebody else has taken a newer one.
async fn take(shared: &Shared, connection: &Connection) -> Result<Option<Image>> {
    let snapshot = shared.state()?.image();
    let (seq, weight) = (snapshot.applied.seq, snapshot.weight);
    let written = tokio::task::spawn_blocking(move || snapshot.write()).await;
    let bytes = written.map_err(Fault::unknown)?;
    let image = Image { seq, weight, size: bytes.len() as u64 };
    connection.values.put_object(&image.name(), &bytes).await?;
    failpoint::hit("nats.image.after_put");
    let (kept, gone) = match name(connection, image.clone()).await? {
        Named::Now { kept, gone } => (kept, gone),
        Named::Before => return Ok(None),
        Named::Never => {
            connection.values.remove_object(&image.name()).await?;
            return Ok(None);
        }
    };
    failpoint::hit("nats.image.after_name");
    if kept.len() == KEPT
        && let Some(oldest) = kept.last()
    {
        // Its last message stays: by that it is known whether the image is of this log.
        let purge = connection.log.purge().sequence(oldest.seq).await;
        purge.map_err(|error| fault::of(&error))?;
    }
    for image in gone {
        connection.values.remove_object(&image.name()).await?;
    }
    Ok(Some(image))
}

/// What became of an image that was to be known.
enum Named {
    /// It is, and these are; those are no more.
    Now { kept: Vec<Image>, gone: Vec<Image> },
    /// Somebody has taken one of the same place, which is the same image.
    Before,
    /// A newer one is known.
    Never,
}

/// Makes an image known.
async fn name(connection: &Connection, image: Image) -> Result<Named> {
    loop {
        let (mut images, revision) = known(&connection.values).await?;
        if images.iter().any(|known| known.seq == image.seq) {
            return Ok(Named::Before);
        }
        if images.iter().any(|known| known.seq > image.seq) {
            return Ok(Named::Never);
        }
        images.insert(0, image.clone());
        let gone = images.split_off(images.len().min(KEPT));
        if connection.values.set_images(write(&images), revision).await? {
            return Ok(Named::Now { kept: images, gone });
        }
    }
}

/// The images there are, the newest first, and how often that was changed.
pub(super) async fn known(values: &Values) -> Result<(Vec<Image>, u64)> {
    let Some((bytes, revision)) = values.images().await? else {
        return Ok((Vec::new(), 0));
    };
    let mut input = In::new(&bytes);
    let images = input.list(Image::read);
    let images = images
        .map_err(|error| Fault::Corrupt(format!("the list of images cannot be read: {error}")))?;
    Ok((images, revision))
}

fn write(images: &[Image]) -> Vec<u8> {
    let mut out = Out::default();
    out.count(images.len());
    images.iter().for_each(|image| image.write(&mut out));
    out.into_bytes()
}

/// The newest state there is an image of; the log goes from `first` to `last`.
pub(super) async fn load(connection: &Connection, first: u64, last: u64) -> Result<State> {
    let (images, _) = known(&connection.values).await?;
    let (mut damage, mut silence) = (None, None);
    for image in &images {
        // One that is ahead of the log has what its server lost: nobody else knows of that any more.
        if image.seq > last || image.seq + 1 < first {
            continue;
        }
        match read(connection, image, first).await {
            Ok(state) => return Ok(state),
            Err(Fault::Corrupt(reason)) => damage = Some(reason),
            // The older one may be there all the same.
            Err(Fault::Unknown(reason)) => silence = Some(Fault::Unknown(reason)),
            Err(fault) => return Err(fault),
        }
    }
    if let Some(fault) = silence {
        return Err(fault);
    }
    if first <= 1 {
        return Ok(State::default());
    }
    // Somebody may have taken newer images in between.
    let (again, _) = known(&connection.values).await?;
    if again != images {
        return Err(Fault::unknown("the images were replaced while they were read"));
    }
    let damage = damage.unwrap_or_else(|| "no image fits the log".to_owned());
    Err(Fault::Corrupt(format!("the log begins at message {first}, and {damage}")))
}

/// The state of an image of this log, which begins at message `first`.
async fn read(connection: &Connection, image: &Image, first: u64) -> Result<State> {
    let name = image.name();
    let bytes = connection.values.object(&name).await?;
    let bytes = bytes.ok_or_else(|| Fault::Corrupt(format!("the object `{name}` is gone")))?;
    let state = State::restore(&bytes).map_err(|error| Fault::Corrupt(error.to_string()))?;
    let Place { seq, stamp } = state.applied;
    // A log may grow again to where one was that its server lost, and the image of that one may have been kept.
    if seq >= first && stamp != 0 && follow::stamp_of(connection, seq).await? != stamp {
        return Err(Fault::Corrupt(format!("the object `{name}` is of another log")));
    }
    Ok(state)
}
