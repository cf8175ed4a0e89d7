//! A queue on a server while everything fails at once: workers and producers are killed, so is the server, it stands still,
//! and connections to it are cut, slow, dead or refused. Nothing that was acknowledged is lost, nothing is committed twice.

use omniq_services::{Proxy, Server};

use crate::support::backend::Backend;
use crate::support::place::Place;
use crate::support::soak::{self, Size};
use crate::support::trouble::Trouble;

/// Seconds of it for each backend.
const SPAN: u64 = 20;

#[track_caller]
fn storm(backend: Backend) {
    let kind = backend.kind().expect("it has a server");
    let server = Server::start(kind, &[]);
    let proxy = Proxy::to(server.address());
    let place = soak::unwell(Place::on_server(backend, &server).through(&server, &proxy));
    let trouble = Trouble::new(&server, &proxy, &place);
    let size = if backend.has_owner() { Size::SLOW } else { Size::FULL };
    soak::run(&place, size, soak::span(SPAN), Some(trouble));
}

#[test]
fn postgres() {
    storm(Backend::Postgres);
}

#[test]
fn nats() {
    storm(Backend::Nats);
}

#[test]
fn s3() {
    storm(Backend::S3);
}

#[test]
fn redis() {
    storm(Backend::Redis);
}

#[test]
fn valkey() {
    storm(Backend::Valkey);
}
