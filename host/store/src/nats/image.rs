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
use super::state::State;
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
            let _ = shared.ask(Entry::Took(image)).await;
        }
        shared.imaging.store(false, Ordering::Release);
    });
}

/// Takes an image; `None` when somebody else has taken a newer one.
async fn take(shared: &Shared, connection: &Connection) -> Result<Option<Image>> {
    let snapshot = shared.state()?.image();
    let (seq, weight) = (snapshot.applied, snapshot.weight);
    let written = tokio::task::spawn_blocking(move || snapshot.write()).await;
    let bytes = written.map_err(Fault::unknown)?;
    let image = Image { seq, weight, size: bytes.len() as u64 };
    connection.values.put_object(&image.name(), &bytes).await?;
    failpoint::hit("nats.image.after_put");
    let Some((kept, gone)) = name(connection, image.clone()).await? else {
        connection.values.remove_object(&image.name()).await?;
        return Ok(None);
    };
    failpoint::hit("nats.image.after_name");
    if kept.len() == KEPT
        && let Some(oldest) = kept.last()
    {
        let purge = connection.log.purge().sequence(oldest.seq + 1).await;
        purge.map_err(|error| fault::of(&error))?;
    }
    for image in gone {
        connection.values.remove_object(&image.name()).await?;
    }
    Ok(Some(image))
}

/// Makes an image known; returns those that are, and those that are no more. `None`: a newer one is known.
async fn name(connection: &Connection, image: Image) -> Result<Option<(Vec<Image>, Vec<Image>)>> {
    loop {
        let (mut images, revision) = known(&connection.values).await?;
        if images.iter().any(|known| known.seq >= image.seq) {
            return Ok(None);
        }
        images.insert(0, image.clone());
        let gone = images.split_off(images.len().min(KEPT));
        if connection.values.set_images(write(&images), revision).await? {
            return Ok(Some((images, gone)));
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

/// The newest state there is an image of, and the last message it has; the log goes from `first` to `last`.
pub(super) async fn load(connection: &Connection, first: u64, last: u64) -> Result<(State, u64)> {
    let (images, _) = known(&connection.values).await?;
    let mut damage = None;
    for image in &images {
        // One that is ahead of the log has what its server lost: nobody else knows of that any more.
        if image.seq > last || image.seq + 1 < first {
            continue;
        }
        match connection.values.object(&image.name()).await {
            Ok(Some(bytes)) => match State::restore(&bytes) {
                Ok(state) => return Ok((state, image.seq)),
                Err(error) => damage = Some(error.to_string()),
            },
            Ok(None) => damage = Some(format!("the object `{}` is gone", image.name())),
            Err(Fault::Unknown(reason)) => return Err(Fault::Unknown(reason)),
            Err(fault) => return Err(fault),
        }
    }
    if first <= 1 {
        return Ok(follow::empty());
    }
    // Somebody may have taken newer images in between.
    let (again, _) = known(&connection.values).await?;
    if again != images {
        return Err(Fault::unknown("the images were replaced while they were read"));
    }
    let damage = damage.unwrap_or_else(|| "no image fits the log".to_owned());
    Err(Fault::Corrupt(format!("the log begins at message {first}, and {damage}")))
}
