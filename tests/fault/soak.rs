//! Many processes on one file, one of them killed every fifth of a second: nothing is lost, nothing is done twice, every
//! task comes to its end and the log knows of it.

use crate::support::place::Place;
use crate::support::soak::{self, Size};

#[test]
fn workers_and_producers_are_killed_at_random() {
    let place = soak::unwell(Place::new());
    soak::run(&place, Size { workers: 4, producers: 2 }, soak::span(60), None);
}
