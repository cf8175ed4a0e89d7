use std::sync::Arc;

use super::*;
use crate::log::wire::Out;

fn bytes(image: &crate::core::Image) -> Vec<u8> {
    let mut out = Out::default();
    image.write(&mut out);
    out.into_bytes()
}

#[test]
fn an_image_shows_what_was_whatever_comes_after() {
    let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let mut kit = Kit::of(names.iter().map(|name| task(name)).collect());
    let session = kit.session();
    let lease = kit.claim(&session, 1).remove(0);
    let (image, same) = (kit.core.image(), kit.core.image());
    assert_eq!(image.tasks(), 1000);
    let before = bytes(&same);
    kit.finish(&lease, succeeded());
    kit.claim(&session, 500);
    kit.enqueue(vec![task("more")]);
    assert_eq!(bytes(&image), before);
    assert_ne!(bytes(&kit.core.image()), before);
}

#[test]
fn taking_an_image_copies_no_task() {
    let kit = Kit::of(vec![task("t")]);
    let (_, slot) = kit.core.slots.iter().next().expect("there is one");
    let owners = Arc::strong_count(&slot.task);
    let image = kit.core.image();
    assert_eq!(Arc::strong_count(&slot.task), owners);
    drop(image);
}
