//! Many processes on one file, one of them killed every fifth of a second: nothing is lost, nothing is done twice, every
//! task comes to its end and the log knows of it.

use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::place::Place;
use crate::support::soak::{self, Size};

#[test]
fn workers_and_producers_are_killed_at_random() {
    let place = soak::unwell(Place::new());
    soak::run(&place, Size::FULL, soak::span(60), None);
}

/// In a folder one of them has the tasks, and another takes them over each time that one is killed.
#[test]
fn owners_of_a_folder_are_killed_at_random() {
    let place = soak::unwell(Place::on(Backend::File));
    let size = Size { rhythm: Duration::from_millis(400), lines: 100, ..Size::FULL };
    soak::run(&place, size, soak::span(10), None);
}
